"""Evaluation of a causal network position by position, so that drawing an image costs one evaluation, not one per pixel.

Inside `incremental(network, height, width)` the same forward pass runs on maps of one position (a *column*, [batch channel
1 1]) or of one row ([batch channel 1 width]). Operations that act on each position alone (1x1 convolutions, activations,
sums) need no change; a causal layer stores the inputs it has received so far and computes the output at the current
position from them. No second copy of an architecture is needed: a new causal layer implements `column`.

Networks of the same architecture can be evaluated as one, `beside` each other. The output of the first network then has a
leading axis of networks, [network batch channel 1 1]: its causal layers also use the weights of their counterparts
(`together`), so that two networks take half as many steps.

Networks with several sizes: at level l, which is halved l times, the current position is (row >> l, column >> l), and it is
*due* when both row and column are multiples of 2^l; in between, the last computed values remain valid.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mpdvae.errors import InputError


class Raster:
    """Current position of an incremental evaluation, and the memory of each layer.

    Arguments:
        height, width: of the image that is being drawn.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.row, self.column = 0, 0
        self.memory: dict[Any, Any] = {}

    def visit(self) -> Iterator[None]:
        """Iterates over all positions in raster order."""
        for position in range(self.height * self.width):
            self.row, self.column = divmod(position, self.width)
            yield

    def position(self, level: int = 0) -> tuple[int, int]:
        """Returns row and column at a level."""
        return self.row >> level, self.column >> level

    def size(self, level: int = 0) -> tuple[int, int]:
        """Returns height and width at a level."""
        return self.height >> level, self.width >> level

    def due(self, level: int) -> bool:
        """Returns whether the current position begins a new one at `level`."""
        step = 1 << level
        return self.row % step == 0 and self.column % step == 0

    @property
    def previous(self) -> tuple[int, int] | None:
        """Row and column of the position before the current one in raster order; None at the first position."""
        if self.column:
            return self.row, self.column - 1
        return (self.row - 1, self.width - 1) if self.row else None


class CausalLayer(nn.Module):
    """A layer that looks at other positions. While `raster` is set, `forward` computes the current position only."""

    raster: Raster | None = None
    level: int = 0
    """Number of times that the maps the layer works on are halved."""
    beside: tuple[Self, ...] = ()
    """The corresponding layers of the networks that are evaluated beside this layer's network."""

    def together(self, value: Callable[[Self], Tensor]) -> Tensor:
        """Returns `value` of this layer and of those beside it, [network ...]."""
        return torch.stack([value(layer) for layer in (self, *self.beside)])

    def once(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """Returns `compute()`; in an incremental evaluation, computes it once and caches it."""
        if self.raster is None:
            return compute()
        key = self, name
        if key not in self.raster.memory:
            self.raster.memory[key] = compute()
        return self.raster.memory[key]

    def once_a_row(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """Returns `compute()`; in an incremental evaluation, computes it at the beginning of each row and caches it."""
        if self.raster is None:
            return compute()
        if self.raster.column == 0:
            self.raster.memory[self, name] = compute()
        return self.raster.memory[self, name]

    def present_row(self, x: Tensor) -> Tensor:
        """Returns the current row of whole maps; outside an incremental evaluation, the maps themselves."""
        if self.raster is None:
            return x
        row, _ = self.raster.position(self.level)
        return x[..., row : row + 1, :]

    def present_column(self, row: Tensor) -> Tensor:
        """Returns the current column of a row; outside an incremental evaluation, the maps themselves."""
        if self.raster is None:
            return row
        _, column = self.raster.position(self.level)
        return row[..., column : column + 1]


def check_alike(network: nn.Module, other: nn.Module) -> None:
    """Raises `InputError` unless the two networks can be evaluated beside each other: they need the same architecture
    (compared by `repr`), and all parameters in causal layers."""
    if repr(network) != repr(other):
        raise InputError(f"networks evaluated as one need the same architecture, got {network} and {other}.")
    covered = {id(p) for layer in _causal_layers(network) for p in layer.parameters()}
    outside = [name for name, p in network.named_parameters() if id(p) not in covered]
    if outside:
        raise InputError(f"networks evaluated as one need all parameters in causal layers, got others: {outside}.")


@contextmanager
def incremental(network: nn.Module, height: int, width: int, *, beside: Sequence[nn.Module] = ()) -> Iterator[Raster]:
    """Makes `network` compute its output for the position (`row`, `column`) of the yielded raster only, together with the
    networks `beside` it, which have the same architecture. Visit positions in raster order."""
    raster = Raster(height, width)
    layers, *counterparts = map(_causal_layers, (network, *beside))
    for layer, *others in zip(layers, *counterparts, strict=True):
        layer.raster, layer.beside = raster, tuple(others)
    try:
        with torch.no_grad(), parametrize.cached():
            yield raster
    finally:
        for layer in layers:
            layer.raster, layer.beside = None, ()


def _causal_layers(network: nn.Module) -> list[CausalLayer]:
    return [layer for layer in network.modules() if isinstance(layer, CausalLayer)]
