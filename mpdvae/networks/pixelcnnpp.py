"""PixelCNN++ conditioned on maps: parameters of each pixel's distribution given the pixels before and a condition h.

The network carries two streams: v sees the rows above, r also sees the pixels to the left in the same row.

    start   v = shift_down( down_2x3(x) )         r = shift_down( down_1x3(x) ) + shift_right( downright_2x1(x) )
    up      blocks, stride-2 convolutions between levels; every output (v, r) is pushed
    down    before each layer the newest (u_v, u_r) is popped: v += nin1(act(u_v)), r += nin2(act(u_r)); then the layer
    head    ELU, 1x1, ELU, 1x1 on r

A gated block: hc = conv3x3(act(conv3x3(act(h)))), c = down2(act(down1(act(v)))), [a, b] = down3(act(c)) + hc, v' = v + a
sigmoid(b); likewise r with 2x2 kernels, which also gets nin(act(v')). [a, b] are the halves of 2C channels; the same hc
enters both; act is the concatenated ELU (or ELU), with dropout before the third convolutions. The condition's maps h are
halved in size and doubled in channels from level to level, and computed anew on the way down.

Salimans, Karpathy, Chen & Kingma, "PixelCNN++", ICLR 2017, https://arxiv.org/abs/1701.05517; with three convolutions to a
stack and without the channel of ones, as in the released code of MAE.
"""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import elu, pad

from mpdvae.errors import InputError
from mpdvae.networks.blocks import PointwiseConv2d, conv2d, conv2d_doubling
from mpdvae.networks.dropout import Dropout
from mpdvae.networks.incremental import CausalLayer, Raster
from mpdvae.networks.shifted import ShiftedConv2d, ShiftedConvTranspose2d
from mpdvae.networks.weight_norm import weight_norm

GATE_SCALE = 0.1
"""Scale at which a block's last convolutions start, a tenth of the usual one, so that blocks start near the identity."""

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


class Start(CausalLayer):
    """Maps the image to two streams that do not see the pixel itself."""

    def __init__(self, channels: int, image_channels: int) -> None:
        super().__init__()
        self.above = weight_norm(nn.Conv2d(image_channels, channels, (2, 3), padding=(0, 1)))
        self.above_row = weight_norm(nn.Conv2d(image_channels, channels, (1, 3), padding=(0, 1)))
        self.left = weight_norm(nn.Conv2d(image_channels, channels, (2, 1)))

    def forward(self, x: Float[Tensor, "batch image height width"]) -> Streams:
        if self.raster is not None:
            return self.column(x, self.raster)
        above = pad(x, (0, 0, 1, 0))
        return _shift_down(self.above(above)), _shift_down(self.above_row(x)) + _shift_right(self.left(above))

    def column(self, x: Float[Tensor, "batch image height width"], at: Raster) -> Streams:
        """Returns the current row of v and the current column of r, from the image `x` whose earlier pixels are known."""
        row, column = at.position()
        padded = pad(x, (0, 0, 2, 0))

        def before(conv: nn.Conv2d, rows: int) -> Tensor:
            if row == 0:
                return x.new_zeros(len(x), conv.out_channels, 1, at.width)
            return conv(padded[:, :, row + 2 - rows : row + 2])

        v = self.once_a_row("v", lambda: before(self.above, 2))
        r = self.present_column(self.once_a_row("r", lambda: before(self.above_row, 1)))
        if column:
            r = r + self.left(padded[:, :, row + 1 : row + 3, column - 1 : column])
        return v, r


