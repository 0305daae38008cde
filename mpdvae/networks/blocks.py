"""Residual blocks: the units of the ResNet encoder and decoder, weight-normalised, with ELU.

    down    ELU( conv3x3( ELU( conv3x3_stride(x) ) ) + shortcut(x) )
    up      a = ELU(x);   conv3x3^T( ELU( conv3x3^T_stride(a) ) ) + shortcut(a)           no ELU after the sum

The shortcut is the identity if the shapes allow it, otherwise a 1x1 (transposed) convolution with the same stride. A stride
of 2 halves a size, rounding up (28, 14, 7, 4); on the way back up each output size is given explicitly, since 7 and 8 both
halve to 4.

Layers as in the released code of MAE (Ma, Zhou & Hovy, 2019); ELU: Clevert et al., 2016, https://arxiv.org/abs/1511.07289.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mpdvae.networks.activations import elu
from mpdvae.networks.convolution import convolve
from mpdvae.networks.incremental import CausalLayer, Raster
from mpdvae.networks.weight_norm import weight_norm


def conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    padding: int | None = None,
    init_scale: float = 1.0,
) -> nn.Conv2d:
    """Returns a weight-normalised convolution that keeps the size (stride 1) or halves it, rounding up (stride 2).

    An explicit `padding` overrides this.
    """
    padding = kernel_size // 2 if padding is None else padding
    return weight_norm(nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding), init_scale=init_scale)


class PointwiseConv2d(CausalLayer, nn.Conv2d):
    """Weight-normalised 1x1 convolution; at a single position a matrix product, which is faster there."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)
        weight_norm(self)

    def forward(self, input: Float[Tensor, "*batch in height width"]) -> Float[Tensor, "*batch out height width"]:
        if self.raster is not None and input.shape[-2:] == (1, 1):
            return self.column(input, self.raster)
        return convolve(input, self.weight, self.get_parameter("bias"))

    def column(self, x: Float[Tensor, "*batch in 1 1"], at: Raster) -> Float[Tensor, "*batch out 1 1"]:
        """Returns the output at the current position."""
        if self not in at.memory:
            weight = self.together(lambda layer: layer.weight.flatten(1).mT)
            at.memory[self] = weight, self.together(lambda layer: layer.get_parameter("bias"))[:, None]
        weight, bias = at.memory[self]
        y = torch.baddbmm(bias, x.reshape(len(weight), -1, self.in_channels), weight)
        return y.view(*x.shape[:-3], self.out_channels, 1, 1)


def linear(in_features: int, out_features: int) -> nn.Linear:
    """Returns a weight-normalised linear layer."""
    return weight_norm(nn.Linear(in_features, out_features))


def halved(size: tuple[int, int], times: int) -> list[tuple[int, int]]:
    """Returns (height, width) after 0 .. `times` halvings, rounding up."""
    sizes = [size]
    for _ in range(times):
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


def conv2d_to(
    in_channels: int, out_channels: int, kernel_size: int, size: tuple[int, int], target: tuple[int, int]
) -> nn.ConvTranspose2d:
    """Returns a weight-normalised transposed convolution from maps of `size` to maps of `target` (equal, or about
    double)."""
    stride = 1 if size == target else 2
    smallest = [stride * (s - 1) + 1 for s in size]
    output_padding = (target[0] - smallest[0], target[1] - smallest[1])
    return weight_norm(
        nn.ConvTranspose2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, output_padding)
    )


def conv2d_doubling(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """Returns a weight-normalised transposed 3x3 convolution that doubles the size."""
    return weight_norm(nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1))


class DownBlock(nn.Module):
    """Residual block that keeps (stride 1) or halves (stride 2) the size."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.first = conv2d(in_channels, out_channels, 3, stride)
        self.second = conv2d(out_channels, out_channels, 3)
        same_shape = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same_shape else conv2d(in_channels, out_channels, 1, stride)

    def forward(self, x: Float[Tensor, "batch in height width"]) -> Float[Tensor, "batch out down_height down_width"]:
        return elu(self.second(elu(self.first(x))) + self.shortcut(x))


class UpBlock(nn.Module):
    """Residual block of transposed convolutions from maps of `size` to maps of `target`."""

    def __init__(self, in_channels: int, out_channels: int, size: tuple[int, int], target: tuple[int, int]) -> None:
        super().__init__()
        self.first = conv2d_to(in_channels, out_channels, 3, size, target)
        self.second = conv2d_to(out_channels, out_channels, 3, target, target)
        same_shape = size == target and in_channels == out_channels
        self.shortcut = nn.Identity() if same_shape else conv2d_to(in_channels, out_channels, 1, size, target)

    def forward(self, x: Float[Tensor, "batch in height width"]) -> Float[Tensor, "batch out up_height up_width"]:
        a = elu(x)
        return self.second(elu(self.first(a))) + self.shortcut(a)


class DenseBlock(nn.Module):
    """DenseNet steps, each x <- ELU( concat[x, conv3x3( ELU( conv1x1(x) ) )] ): 1x1 to 4 * growth, 3x3 to growth channels.

    The ELU applies to the whole concatenation, so early features pass through it repeatedly.
    Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, https://arxiv.org/abs/1608.06993, without batch
    normalisation, as in the released code of MAE.
    """

    def __init__(self, in_channels: int, growth: int, steps: int) -> None:
        super().__init__()
        self.out_channels = in_channels + growth * steps
        self.steps = nn.ModuleList(
            nn.Sequential(conv2d(in_channels + growth * step, 4 * growth, 1), nn.ELU(), conv2d(4 * growth, growth, 3))
            for step in range(steps)
        )

    def forward(self, x: Float[Tensor, "batch in height width"]) -> Float[Tensor, "batch out height width"]:
        for step in self.steps:
            x = elu(torch.cat([x, step(x)], 1))
        return x
