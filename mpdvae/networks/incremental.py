"""Evaluating a causal network one position at a time, so that drawing an image costs one evaluation and not one per pixel.

Inside `incremental(network, height, width)` the very same forward pass runs on maps of one position (a *column*, [batch
channel 1 1]) or of one row ([batch channel 1 width]). What acts on each position alone (1x1 convolutions, activations, sums)
needs no change; a causal layer keeps what it has been given so far and answers for the present position from that. No second
copy of an architecture is needed: a new causal layer implements `column`.

Networks of one architecture can be evaluated as one, `beside` each other. What the first of them answers then has an axis of
networks in front, [network batch channel 1 1]: its causal layers work with the weights of their counterparts as well
(`together`), so that there are half as many steps for two networks.

Networks with several sizes: at level l, which is halved l times, the present position is (row >> l, column >> l), and it is
*due* when both row and column are multiples of 2^l; in between, what was computed last still holds.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mpdvae.errors import InputError


class Raster:
    """Where an incremental evaluation is, and what each layer remembers.

    Arguments:
        height, width: of the image that is being drawn.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.row, self.column = 0, 0
        self.memory: dict[Any, Any] = {}

    def visit(self) -> Iterator[None]:
        """Goes through all positions in raster order."""
        for position in range(self.height * self.width):
            self.row, self.column = divmod(position, self.width)
            yield

    def position(self, level: int = 0) -> tuple[int, int]:
        """Row and column at a level."""
        return self.row >> level, self.column >> level

    def size(self, level: int = 0) -> tuple[int, int]:
        """Height and width at a level."""
        return self.height >> level, self.width >> level

    def due(self, level: int) -> bool:
        """Whether the present position begins a new one at `level`."""
        step = 1 << level
        return self.row % step == 0 and self.column % step == 0

    @property
    def previous(self) -> tuple[int, int] | None:
        """Row and column of the position before the present one in raster order."""
        if self.column:
            return self.row, self.column - 1
        return (self.row - 1, self.width - 1) if self.row else None


class CausalLayer(nn.Module):
    """A layer that looks at other positions. While `raster` is set, its forward pass answers for the present position."""

    raster: Raster | None = None
    level: int = 0
    """How often the maps that it works on are halved."""
    beside: tuple[Self, ...] = ()
    """The layers in its place in the networks that are evaluated beside its own."""

    def together(self, value: Callable[[Self], Tensor]) -> Tensor:
        """`value` of this layer and of those beside it, [network ...]."""
        return torch.stack([value(layer) for layer in (self, *self.beside)])

    def once(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """`compute()`; in an incremental evaluation computed once and remembered."""
        if self.raster is None:
            return compute()
        key = self, name
        if key not in self.raster.memory:
            self.raster.memory[key] = compute()
        return self.raster.memory[key]

    def once_a_row(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """`compute()`; in an incremental evaluation computed at the beginning of each row and remembered."""
        if self.raster is None:
            return compute()
        if self.raster.column == 0:
            self.raster.memory[self, name] = compute()
        return self.raster.memory[self, name]

    def present_row(self, x: Tensor) -> Tensor:
        """The present row of whole maps; the maps themselves outside of an incremental evaluation."""
        if self.raster is None:
            return x
        row, _ = self.raster.position(self.level)
        return x[..., row : row + 1, :]

    def present_column(self, row: Tensor) -> Tensor:
        """The present column of a row; the maps themselves outside of an incremental evaluation."""
        if self.raster is None:
            return row
        _, column = self.raster.position(self.level)
        return row[..., column : column + 1]


def check_alike(network: nn.Module, other: nn.Module) -> None:
    """Raises `InputError` unless the two can be evaluated beside each other: the same architecture (which is what `repr`
    shows), and all parameters in causal layers."""
    if repr(network) != repr(other):
        raise InputError(f"networks evaluated as one need the same architecture, got {network} and {other}.")
    covered = {id(p) for layer in _causal_layers(network) for p in layer.parameters()}
    outside = [name for name, p in network.named_parameters() if id(p) not in covered]
    if outside:
        raise InputError(f"networks evaluated as one need all parameters in causal layers, got others: {outside}.")


@contextmanager
def incremental(network: nn.Module, height: int, width: int, *, beside: Sequence[nn.Module] = ()) -> Iterator[Raster]:
    """Inside, `network` answers for the position (`row`, `column`) of the yielded raster, and for those `beside` it, of the
    same architecture, too; visit positions in raster order."""
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