class GatedBlock(CausalLayer):
    """One gated residual step of both streams, conditioned on h. Incremental: v by rows, r by columns."""

    def __init__(
        self, channels: int, condition_channels: int, activation: Activation, dropout: float, level: int = 0
    ) -> None:
        super().__init__()
        wide = channels * activation.factor
        self.h_first = conv2d(condition_channels * activation.factor, channels, 3)
        self.h_second = conv2d(wide, 2 * channels, 3, init_scale=GATE_SCALE)
        self.down_first = ShiftedConv2d(wide, channels, (2, 3), right=False, level=level)
        self.down_second = ShiftedConv2d(wide, channels, (2, 3), right=False, level=level)
        self.down_third = ShiftedConv2d(wide, 2 * channels, (2, 3), False, init_scale=GATE_SCALE, level=level)
        self.right_first = ShiftedConv2d(wide, channels, (2, 2), right=True, level=level)
        self.right_second = ShiftedConv2d(wide, channels, (2, 2), right=True, level=level)
        self.nin = PointwiseConv2d(wide, channels)
        self.right_third = ShiftedConv2d(wide, 2 * channels, (2, 2), True, init_scale=GATE_SCALE, level=level)
        self.activation, self.dropout, self.level = activation, Dropout(dropout), level

    def forward(self, v: Tensor, r: Tensor, h: Tensor) -> Streams:
        act = self.activation
        told = self.present_row(self.once("told", lambda: self.h_second(act(self.h_first(act(h))))))

        def next_v() -> Tensor:
            c = self.down_second(act(self.down_first(act(v))))
            return v + _gate(self.down_third(self.dropout(act(c))) + told)

        v = self.once_a_row("v", next_v)
        beside = self.present_column(self.once_a_row("beside", lambda: self.nin(act(v))))
        c = self.right_second(act(self.right_first(act(r)))) + beside
        return v, r + _gate(self.right_third(self.dropout(act(c))) + self.present_column(told))


class Halving(CausalLayer):
    """Halves the size of both streams."""

    def __init__(self, channels: int, level: int = 0) -> None:
        super().__init__()
        self.down = ShiftedConv2d(channels, channels, (2, 3), right=False, stride=2, level=level)
        self.right = ShiftedConv2d(channels, channels, (2, 2), right=True, stride=2, level=level)

    def forward(self, v: Tensor, r: Tensor) -> Streams:
        return self.once_a_row("v", lambda: self.down(v)), self.right(r)


class Doubling(CausalLayer):
    """Doubles the size of both streams."""

    def __init__(self, channels: int, level: int = 0) -> None:
        super().__init__()
        self.down = ShiftedConvTranspose2d(channels, channels, (2, 3), right=False, level=level)
        self.right = ShiftedConvTranspose2d(channels, channels, (2, 2), right=True, level=level)

    def forward(self, v: Tensor, r: Tensor) -> Streams:
        return self.once_a_row("v", lambda: self.down(v)), self.right(r)


class Merge(CausalLayer):
    """On the way down, adds to both streams what was pushed on the way up, through 1x1 convolutions."""

    def __init__(self, channels: int, activation: Activation) -> None:
        super().__init__()
        self.down = PointwiseConv2d(channels * activation.factor, channels)
        self.right = PointwiseConv2d(channels * activation.factor, channels)
        self.activation = activation

    def forward(self, v: Tensor, r: Tensor, pushed: Streams) -> Streams:
        v = self.once_a_row("v", lambda: v + self.down(self.activation(pushed[0])))
        return v, r + self.right(self.activation(pushed[1]))


