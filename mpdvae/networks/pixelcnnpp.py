"""PixelCNN++ conditioned on maps: parameters of each colour pixel's law from the pixels before it and a condition h.

Two streams are carried along: v sees the rows above, r the pixels to the left in the row as well.

    start   v = shift_down( down_2x3(x) )         r = shift_down( down_1x3(x) ) + shift_right( downright_2x1(x) )
    up      blocks, stride-2 convolutions between levels; every output (v, r) is pushed
    down    before each layer the newest (u_v, u_r) is popped: v += nin1(act(u_v)), r += nin2(act(u_r)); then the layer
    head    ELU, 1x1, ELU, 1x1 on r

A gated block: hc = conv3x3(act(conv3x3(act(h)))), c = down2(act(down1(act(v)))), [a, b] = down3(act(c)) + hc,
v' = v + a sigmoid(b); likewise r with 2x2 kernels, which also gets nin(act(v')). Halves of 2C channels are [a, b]; the one
hc enters both; act is the concatenated ELU (or ELU), dropout before the third convolutions. The condition's maps h are
halved and doubled in channels from level to level, and computed anew on the way down.

Causal kernels: "down" sees the rows above and its own row on both sides, which is causal because of the shift at the start;
"down-right" sees rows above to the left, and its own row to the left. A strided convolution pads in the same way; a
transposed one is cropped at the bottom and the sides.

Salimans, Karpathy, Chen & Kingma, "PixelCNN++", ICLR 2017, https://arxiv.org/abs/1701.05517; with three convolutions to a
stack and without the channel of ones, as in the released code of MAE.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import elu, pad

from mpdvae.errors import InputError
from mpdvae.networks.blocks import conv2d, conv2d_doubling
from mpdvae.networks.weight_norm import weight_norm

GATE_SCALE = 0.1
"""A block's last convolutions start at a tenth of the scale, so that blocks start near the identity."""

Streams = tuple[Tensor, Tensor]


class Activation(nn.Module):
    """ELU, or ELU of [x, -x] (twice the channels)."""

    def __init__(self, concatenated: bool) -> None:
        super().__init__()
        self.concatenated = concatenated

    @property
    def factor(self) -> int:
        return 2 if self.concatenated else 1

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch more height width"]:
        return elu(torch.cat([x, -x], 1) if self.concatenated else x)

    def extra_repr(self) -> str:
        return "concatenated ELU" if self.concatenated else "ELU"


