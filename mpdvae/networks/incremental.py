"""Evaluating a causal network one position at a time, so that drawing an image costs one evaluation and not one per pixel.

Inside `incremental(network, height, width)` the very same forward pass runs on maps of one position. What acts on each
position alone (1x1 convolutions, activations, sums) needs no change; a causal layer keeps what it has been given so far
and answers for the present position from that. No second copy of an architecture is needed: a new causal layer
implements `column`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Raster:
    """Where an incremental evaluation is, and what each causal layer remembers.

    Arguments:
        height, width: of the image that is being drawn.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.row, self.column = 0, 0
        self.memory: dict[nn.Module, tuple[Tensor, ...]] = {}

    @property
    def previous(self) -> tuple[int, int] | None:
        """Row and column of the position before the present one in raster order."""
        if self.column:
            return self.row, self.column - 1
        return (self.row - 1, self.width - 1) if self.row else None


class CausalLayer(nn.Module):
    """A layer that looks at other positions. While `raster` is set, its forward pass is to return the present column."""

    raster: Raster | None = None


@contextmanager
def incremental(network: nn.Module, height: int, width: int) -> Iterator[Raster]:
    """Inside, `network` answers for the position (`row`, `column`) of the yielded raster; visit positions in raster order."""
    raster = Raster(height, width)
    layers = [layer for layer in network.modules() if isinstance(layer, CausalLayer)]
    for layer in layers:
        layer.raster = raster
    try:
        with torch.no_grad(), parametrize.cached():
            yield raster
    finally:
        for layer in layers:
            layer.raster = None
