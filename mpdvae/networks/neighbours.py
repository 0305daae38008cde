"""What a causal convolution remembers, to answer for one position after the other.

The sum over a kernel's window has two parts. That of the rows above is known for a whole row when the row begins: one matrix
product for all its columns. What remains for each column are the positions to its left and, with mask B, its own:

    # # # # #   above: once a row
    # # # # #
    # # o . .   left: at each column

Maps are kept channels last, so that windows of the present row are views, and each is one row of a matrix.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mpdvae.networks.incremental import Raster


class Neighbours:
    """The rows above the present one that a kernel reaches, and the present row; of one network, or of several beside it.

    Arguments:
        weights: of the convolutions; what lies below and to the right of the centre is not looked at.
        biases: of the output channels.
        centre: whether a position sees itself.
        batch: number of maps for each network.
        width: of the maps.
    """

    def __init__(
        self,
        weights: Float[Tensor, "network out in size size"],
        biases: Float[Tensor, "network out"],
        centre: bool,
        batch: int,
        width: int,
    ) -> None:
        networks, out, channels, self.size, _ = weights.shape
        self.batch, reach = batch, self.size // 2
        taps = weights.movedim(2, 4)
        self.above_weights = taps[:, :, :reach].flatten(2).mT.contiguous()
        self.left_weights = taps[:, :, reach, : reach + centre].flatten(2).mT.contiguous()
        self.biases = biases[:, None]
        self.rows = weights.new_zeros(networks, batch, reach + 1, width + 2 * reach, channels)
        present = self.rows[:, :, reach]
        self.places = present[:, :, reach : reach + width].unbind(2)
        self.windows = [present[:, :, column : column + reach + centre].flatten(2) for column in range(width)]
        self.above: tuple[Tensor, ...] = ()
        self.shape = (*([networks] if networks > 1 else []), batch, out, 1, 1)

    def add(self, column: int, x: Float[Tensor, "*#network batch in"]) -> None:
        """Takes in what is at a column of the present row."""
        self.places[column].copy_(x)

    def add_previous(self, x: Float[Tensor, "batch in height width"], at: Raster) -> None:
        """Takes in what the whole maps `x` have at the position before the present one; before a new row begins."""
        if at.previous is not None:
            row, column = at.previous
            self.add(column, x[..., row, column])

    def begin_row(self) -> None:
        """Moves the present row to those above, and sums over these for all columns of the new one."""
        above = self.rows[:, :, :-1]
        above.copy_(self.rows[:, :, 1:].clone())
        windows = above.unfold(3, self.size, 1).permute(0, 1, 3, 2, 5, 4)  # network batch column row column channel
        sums = torch.baddbmm(self.biases, windows.flatten(3).flatten(1, 2), self.above_weights)
        self.above = sums.unflatten(1, (self.batch, -1)).unbind(2)

    def sums(self, column: int) -> Float[Tensor, "*network batch out 1 1"]:
        """The convolutions' outputs at a column of the present row."""
        return torch.baddbmm(self.above[column], self.windows[column], self.left_weights).view(self.shape)