class PixelCNNPP(CausalLayer):
    """Parameters of each pixel's distribution.

    Arguments:
        condition_channels: of the maps h at the image's size; doubled from level to level.
        out_channels: parameters per pixel.
        channels: C of the streams.
        levels: number of sizes; height and width must be divisible by 2^(levels-1).
        blocks: gated blocks for each level and pass.
        dropout: before the last convolution of each stack, in training.
        concatenated: whether to use the concatenated ELU instead of ELU.
        image_channels: of the images.
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
        image_channels: int = 3,
    ) -> None:
        super().__init__()
        if min(channels, levels, blocks) < 1:
            raise InputError(f"channels, levels, blocks: expected numbers >= 1, got {channels}, {levels}, {blocks}.")
        act = Activation(concatenated)
        widths = [condition_channels * 2**level for level in range(levels)]

        def passes(order: Sequence[int]) -> nn.ModuleList:
            return nn.ModuleList(
                nn.ModuleList(GatedBlock(channels, widths[level], act, dropout, level) for _ in range(blocks))
                for level in order
            )

        self.levels, self.blocks = levels, blocks
        self.start = Start(channels, image_channels)
        self.up, self.down = passes(range(levels)), passes(range(levels)[::-1])
        self.halvings = nn.ModuleList(Halving(channels, level) for level in range(levels - 1))
        self.doublings = nn.ModuleList(Doubling(channels, level) for level in range(levels - 1)[::-1])
        self.h_halvings = nn.ModuleList(conv2d(width, 2 * width, 3, stride=2) for width in widths[:-1])
        self.h_doublings = nn.ModuleList(conv2d_doubling(width, width // 2) for width in widths[:0:-1])
        self.merges = nn.ModuleList(Merge(channels, act) for _ in range(levels * (blocks + 1) - 2))
        self.widen = PointwiseConv2d(channels, channels)
        self.parameters_of_pixels = PointwiseConv2d(channels, out_channels)

    def forward(
        self, x: Float[Tensor, "*#batch image height width"], h: Float[Tensor, "*#batch condition height width"]
    ) -> Float[Tensor, "*batch parameter rows columns"]:
        """Returns the parameters of all pixels; the leading axes of images and conditions broadcast. In an incremental
        evaluation (`mpdvae.networks.incremental`), returns only those of the current pixel: [*batch parameter 1 1]."""
        leading = torch.broadcast_shapes(x.shape[:-3], h.shape[:-3])
        x, h = (y.expand(*leading, *y.shape[-3:]).reshape(-1, *y.shape[-3:]) for y in (x, h))
        v, r = self.start(x)
        _, r = self._level(0, v, r, self._conditions(h))
        parameters = self.parameters_of_pixels(elu(self.widen(elu(r))))
        return parameters.reshape(*leading, *parameters.shape[1:])

    def _conditions(self, h: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The maps of the condition at each level, for the way up and for the way down."""
        up = [h]
        for level, halve in enumerate(self.h_halvings):
            up.append(self.once(f"up {level}", partial(halve, up[-1])))
        down = [up[-1]]
        for level, double in enumerate(self.h_doublings):
            down.append(self.once(f"down {level}", partial(double, down[-1])))
        return up, down[::-1]

    def _level(self, level: int, v: Tensor, r: Tensor, h: tuple[list[Tensor], list[Tensor]]) -> Streams:
        """Passes up and down again through the blocks of one size, with all smaller sizes in between."""
        depth, pushed = self.levels - 1 - level, []
        for block in _modules(self.up[level]):
            v, r = block(v, r, h[0][level])
            pushed.append((v, r))
        if depth:
            v, r = self._smaller(level, v, r, h)
        else:
            pushed.pop()  # the way down begins with it
        for index, block in enumerate(_modules(self.down[depth])):
            if depth or index:
                v, r = self.merges[depth * (self.blocks + 1) + index - 1](v, r, pushed.pop())
            v, r = block(v, r, h[1][level])
        return v, r

    def _smaller(self, level: int, v: Tensor, r: Tensor, h: tuple[list[Tensor], list[Tensor]]) -> Streams:
        """Passes the streams of `level` through the smaller sizes, and returns them at the size of `level`."""
        depth, at = self.levels - 1 - level, self.raster
        halved = self.halvings[level](v, r)
        if at is None or at.due(level + 1):
            v, r = self._level(level + 1, halved[0], halved[1], h)
            v, r = self.merges[depth * (self.blocks + 1) - 2](v, r, halved)
        if at is not None:
            v, r = self._last_smaller(level + 1, v, r, at)
        return self.doublings[depth - 1](v, r)

    def _last_smaller(self, level: int, v: Tensor, r: Tensor, at: Raster) -> Streams:
        """The row of v and the column of r at `level` that the current position comes from; caches them when due."""
        _, column = at.position(level)
        if at.due(level):
            if column == 0:
                at.memory[self, level] = v, r.new_empty(*r.shape[:3], at.size(level)[1])
            at.memory[self, level][1][..., column] = r[..., 0]
        v, row = at.memory[self, level]
        return v, row[..., column : column + 1]


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
