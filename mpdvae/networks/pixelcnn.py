"""PixelCNN: parameters of every pixel, given the pixels before it in raster order and a condition; for binary images logits.

    [image, condition] -> mask A, ELU -> bottleneck blocks with mask B and skip blocks -> 1x1, ELU, 1x1 -> parameters

A bottleneck block of kernel k: ELU( x + 1x1( ELU( mask-B kxk( ELU( 1x1(x) ) ) ) ) ), C -> C/2 -> C/2 -> C channels. Let o_i
be the output of layer i (0 = mask A). For i >= 3 the input of layer i is o_(i-1) + D_(i-3)(o_(i-3)), where D_j is a
separate block with the kernel of layer j+1; the last one is added to the final output.

The maps of the condition are seen whole, at future positions too: they carry information about z, not about pixels. Plain
masked convolutions leave a blind spot to the upper right of each pixel; it is part of the paper's networks and kept.

The kernels determine how far a pixel can see: the receptive field extends `rows` rows up and as many columns to each side,
where rows is the sum of the kernels' reaches (k-1)/2. A small field makes the code *lossy*: what pixels cannot see must
come through z (Chen et al., "Variational Lossy Autoencoder", ICLR 2017, https://arxiv.org/abs/1611.02731).

Network as in the released code of MAE: `PAPER_SMALL` and `PAPER_LARGE` are its two modes, with 64 channels.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mpdvae.errors import InputError
from mpdvae.networks.activations import elu
from mpdvae.networks.batching import over_leading
from mpdvae.networks.blocks import PointwiseConv2d
from mpdvae.networks.incremental import CausalLayer
from mpdvae.networks.masked import CausalConv2d, ConditionedCausalConv2d

PAPER_SMALL = (7, 7, 7, 5, 5, 3, 3)
PAPER_LARGE = (7,) * 5 + (5,) * 4 + (3,) * 4
SKIP = 3
"""Number of layers that a skip block spans."""


class BottleneckBlock(nn.Module):
    """Residual block with one causal convolution between two 1x1 convolutions."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.narrow = PointwiseConv2d(channels, channels // 2)
        self.causal = CausalConv2d(channels // 2, channels // 2, kernel_size, "B")
        self.widen = PointwiseConv2d(channels // 2, channels)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
        return elu(x + self.widen(elu(self.causal(elu(self.narrow(x))))))


class ConditionAtPosition(CausalLayer):
    """Adds a condition to each position by a 1x1 convolution, evaluated once in an incremental evaluation."""

    def __init__(self, condition_channels: int, channels: int) -> None:
        super().__init__()
        self.convolution = PointwiseConv2d(condition_channels, channels)

    def forward(
        self, condition: Float[Tensor, "*batch maps height width"]
    ) -> Float[Tensor, "*batch channel rows columns"]:
        told = self.once("told", lambda: over_leading(self.convolution, condition, 3))
        return self.present_column(self.present_row(told))


class PixelCNN(nn.Module):
    """Parameters of the distribution of each pixel, in raster order; all channels of a pixel have one position.

    Arguments:
        condition_channels: maps that carry information about the latent code.
        channels: C, an even number.
        kernel_sizes: odd sizes, the first being that of the mask-A layer.
        condition_everywhere: whether every layer sees the condition, instead of only the first.
        image_channels: of the images.
        out_channels: parameters per pixel.
    """

    def __init__(
        self,
        condition_channels: int,
        channels: int = 64,
        kernel_sizes: Sequence[int] = PAPER_SMALL,
        condition_everywhere: bool = False,
        image_channels: int = 1,
        out_channels: int = 1,
    ) -> None:
        super().__init__()
        if channels < 2 or channels % 2:
            raise InputError(f"channels: a bottleneck block halves them and needs an even number >= 2, got {channels}.")
        if not kernel_sizes:
            raise InputError("kernel_sizes: expected at least one odd number (the mask-A layer), got none.")
        first, *rest = kernel_sizes
        self.kernel_sizes = tuple(kernel_sizes)
        self.first = ConditionedCausalConv2d(image_channels, condition_channels, channels, first)
        self.blocks = nn.ModuleList(BottleneckBlock(channels, k) for k in rest)
        self.skips = nn.ModuleList(BottleneckBlock(channels, k) for k in kernel_sizes[1 : len(kernel_sizes) - SKIP + 2])
        layers = len(kernel_sizes) if condition_everywhere else 0
        self.told = nn.ModuleList(ConditionAtPosition(condition_channels, channels) for _ in range(layers))
        self.widen = PointwiseConv2d(channels, channels)
        self.logits = PointwiseConv2d(channels, out_channels)
        # Channels last in memory: a training step on CPU takes about a quarter less time.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - missing in torch's stubs

    @property
    def receptive_field(self) -> int:
        """Maximum number of rows above, and of columns to either side, that a pixel can see."""
        return sum(k // 2 for k in self.kernel_sizes)

    def forward(
        self, x: Float[Tensor, "*#batch image height width"], condition: Float[Tensor, "*#batch maps height width"]
    ) -> Float[Tensor, "*batch parameter rows columns"]:
        """Returns the parameters, for binary pixels the logits of P(pixel = 1); the leading axes of images and conditions
        broadcast. In an incremental evaluation (`mpdvae.networks.incremental`), returns only those of the current pixel:
        [*batch parameter 1 1]."""
        first = self.first(x, condition)
        told = [at_position(condition).expand_as(first).reshape(-1, *first.shape[-3:]) for at_position in self.told]
        return over_leading(lambda first: self._body(first, told), first, event_ndim=3)

    def _body(
        self, first: Float[Tensor, "batch channel rows columns"], told: list[Tensor]
    ) -> Float[Tensor, "batch parameter rows columns"]:
        outputs = [elu(first)]
        for block in self.blocks:
            outputs.append(block(self._next_input(outputs, told)))
        return self.logits(elu(self.widen(self._next_input(outputs, told))))

    def _next_input(self, outputs: list[Tensor], told: list[Tensor]) -> Tensor:
        """The input of the next layer: the last output, plus the skip block ending here, plus the condition's
        contribution."""
        done = len(outputs)
        x = outputs[-1] if done < SKIP else outputs[-1] + self.skips[done - SKIP](outputs[done - SKIP])
        return x + told[done - 1] if told else x

    def extra_repr(self) -> str:
        return f"kernel_sizes={self.kernel_sizes}, receptive_field={self.receptive_field}"
