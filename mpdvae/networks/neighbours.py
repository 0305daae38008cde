"""What a causal convolution remembers, to answer for one position after the other.

The sum over a kernel's window has two parts. That of the rows above is known for a whole row when the row begins: one matrix
product for all its columns. What remains for each column are the positions to its left and, with mask B, its own:

    # # # # #   above, at the beginning of the row
    # # # # #
    # # o . .   left, at each column

Maps are kept channels last, so that the present row's windows are views, each one row of a matrix.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mpdvae.networks.incremental import Raster, affine


class Neighbours:
    """The rows above the present one that a kernel reaches, and the present row.

    Arguments:
        weight: of the convolution; its part below and to the right of the centre is not looked at.
        bias: of each output channel.
        centre: whether a position sees itself.
        batch: number of maps for each network.
        width: of the maps.
    """

    def __init__(
        self,
        weight: Float[Tensor, "*network out in size size"],
        bias: Float[Tensor, "*network out"],
        centre: bool,
        batch: int,
        width: int,
    ) -> None:
        self.size = weight.shape[-1]
        reach = self.size // 2
        taps = weight.movedim(-3, -1)
        self.above_weight = taps[..., :reach, :, :].flatten(-3).mT.contiguous()
        self.left_weight = taps[..., reach, : reach + centre, :].flatten(-2).mT.contiguous()
        self.bias = bias[..., None, :]
        self.seen = weight.new_zeros(*weight.shape[:-4], batch, reach + 1, width + 2 * reach, weight.shape[-3])
        present = self.seen.select(-3, reach)
        self.places = present.narrow(-2, reach, width).unbind(-2)
        self.windows = [present.narrow(-2, column, reach + centre).flatten(-2) for column in range(width)]
        self.above: tuple[Tensor, ...] = ()

    def add(self, column: int, x: Float[Tensor, "*#network batch in"]) -> None:
        """Takes in what is at a column of the present row."""
        self.places[column].copy_(x)

    def add_previous(self, x: Float[Tensor, "batch in height width"], at: Raster) -> None:
        """Takes in what maps have at the position before the present one; do so before a new row begins."""
        if at.previous is not None:
            row, column = at.previous
            self.add(column, x[..., row, column])

    def begin_row(self) -> None:
        """Makes the present row one of those above, and sums over these for all columns of the new one."""
        above = self.seen[..., :-1, :, :]
        above.copy_(self.seen[..., 1:, :, :].clone())
        windows = above.unfold(-2, self.size, 1).movedim(-3, -4).mT.flatten(-3)
        sums = affine(self.bias, windows.flatten(-3, -2), self.above_weight)
        self.above = sums.unflatten(-2, windows.shape[-3:-1]).unbind(-2)

    def sums(self, column: int) -> Float[Tensor, "*network batch out"]:
        """The convolution's output at a column of the present row."""
        return affine(self.above[column], self.windows[column], self.left_weight)