class ShiftedConv2d(nn.Conv2d):
    """Causal convolution of a kernel (height, width): "down" pads the width on both sides, "down-right" on the left only."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        right: bool,
        stride: int = 1,
        init_scale: float = 1.0,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride)
        weight_norm(self, init_scale=init_scale)
        rows, columns = kernel_size
        self.margins = (columns - 1, 0, rows - 1, 0) if right else ((columns - 1) // 2, (columns - 1) // 2, rows - 1, 0)

    def forward(self, x: Float[Tensor, "batch in height width"]) -> Float[Tensor, "batch out down_height down_width"]:
        return super().forward(pad(x, self.margins))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, margins={self.margins}"


class ShiftedConvTranspose2d(nn.ConvTranspose2d):
    """Transposed causal convolution that doubles the size; what would look ahead is cropped."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], right: bool) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=2, output_padding=1)
        weight_norm(self)
        rows, columns = kernel_size
        self.crop = (0, columns - 1, 0, rows - 1) if right else ((columns - 1) // 2, (columns - 1) // 2, 0, rows - 1)

    def forward(
        self, input: Float[Tensor, "batch in height width"], output_size: list[int] | None = None
    ) -> Float[Tensor, "batch out up_height up_width"]:
        y = super().forward(input, output_size)
        left, right, top, bottom = self.crop
        return y[..., top : y.shape[-2] - bottom, left : y.shape[-1] - right]


class Start(nn.Module):
    """From the image to two streams that do not see the pixel itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.above = ShiftedConv2d(3, channels, (2, 3), right=False)
        self.above_row = ShiftedConv2d(3, channels, (1, 3), right=False)
        self.left = ShiftedConv2d(3, channels, (2, 1), right=True)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Streams:
        return _shift_down(self.above(x)), _shift_down(self.above_row(x)) + _shift_right(self.left(x))


class GatedBlock(nn.Module):
    """One gated residual step of both streams under the condition h."""

    def __init__(self, channels: int, condition_channels: int, activation: Activation, dropout: float) -> None:
        super().__init__()
        wide = channels * activation.factor
        self.h_first = conv2d(condition_channels * activation.factor, channels, 3)
        self.h_second = conv2d(wide, 2 * channels, 3, init_scale=GATE_SCALE)
        self.down_first = ShiftedConv2d(wide, channels, (2, 3), right=False)
        self.down_second = ShiftedConv2d(wide, channels, (2, 3), right=False)
        self.down_third = ShiftedConv2d(wide, 2 * channels, (2, 3), right=False, init_scale=GATE_SCALE)
        self.right_first = ShiftedConv2d(wide, channels, (2, 2), right=True)
        self.right_second = ShiftedConv2d(wide, channels, (2, 2), right=True)
        self.nin = conv2d(wide, channels, 1)
        self.right_third = ShiftedConv2d(wide, 2 * channels, (2, 2), right=True, init_scale=GATE_SCALE)
        self.activation, self.dropout = activation, nn.Dropout(dropout)

    def forward(self, v: Tensor, r: Tensor, h: Tensor) -> Streams:
        act = self.activation
        told = self.h_second(act(self.h_first(act(h))))
        c = self.down_second(act(self.down_first(act(v))))
        v = v + _gate(self.down_third(self.dropout(act(c))) + told)
        c = self.right_second(act(self.right_first(act(r)))) + self.nin(act(v))
        return v, r + _gate(self.right_third(self.dropout(act(c))) + told)


class Halving(nn.Module):
    """Both streams at half the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = ShiftedConv2d(channels, channels, (2, 3), right=False, stride=2)
        self.right = ShiftedConv2d(channels, channels, (2, 2), right=True, stride=2)

    def forward(self, v: Tensor, r: Tensor) -> Streams:
        return self.down(v), self.right(r)


class Doubling(nn.Module):
    """Both streams at double the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = ShiftedConvTranspose2d(channels, channels, (2, 3), right=False)
        self.right = ShiftedConvTranspose2d(channels, channels, (2, 2), right=True)

    def forward(self, v: Tensor, r: Tensor) -> Streams:
        return self.down(v), self.right(r)


class Merge(nn.Module):
    """On the way down: both streams plus what was pushed on the way up, through 1x1 convolutions."""

    def __init__(self, channels: int, activation: Activation) -> None:
        super().__init__()
        self.down = conv2d(channels * activation.factor, channels, 1)
        self.right = conv2d(channels * activation.factor, channels, 1)
        self.activation = activation

    def forward(self, v: Tensor, r: Tensor, pushed: Streams) -> Streams:
        return v + self.down(self.activation(pushed[0])), r + self.right(self.activation(pushed[1]))


class PixelCNNPP(nn.Module):
    """Parameters of each colour pixel's law.

    Arguments:
        condition_channels: of the maps h at the image's size; doubled from level to level.
        out_channels: parameters for each pixel.
        channels: C of the streams.
        levels: sizes; height and width must be divisible by 2^(levels-1).
        blocks: gated blocks for each level and pass.
        dropout: before the last convolution of each stack, in training.
        concatenated: concatenated ELU, else ELU.
    """

    def __init__(
        self,
        condition_channels: int,
        out_channels: int,
        channels: int = 96,
        levels: int = 3,
        blocks: int = 6,
        dropout: float = 0.5,
        concatenated: bool = True,
    ) -> None:
        super().__init__()
        if min(channels, levels, blocks) < 1:
            raise InputError(f"channels, levels, blocks: expected numbers >= 1, got {channels}, {levels}, {blocks}.")
        act = Activation(concatenated)
        widths = [condition_channels * 2**level for level in range(levels)]

        def passes(level_widths: Sequence[int]) -> nn.ModuleList:
            return nn.ModuleList(
                nn.ModuleList(GatedBlock(channels, width, act, dropout) for _ in range(blocks))
                for width in level_widths
            )

        self.start = Start(channels)
        self.up, self.down = passes(widths), passes(widths[::-1])
        self.halvings = nn.ModuleList(Halving(channels) for _ in range(levels - 1))
        self.doublings = nn.ModuleList(Doubling(channels) for _ in range(levels - 1))
        self.h_halvings = nn.ModuleList(conv2d(width, 2 * width, 3, stride=2) for width in widths[:-1])
        self.h_doublings = nn.ModuleList(conv2d_doubling(width, width // 2) for width in widths[:0:-1])
        self.merges = nn.ModuleList(Merge(channels, act) for _ in range(levels * (blocks + 1) - 2))
        self.widen = conv2d(channels, channels, 1)
        self.parameters_of_pixels = conv2d(channels, out_channels, 1)

    def forward(
        self, x: Float[Tensor, "*#batch 3 height width"], h: Float[Tensor, "*#batch condition height width"]
    ) -> Float[Tensor, "*batch parameter height width"]:
        """Parameters of all pixels; the leading axes of images and conditions broadcast."""
        leading = torch.broadcast_shapes(x.shape[:-3], h.shape[:-3])
        x, h = (y.expand(*leading, *y.shape[-3:]).reshape(-1, *y.shape[-3:]) for y in (x, h))
        parameters = self._body(x, h)
        return parameters.reshape(*leading, *parameters.shape[1:])

    def _body(
        self, x: Float[Tensor, "batch 3 height width"], h: Float[Tensor, "batch condition height width"]
    ) -> Float[Tensor, "batch parameter height width"]:
        v, r = self.start(x)
        pushed: list[Streams] = []
        for level, blocks in enumerate(self.up):
            if level:
                v, r = self.halvings[level - 1](v, r)
                pushed.append((v, r))
                h = self.h_halvings[level - 1](h)
            for block in _modules(blocks):
                v, r = block(v, r, h)
                pushed.append((v, r))
        (v, r), merges = pushed.pop(), iter(self.merges)
        for level, blocks in enumerate(self.down):
            if level:
                v, r = self.doublings[level - 1](*next(merges)(v, r, pushed.pop()))
                h = self.h_doublings[level - 1](h)
            for index, block in enumerate(_modules(blocks)):
                if level or index:
                    v, r = next(merges)(v, r, pushed.pop())
                v, r = block(v, r, h)
        return self.parameters_of_pixels(elu(self.widen(elu(r))))


def _modules(blocks: nn.Module) -> list[nn.Module]:
    assert isinstance(blocks, nn.ModuleList)
    return list(blocks)


def _gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return a * b.sigmoid()


def _shift_down(x: Tensor) -> Tensor:
    return pad(x[..., :-1, :], (0, 0, 1, 0))


def _shift_right(x: Tensor) -> Tensor:
    return pad(x[..., :-1], (1, 0))
