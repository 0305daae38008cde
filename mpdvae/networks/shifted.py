"""Convolutions of PixelCNN++ whose causality comes from shifted images rather than masked kernels.

"down" kernels see the rows above and their own row on both sides, which is causal because the image is shifted down at the
start; "down-right" kernels see rows above to the left, and their own row to the left. A strided convolution pads in the same
way; a transposed one is cropped at the bottom and the sides.

Salimans, Karpathy, Chen & Kingma, "PixelCNN++", ICLR 2017, https://arxiv.org/abs/1701.05517.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d, pad

from mpdvae.networks.incremental import CausalLayer, Raster
from mpdvae.networks.weight_norm import weight_norm


class ShiftedConv2d(CausalLayer, nn.Conv2d):
    """Causal convolution with a kernel (height, width): "down" pads the width on both sides, "down-right" on the left only.

    Incremental: "down" takes and returns rows, "down-right" columns; with stride 2, only even positions produce output.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        right: bool,
        stride: int = 1,
        init_scale: float = 1.0,
        level: int = 0,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride)
        weight_norm(self, init_scale=init_scale)
        rows, columns = kernel_size
        self.margins = (columns - 1, 0, rows - 1, 0) if right else ((columns - 1) // 2, (columns - 1) // 2, rows - 1, 0)
        self.right, self.level = right, level

    def forward(self, x: Float[Tensor, "batch in height width"]) -> Float[Tensor, "batch out down_height down_width"]:
        if self.raster is not None:
            return self.column(x, self.raster) if self.right else self.row(x, self.raster)
        return super().forward(pad(x, self.margins))

    def row(self, x: Float[Tensor, "batch in 1 width"], at: Raster) -> Float[Tensor, "batch out 1 down_width"]:
        """Returns the output row that the current input row completes."""
        row = pad(x, (*self.margins[:2], 0, 0))
        above = at.memory.get(self)
        if above is None:
            above = row.new_zeros(*row.shape[:2], self.kernel_size[0] - 1, row.shape[3])
        seen = torch.cat([above, row], 2)
        at.memory[self] = seen[:, :, 1:]
        return super().forward(seen)

    def column(self, x: Float[Tensor, "batch in 1 1"], at: Raster) -> Float[Tensor, "batch out 1 1"]:
        """Returns the output at the current position, given the input there and the earlier inputs."""
        rows, columns = self.kernel_size
        _, column = at.position(self.level)
        if self not in at.memory:
            _, width = at.size(self.level)
            seen = x.new_zeros(*x.shape[:2], rows, width + columns - 1)
            at.memory[self] = seen, self.weight.flatten(1).mT.contiguous()
        elif column == 0:
            seen, _ = at.memory[self]
            seen[:, :, :-1] = seen[:, :, 1:].clone()
        seen, weight = at.memory[self]
        seen[:, :, -1, column + columns - 1] = x[:, :, 0, 0]
        window = seen[:, :, :, column : column + columns]
        assert self.bias is not None
        return torch.addmm(self.bias, window.flatten(1), weight)[..., None, None]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, margins={self.margins}"


class ShiftedConvTranspose2d(CausalLayer, nn.ConvTranspose2d):
    """Transposed causal convolution that doubles the size; outputs that would look ahead are cropped.

    Both kernels have two rows: an output row comes from one input row and one kernel row, and likewise, for "down-right",
    an output column from one input column.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], right: bool, level: int = 0
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=2, output_padding=1)
        weight_norm(self)
        rows, columns = kernel_size
        self.crop = (0, columns - 1, 0, rows - 1) if right else ((columns - 1) // 2, (columns - 1) // 2, 0, rows - 1)
        self.right, self.level = right, level

    def forward(
        self, input: Float[Tensor, "batch in height width"], output_size: list[int] | None = None
    ) -> Float[Tensor, "batch out up_height up_width"]:
        if self.raster is not None:
            return self.column(input, self.raster) if self.right else self.row(input, self.raster)
        y = super().forward(input, output_size)
        left, right, top, bottom = self.crop
        return y[..., top : y.shape[-2] - bottom, left : y.shape[-1] - right]

    def row(self, x: Float[Tensor, "batch in 1 width"], at: Raster) -> Float[Tensor, "batch out 1 up_width"]:
        """Returns the current output row, at the larger size, from the row at the smaller size that it comes from."""
        row, _ = at.position(self.level)
        kernel_row = self.weight[:, :, row % 2, None]
        y = conv_transpose2d(x, kernel_row, self.bias, stride=(1, 2), output_padding=(0, 1))
        left, right, _, _ = self.crop
        return y[..., left : y.shape[-1] - right]

    def column(self, x: Float[Tensor, "batch in 1 1"], at: Raster) -> Float[Tensor, "batch out 1 1"]:
        """Returns the current output column, at the larger size, from the column at the smaller size that it comes from."""
        row, column = at.position(self.level)
        assert self.bias is not None
        return torch.addmm(self.bias, x[:, :, 0, 0], self.weight[:, :, row % 2, column % 2])[..., None, None]
