"""Decoders p(x|z): modules that map latent codes [*, latent] to a distribution over images.

*Independent pixels* leave all structure to z; a *PixelCNN* also sees the pixels before each one, which gives a better
density and allows the model to ignore z: the collapse that this project studies.

    IndependentDecoder(body)(z)                  pixels independent given z
    AutoregressiveDecoder(to_maps, network)(z)   log p(x|z) = sum_i log p(x_i | x_<i, z)

Both take a `law`, the distribution of a pixel given the parameters that the network computes for it
(`mpdvae.distributions.pixel_laws`); `support` tells which images it gives a probability.

Decoders of vectors can have *skip connections*: a linear map of z is added to the input of every layer, so that no layer
can lose the code (Skip-VAE: Dieng, Kim, Rush & Blei, AISTATS 2019, https://arxiv.org/abs/1807.04863).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from mpdvae.distributions.pixel_laws import PixelLaw, bernoulli_pixels, ten_logistics_pixels
from mpdvae.distributions.pixels import AtPixel, AutoregressivePixels
from mpdvae.errors import InputError
from mpdvae.models.encoders import ImageShape, check_divisible, check_halvings, check_latent_dim
from mpdvae.networks.batching import over_leading
from mpdvae.networks.blocks import UpBlock, conv2d, conv2d_doubling, conv2d_to, halved, linear
from mpdvae.networks.incremental import incremental
from mpdvae.networks.pixelcnn import PAPER_SMALL, PixelCNN
from mpdvae.networks.pixelcnnpp import PixelCNNPP
from mpdvae.networks.weight_norm import weight_norm


class _Decoder(nn.Module):
    """What decoders of pixels share: a law, and the parameters of it that are the same for all pixels."""

    SHARED_RATE = 10.0
    """Factor of the shared parameters. They are logarithms, which have whole units to go where weights have hundredths, while
    Adam moves all numbers alike. With 1 instead, the ELBO of 8x8 digits is 33 nats lower after 1,000 steps."""

    def __init__(self, law: PixelLaw, latent_ndim: int) -> None:
        super().__init__()
        self.law, self.latent_ndim = law, latent_ndim
        self.shared = nn.Parameter(torch.zeros(law.shared)) if law.shared else None

    @property
    def support(self) -> constraints.Constraint:
        """The images that have a probability, whatever the code."""
        return self.law.support

    @property
    def law_now(self) -> PixelLaw:
        """The distribution of pixels given what the network computes, with the shared parameters learned so far."""
        return self.law if self.shared is None else self.law.with_shared(self.SHARED_RATE * self.shared)


class IndependentDecoder(_Decoder):
    """p(x|z) with independent pixels whose parameters are `body(z)`.

    Arguments:
        body: codes [batch *latent] -> parameters [batch parameter height width].
        law: distribution of the pixels given their parameters; Bernoulli with logits by default.
        latent_ndim: axes of a code: 1 for vectors, 3 for maps.
    """

    def __init__(self, body: nn.Module, law: PixelLaw = bernoulli_pixels, latent_ndim: int = 1) -> None:
        super().__init__(law, latent_ndim)
        self.body = body

    def forward(self, z: Float[Tensor, "..."]) -> Distribution:
        return self.law_now(over_leading(self.body, z, self.latent_ndim))


class AutoregressiveDecoder(_Decoder):
    """p(x|z) pixel by pixel: z becomes maps of the image's size, which a causal network sees in addition to x.

    Arguments:
        to_maps: codes [batch *latent] -> maps [batch condition height width].
        network: (images, maps) -> parameters of the pixels, each from the pixels before it.
        law: distribution of the pixels given their parameters.
        image_shape: (channel, height, width).
        latent_ndim: axes of a code: 1 for vectors, 3 for maps.
    """

    def __init__(
        self, to_maps: nn.Module, network: nn.Module, law: PixelLaw, image_shape: ImageShape, latent_ndim: int = 1
    ) -> None:
        super().__init__(law, latent_ndim)
        self.to_maps, self.network = to_maps, network
        self.image_shape = image_shape

    def forward(self, z: Float[Tensor, "..."]) -> Distribution:
        parameters = _Conditioned(self.network, over_leading(self.to_maps, z, self.latent_ndim))
        leading = z.shape[: z.ndim - self.latent_ndim]
        return AutoregressivePixels(parameters, self.law_now, leading, self.image_shape, like=z)


class SkipBody(nn.Module):
    """Applies stages in sequence, adding a linear map of the code to the input of each stage but the first.

    Arguments:
        stages: the first takes codes [batch latent], each later one takes the output of the stage before.
        latent_dim: length of a code.
        channels: of the inputs of the later stages, [batch channel ...].
    """

    def __init__(self, stages: Sequence[nn.Module], latent_dim: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.told = nn.ModuleList(linear(latent_dim, count) for count in channels)

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch ..."]:
        first, *later = self.stages
        h = first(z)
        for stage, at_stage in zip(later, self.told, strict=True):
            told = at_stage(z)
            h = stage(h + told.view(*told.shape, *[1] * (h.ndim - told.ndim)))
        return h


def stages_body(
    stages: Sequence[Sequence[nn.Module]], latent_dim: int, channels: Sequence[int], skip_connections: bool
) -> nn.Module:
    """Returns the layers of all stages in sequence, or with the code added at the input of each stage (`SkipBody`)."""
    if skip_connections:
        return SkipBody([nn.Sequential(*layers) for layers in stages], latent_dim, channels)
    return nn.Sequential(*(layer for layers in stages for layer in layers))


@dataclass(frozen=True, eq=False)
class _Conditioned:
    """A causal network with a fixed condition, for whole images or pixel by pixel."""

    network: nn.Module
    maps: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.network(x, self.maps)

    @contextmanager
    def pixel_by_pixel(self) -> Iterator[AtPixel]:
        with incremental(self.network, *self.maps.shape[-2:]) as raster:

            def at(x: Tensor, row: int, column: int) -> Tensor:
                raster.row, raster.column = row, column
                return self.network.forward(x, self.maps)[..., 0, 0]  # `forward`, which is not compiled

            yield at


def pixelcnn_decoder(
    image_shape: ImageShape,
    latent_dim: int,
    channels: int = 64,
    kernel_sizes: Sequence[int] = PAPER_SMALL,
    condition_channels: int = 4,
    skip_connections: bool = False,
    law: PixelLaw = bernoulli_pixels,
) -> AutoregressiveDecoder:
    """Builds the paper's decoder of binary images: z -> linear -> reshape to maps -> ELU -> PixelCNN, Bernoulli pixels. With
    another law, it decodes other images; the channels of a pixel then see what the law lets them see of each other.

    Arguments:
        image_shape: (channel, height, width), any size.
        latent_dim: length of a code.
        channels: of the PixelCNN, even (paper: 64).
        kernel_sizes: odd; their sum limits how far a pixel can see (paper: `PAPER_SMALL` or `PAPER_LARGE`).
        condition_channels: number of maps computed from z (paper: 4).
        skip_connections: whether every layer sees those maps, instead of only the first.
        law: distribution of the pixels given their parameters.
    """
    check_latent_dim(latent_dim)
    image_channels, height, width = image_shape
    to_maps = nn.Sequential(
        linear(latent_dim, condition_channels * height * width),
        nn.Unflatten(1, (condition_channels, height, width)),
        nn.ELU(),
    )
    network = PixelCNN(
        condition_channels, channels, kernel_sizes, skip_connections, image_channels, law.maps(image_channels)
    )
    return AutoregressiveDecoder(to_maps, network, law, image_shape)


def mlp_decoder(
    image_shape: ImageShape,
    latent_dim: int,
    hidden_features: Sequence[int] = (500,),
    skip_connections: bool = False,
    law: PixelLaw = bernoulli_pixels,
) -> IndependentDecoder:
    """Builds a fully connected decoder with ELU and independent pixels, for images of any size and number of channels."""
    check_latent_dim(latent_dim)
    stages = [[linear(i, o), nn.ELU()] for i, o in pairwise([latent_dim, *hidden_features])]
    features, maps = [latent_dim, *hidden_features][-1], (law.maps(image_shape[0]), *image_shape[1:])
    stages.append([linear(features, math.prod(maps)), nn.Unflatten(1, maps)])
    return IndependentDecoder(stages_body(stages, latent_dim, hidden_features, skip_connections), law)


def convnet_decoder(
    image_shape: ImageShape,
    latent_dim: int,
    channels: Sequence[int] = (64, 32),
    skip_connections: bool = False,
    law: PixelLaw = bernoulli_pixels,
) -> IndependentDecoder:
    """Builds a plain convolutional decoder with independent pixels: linear to maps of the smallest size, then a transposed
    3x3 convolution that doubles the size for each entry of `channels` (in the order in which they are applied)."""
    check_latent_dim(latent_dim)
    check_halvings(image_shape, len(channels), "convnet decoder")
    sizes = halved(image_shape[1:], len(channels))[::-1]
    smallest = (channels[0], *sizes[0])
    stages: list[list[nn.Module]] = [[linear(latent_dim, math.prod(smallest)), nn.Unflatten(1, smallest)]]
    widths = [*channels, law.maps(image_shape[0])]
    for (i, o), (size, target) in zip(pairwise(widths), pairwise(sizes), strict=True):
        stages.append([nn.ELU(), conv2d_to(i, o, 3, size, target)])
    return IndependentDecoder(stages_body(stages, latent_dim, channels, skip_connections), law)


def resnet_decoder(
    image_shape: ImageShape,
    latent_dim: int,
    channels: Sequence[int] = (64, 64, 32),
    skip_connections: bool = False,
    law: PixelLaw = bernoulli_pixels,
) -> IndependentDecoder:
    """Builds the paper's decoder with independent pixels (its ResNet-VAE baseline), for any size: a transposed convolution
    from the code to maps of the smallest size, ELU, and a residual block that doubles the size for each entry of
    `channels`."""
    check_latent_dim(latent_dim)
    check_halvings(image_shape, len(channels), "resnet decoder")
    sizes = halved(image_shape[1:], len(channels))[::-1]
    start = weight_norm(nn.ConvTranspose2d(latent_dim, channels[0], sizes[0]))
    stages: list[list[nn.Module]] = [[nn.Unflatten(1, (latent_dim, 1, 1)), start, nn.ELU()]]
    widths = [*channels, law.maps(image_shape[0])]
    for (i, o), (size, target) in zip(pairwise(widths), pairwise(sizes), strict=True):
        stages.append([UpBlock(i, o, size, target)])
    return IndependentDecoder(stages_body(stages, latent_dim, channels, skip_connections), law)


def colour_resnet_decoder(
    image_shape: ImageShape,
    latent_channels: int,
    channels: int = 48,
    blocks: Sequence[int] = (3, 2, 2),
    law: PixelLaw = ten_logistics_pixels,
) -> IndependentDecoder:
    """Builds the released code's decoder of colour images with independent pixels: maps -> 1x1 -> residual blocks, doubling
    between sizes -> parameters of a discretised logistic mixture for each pixel. It decodes any number of channels.

    Arguments:
        image_shape: (channel, height, width), divisible by 2^(len(blocks) - 1).
        latent_channels: of the code's maps.
        channels: at the largest size; smaller sizes have twice as many.
        blocks: residual blocks at each size, the smallest first.
        law: distribution of the pixels given their parameters.
    """
    check_latent_dim(latent_channels)
    smallest = check_divisible(image_shape, len(blocks) - 1, "colour resnet decoder")
    sizes = halved(image_shape[1:], len(blocks) - 1)[::-1]
    widths = [2 * channels] * (len(blocks) - 1) + [channels]
    layers: list[nn.Module] = [conv2d_to(latent_channels, widths[0], 1, smallest, smallest), nn.ELU()]
    for level, count in enumerate(blocks):
        if level:
            layers += [conv2d_doubling(widths[level - 1], widths[level]), nn.ELU()]
        layers += [UpBlock(widths[level], widths[level], sizes[level], sizes[level]) for _ in range(count)]
    layers.append(conv2d(channels, law.maps(image_shape[0]), 1))
    return IndependentDecoder(nn.Sequential(*layers), law, latent_ndim=3)


def pixelcnnpp_decoder(
    image_shape: ImageShape,
    latent_channels: int,
    channels: int = 96,
    levels: int = 3,
    blocks: int = 6,
    condition_channels: int = 16,
    dropout: float = 0.5,
    concatenated: bool = True,
    doublings: int = 2,
    law: PixelLaw = ten_logistics_pixels,
) -> AutoregressiveDecoder:
    """Builds the paper's decoder of colour images: maps z are doubled to the image's size, halving their channels, and
    condition a PixelCNN++ with a discretised logistic mixture for each pixel. It decodes any number of channels.

    Arguments:
        image_shape: (channel, height, width), divisible by 2^(levels - 1) and 2^doublings.
        latent_channels: of the code's maps, divisible by 2^doublings.
        channels: of the PixelCNN++, like levels, blocks, dropout and concatenated; see `PixelCNNPP`.
        condition_channels: of the maps h that accompany the image.
        doublings: how often the code's maps are doubled to reach the image's size.
        law: distribution of the pixels given their parameters.
    """
    check_latent_dim(latent_channels)
    check_divisible(image_shape, max(levels - 1, doublings), "PixelCNN++ decoder")
    if latent_channels % 2**doublings:
        raise InputError(
            f"latent_channels: expected a number divisible by {2**doublings}, as they are halved {doublings} times on the "
            f"way to the image's size, got {latent_channels}.",
            topic="image-shape",
        )
    widths = [latent_channels // 2**level for level in range(doublings + 1)]
    enlarge = [layer for i, o in pairwise(widths) for layer in (conv2d_doubling(i, o), nn.ELU())]
    to_maps = nn.Sequential(*enlarge, conv2d(widths[-1], condition_channels, 1))
    maps = law.maps(image_shape[0])
    network = PixelCNNPP(condition_channels, maps, channels, levels, blocks, dropout, concatenated, image_shape[0])
    return AutoregressiveDecoder(to_maps, network, law, image_shape, latent_ndim=3)
