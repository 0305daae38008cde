"""Encoders q(z|x): a body that maps an image to numbers, and a head that interprets them as a diagonal Gaussian.

Every body maps [batch channel height width] to twice as many channels as a code has; the first half is the mean m, the
second log s^2. A code is a vector [latent_dim], or maps [latent_channels height width] for the colour encoders. Nothing is
squashed: m takes any real value, and so does log s^2, except in the colour encoders, which keep it within +-7 as the
released code does. Other heads, which commit the code to a rate, are in `mpdvae.models.posterior_heads`.

Kingma & Welling, "Auto-Encoding Variational Bayes", ICLR 2014, https://arxiv.org/abs/1312.6114.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from mpdvae.distributions.codes import diagonal_gaussian
from mpdvae.errors import InputError
from mpdvae.networks.blocks import DenseBlock, DownBlock, conv2d, halved, linear
from mpdvae.networks.weight_norm import weight_norm

ImageShape = tuple[int, int, int]
"""(channel, height, width)"""

COLOUR_LOG_VARIANCE_LIMIT = 7.0


class GaussianEncoder(nn.Module):
    """q(z|x) = N(m, diag s^2) with (m, log s^2) the two halves of `body(x)`.

    Arguments:
        body: images [batch channel height width] -> numbers [batch 2*latent ...].
        image_shape: shape of the images that it takes.
        log_variance_limit: log s^2 is kept within plus and minus this value; None: no limit.
        head: maps the two halves to (m, log s^2); None: they are used directly.
    """

    def __init__(
        self,
        body: nn.Module,
        image_shape: ImageShape,
        log_variance_limit: float | None = None,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.body, self.image_shape, self.log_variance_limit = body, image_shape, log_variance_limit
        self.head = head

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Distribution:
        mean, log_variance = self.moments(x)
        return diagonal_gaussian(mean, torch.exp(log_variance / 2))

    def moments(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> tuple[Float[Tensor, "batch *latent"], Float[Tensor, "batch *latent"]]:
        """Returns m and log s^2 of each image."""
        if x.shape[1:] != self.image_shape:
            raise InputError(
                f"x: this encoder takes images [batch, channel, height, width] with (channel, height, width) = "
                f"{self.image_shape}, got shape {tuple(x.shape)}.",
                topic="image-shape",
            )
        mean, log_variance = self.body(x).chunk(2, dim=1)
        if self.log_variance_limit is not None:
            log_variance = log_variance.clamp(-self.log_variance_limit, self.log_variance_limit)
        if self.head is not None:
            mean, log_variance = self.head(mean, log_variance)
        return mean, log_variance


def mlp_encoder(
    image_shape: ImageShape,
    latent_dim: int,
    hidden_features: Sequence[int] = (500,),
    log_variance_limit: float | None = None,
    head: nn.Module | None = None,
) -> GaussianEncoder:
    """Builds a fully connected encoder with ELU, for images of any size."""
    check_latent_dim(latent_dim)
    channels, height, width = image_shape
    features = [channels * height * width, *hidden_features]
    hidden = [layer for i, o in pairwise(features) for layer in (linear(i, o), nn.ELU())]
    return GaussianEncoder(
        nn.Sequential(nn.Flatten(), *hidden, linear(features[-1], 2 * latent_dim)),
        image_shape,
        log_variance_limit,
        head,
    )


def convnet_encoder(
    image_shape: ImageShape,
    latent_dim: int,
    channels: Sequence[int] = (32, 64),
    log_variance_limit: float | None = None,
    head: nn.Module | None = None,
) -> GaussianEncoder:
    """Builds a plain convolutional encoder: a 3x3 stride-2 convolution and an ELU per entry of `channels`, then linear."""
    check_latent_dim(latent_dim)
    smallest = check_halvings(image_shape, len(channels), "convnet encoder")
    layers: list[nn.Module] = []
    for i, o in pairwise([image_shape[0], *channels]):
        layers += [conv2d(i, o, 3, stride=2), nn.ELU()]
    features = channels[-1] * smallest[0] * smallest[1]
    return GaussianEncoder(
        nn.Sequential(*layers, nn.Flatten(), linear(features, 2 * latent_dim)), image_shape, log_variance_limit, head
    )


def resnet_encoder(
    image_shape: ImageShape,
    latent_dim: int,
    channels: Sequence[int] = (32, 64, 64),
    features: int = 512,
    log_variance_limit: float | None = None,
    head: nn.Module | None = None,
) -> GaussianEncoder:
    """Builds the paper's encoder of binary 28x28 images, for any size: a residual block of stride 2 for each entry of
    `channels`, a convolution over the whole remaining map to `features` numbers, ELU, linear."""
    check_latent_dim(latent_dim)
    smallest = check_halvings(image_shape, len(channels), "resnet encoder")
    blocks = [DownBlock(i, o, stride=2) for i, o in pairwise([image_shape[0], *channels])]
    whole = conv2d_over(channels[-1], features, smallest)
    body = nn.Sequential(*blocks, whole, nn.ELU(), nn.Flatten(), linear(features, 2 * latent_dim))
    return GaussianEncoder(body, image_shape, log_variance_limit, head)


def colour_resnet_encoder(
    image_shape: ImageShape,
    latent_channels: int,
    channels: int = 48,
    blocks: Sequence[int] = (2, 2, 3),
    log_variance_limit: float | None = COLOUR_LOG_VARIANCE_LIMIT,
    head: nn.Module | None = None,
) -> GaussianEncoder:
    """Builds the released code's residual encoder of 32x32 colour images, to maps: `blocks` residual blocks at each size, a
    strided convolution between sizes that doubles the channels once, then 1x1 to `channels`, ELU, 1x1.

    Codes have the shape (latent_channels, height, width), both sizes halved len(blocks) - 1 times.
    """
    check_latent_dim(latent_channels)
    check_divisible(image_shape, len(blocks) - 1, "colour resnet encoder")
    layers: list[nn.Module] = []
    width = image_shape[0]
    for level, count in enumerate(blocks):
        if level:
            layers += [conv2d(width, 2 * channels, 3, stride=2), nn.ELU()]
        out = channels if level == 0 else 2 * channels
        layers += [DownBlock(i, out, stride=1) for i in [width if level == 0 else out] + [out] * (count - 1)]
        width = out
    return _map_encoder(layers, width, channels, latent_channels, image_shape, log_variance_limit, head)


def densenet_encoder(
    image_shape: ImageShape,
    latent_channels: int,
    stages: Sequence[tuple[int, int]] = ((15, 3), (16, 3), (16, 6)),
    features: int = 96,
    log_variance_limit: float | None = COLOUR_LOG_VARIANCE_LIMIT,
    head: nn.Module | None = None,
) -> GaussianEncoder:
    """Builds the paper's encoder of colour images, to maps: a dense block (growth, steps) at each size, a strided
    convolution between sizes, then 1x1 to `features`, ELU, 1x1. 64x64 images: stages (15, 3), (16, 3), (16, 3), (16, 3).

    Codes have the shape (latent_channels, height, width), both sizes halved len(stages) - 1 times.
    """
    check_latent_dim(latent_channels)
    check_divisible(image_shape, len(stages) - 1, "densenet encoder")
    layers: list[nn.Module] = []
    width = image_shape[0]
    for level, (growth, steps) in enumerate(stages):
        if level:
            layers += [conv2d(width, width, 3, stride=2), nn.ELU()]
        block = DenseBlock(width, growth, steps)
        layers.append(block)
        width = block.out_channels
    return _map_encoder(layers, width, features, latent_channels, image_shape, log_variance_limit, head)


def _map_encoder(
    layers: list[nn.Module],
    width: int,
    features: int,
    latent_channels: int,
    image_shape: ImageShape,
    log_variance_limit: float | None,
    head: nn.Module | None,
) -> GaussianEncoder:
    last = [conv2d(width, features, 1), nn.ELU(), conv2d(features, 2 * latent_channels, 1)]
    return GaussianEncoder(nn.Sequential(*layers, *last), image_shape, log_variance_limit, head)


def conv2d_over(in_channels: int, out_channels: int, size: tuple[int, int]) -> nn.Conv2d:
    """Returns a weight-normalised convolution whose kernel covers maps of `size` entirely."""
    return weight_norm(nn.Conv2d(in_channels, out_channels, size))


def check_latent_dim(latent_dim: int) -> None:
    """Raises `InputError` unless a code has at least one number."""
    if latent_dim < 1:
        raise InputError(f"latent_dim: expected a number >= 1, got {latent_dim}.")


def check_divisible(image_shape: ImageShape, halvings: int, what: str) -> tuple[int, int]:
    """Returns (height, width) after exact halvings; raises `InputError` for sizes that are not divisible."""
    _, height, width = image_shape
    factor = 2**halvings
    if halvings < 0 or height % factor or width % factor:
        raise InputError(
            f"image_shape: a {what} with {halvings} halvings needs a height and width divisible by {factor}, got "
            f"{height}x{width}.",
            topic="image-shape",
        )
    return height // factor, width // factor


def check_halvings(image_shape: ImageShape, halvings: int, what: str) -> tuple[int, int]:
    """Returns (height, width) after `halvings` halvings, rounding up; raises `InputError` for images that would shrink
    below one pixel on the way."""
    if halvings < 1:
        raise InputError(f"channels: a {what} needs at least one entry, got none.")
    _, height, width = image_shape
    least = 2 ** (halvings - 1) + 1
    if min(height, width) < least:
        raise InputError(
            f"image_shape: a {what} with {halvings} halvings needs images of at least {least}x{least} pixels, got "
            f"{height}x{width}; give fewer channels entries, or larger images.",
            topic="image-shape",
        )
    return halved((height, width), halvings)[-1]
