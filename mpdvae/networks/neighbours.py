"""The memory of a causal convolution that is evaluated one position after the other.

The sum over a kernel's window has two parts. The part over the rows above is known for a whole row when the row begins: one
matrix product for all its columns. What remains for each column are the positions to its left and, with mask B, its own:

    # # # # #   above: once per row
    # # # # #
    # # o . .   left: at each column

Maps are stored channels last, so that windows of the current row are views, and each is one row of a matrix.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mpdvae.networks.incremental import Raster


class Neighbours:
    """The rows above the current one that a kernel reaches, and the current row, for one network or several side by side.

    Arguments:
        above: weights of the rows above.
        left: weights of the positions to the left and, with mask B, of the centre.
        bias: of the output channels.
        batch: number of maps for each network.
        width: of the maps.
    """

    def __init__(
        self,
        above: Float[Tensor, "network row column in out"],
        left: Float[Tensor, "network tap in out"],
        bias: Float[Tensor, "network out"],
        batch: int,
        width: int,
    ) -> None:
        networks, reach, self.size, channels, out = above.shape
        self.above, self.left, self.bias = above.flatten(1, 3), left.flatten(1, 2), bias[:, None]
        self.rows = above.new_zeros(networks, batch, reach + 1, width + 2 * reach, channels)
        present = self.rows[:, :, reach]
        self.places = present[:, :, reach : reach + width, :, None, None].unbind(2)
        self.windows = [present[:, :, column : column + left.shape[1]].flatten(2) for column in range(width)]
        self.sums_above: tuple[Tensor, ...] = ()
        self.shape = (*([networks] if networks > 1 else []), batch, out, 1, 1)

    def add(self, column: int, x: Float[Tensor, "... batch in 1 1"]) -> None:
        """Stores the values at a column of the current row."""
        self.places[column].copy_(x)

    def add_previous(self, x: Float[Tensor, "batch in height width"], at: Raster) -> None:
        """Stores the values of whole maps `x` at the position before the current one; call it before a new row begins."""
        if at.previous is not None:
            row, column = at.previous
            self.add(column, x.narrow(-2, row, 1).narrow(-1, column, 1))

    def begin_row(self) -> None:
        """Moves the current row to the rows above, and sums over these for all columns of the new row."""
        above = self.rows[:, :, :-1]
        above.copy_(self.rows[:, :, 1:].clone())
        windows = above.unfold(3, self.size, 1).permute(0, 1, 3, 2, 5, 4)  # network batch column row column channel
        sums = torch.baddbmm(self.bias, windows.flatten(3).flatten(1, 2), self.above)
        self.sums_above = sums.unflatten(1, windows.shape[1:3]).unbind(2)

    def sums(self, column: int) -> Float[Tensor, "... batch out 1 1"]:
        """Returns the convolution's output at a column of the current row."""
        return torch.baddbmm(self.sums_above[column], self.windows[column], self.left).view(*self.shape)
