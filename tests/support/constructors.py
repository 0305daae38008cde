"""Tables for testing laws: every encoder, decoder, prior and flow, at a size suitable for tests.

A new part adds one line here; every law of `test_laws.py` (and of the file for its family) is then tested on it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from mpdvae.distributions.pixel_laws import (
    categorical_pixels,
    discretised_logistic_pixels,
    gaussian_pixels,
    logistic_mixture_pixels,
)
from mpdvae.models.decoders import (
    colour_resnet_decoder,
    convnet_decoder,
    mlp_decoder,
    pixelcnn_decoder,
    pixelcnnpp_decoder,
    resnet_decoder,
)
from mpdvae.models.encoders import (
    ImageShape,
    colour_resnet_encoder,
    convnet_encoder,
    densenet_encoder,
    mlp_encoder,
    resnet_encoder,
)
from mpdvae.models.flows import AutoregressiveFlow, map_flow, vector_flow
from mpdvae.models.injective import injective_decoder, injective_pixelcnn_decoder
from mpdvae.models.posterior_heads import BatchNormHead, DeltaHead, DUHead
from mpdvae.models.priors import AR1Prior, FlowPrior, StandardNormal


@dataclass(frozen=True)
class Images:
    """How to build a part that processes images, the shapes it accepts, and those it rejects, with the message."""

    build: Callable[[ImageShape, int], nn.Module]
    """Builds the part from the image shape and the latent dimension."""
    takes: tuple[ImageShape, ...]
    refuses: tuple[tuple[ImageShape, str], ...] = ()


ANY_SIZE = ((1, 2, 2), (1, 5, 4), (3, 7, 6), (1, 8, 8))
FROM_THREE = ((1, 3, 3), (1, 5, 4), (3, 7, 6), (1, 8, 8))
FROM_FIVE = ((1, 5, 5), (3, 7, 6), (1, 8, 8), (1, 9, 13))
GREY = ((1, 1, 3), (1, 2, 2), (1, 5, 4), (1, 8, 8))
ONE_ROW = (((1, 1, 8), "at least 2x2 pixels, got 1x8"),)
TWO_BY_TWO = (((1, 2, 8), "at least 3x3 pixels, got 2x8"), ((3, 8, 2), "at least 3x3 pixels, got 8x2"))
FOUR_BY_FOUR = (((1, 4, 4), "at least 5x5 pixels, got 4x4"),)

ENCODERS = {
    "mlp": Images(lambda shape, n: mlp_encoder(shape, n, (7,)), ANY_SIZE),
    "mlp-linear": Images(lambda shape, n: mlp_encoder(shape, n, ()), ANY_SIZE),
    "convnet-1": Images(lambda shape, n: convnet_encoder(shape, n, (4,)), ANY_SIZE, ONE_ROW),
    "convnet-2": Images(lambda shape, n: convnet_encoder(shape, n, (4, 6)), FROM_THREE, TWO_BY_TWO),
    "resnet-1": Images(lambda shape, n: resnet_encoder(shape, n, (4,), 8), ANY_SIZE, ONE_ROW),
    "resnet-3": Images(lambda shape, n: resnet_encoder(shape, n, (4, 6, 6), 8), FROM_FIVE, FOUR_BY_FOUR),
}

HEADED_ENCODERS = {
    "mlp-delta": Images(lambda shape, n: mlp_encoder(shape, n, (7,), head=DeltaHead(0.3, (n,))), ANY_SIZE),
    "mlp-batch-norm": Images(lambda shape, n: mlp_encoder(shape, n, (7,), head=BatchNormHead(n, 0.7)), ANY_SIZE),
    "convnet-du": Images(lambda shape, n: convnet_encoder(shape, n, (4,), head=DUHead(n, 0.7, 0.4)), ANY_SIZE),
}
"""Encoders with a head other than the plain Gaussian one."""

TWO_LOGISTICS = logistic_mixture_pixels(2)

DECODERS = {
    "mlp": Images(lambda shape, n: mlp_decoder(shape, n, (7,)), ANY_SIZE),
    "convnet-1": Images(lambda shape, n: convnet_decoder(shape, n, (4,)), ANY_SIZE, ONE_ROW),
    "convnet-2": Images(lambda shape, n: convnet_decoder(shape, n, (6, 4)), FROM_THREE, TWO_BY_TWO),
    "resnet-1": Images(lambda shape, n: resnet_decoder(shape, n, (4,)), ANY_SIZE, ONE_ROW),
    "resnet-3": Images(lambda shape, n: resnet_decoder(shape, n, (6, 6, 4)), FROM_FIVE, FOUR_BY_FOUR),
    "pixelcnn-one-layer": Images(lambda shape, n: pixelcnn_decoder(shape, n, 4, (5,), 2), GREY),
    "pixelcnn-two-layers": Images(lambda shape, n: pixelcnn_decoder(shape, n, 4, (3, 5), 2), GREY),
    "mlp-skip": Images(lambda shape, n: mlp_decoder(shape, n, (7, 6), True), ANY_SIZE),
    "convnet-skip": Images(lambda shape, n: convnet_decoder(shape, n, (6, 4), True), FROM_THREE, TWO_BY_TWO),
    "resnet-skip": Images(lambda shape, n: resnet_decoder(shape, n, (6, 4), True), FROM_THREE, TWO_BY_TWO),
    "pixelcnn-z-everywhere": Images(lambda shape, n: pixelcnn_decoder(shape, n, 4, (5, 3, 3, 3), 2, True), GREY),
    "injective": Images(lambda shape, n: injective_decoder(shape, n, 6, 2, 0.5), ANY_SIZE),
    "injective-pixelcnn": Images(lambda shape, n: injective_pixelcnn_decoder(shape, n, 4, (5, 3), 6, 1), GREY),
    "pixelcnn-skips": Images(lambda shape, n: pixelcnn_decoder(shape, n, 4, (5, 3, 3, 1, 3), 2), GREY),
}

LEVEL_DECODERS = {
    "mlp": Images(lambda shape, n: mlp_decoder(shape, n, (7,), law=discretised_logistic_pixels), ANY_SIZE),
    "convnet": Images(lambda shape, n: convnet_decoder(shape, n, (6, 4), law=discretised_logistic_pixels), FROM_THREE),
    "resnet-skip": Images(
        lambda shape, n: resnet_decoder(shape, n, (6, 4), True, discretised_logistic_pixels), FROM_THREE
    ),
    "categorical": Images(lambda shape, n: mlp_decoder(shape, n, (7,), law=categorical_pixels()), ((2, 2, 2),)),
}
"""Decoders with independent pixels of 256 levels, grey or colour."""

AUTOREGRESSIVE_LAWS = {
    "discretised-logistic-mixture": TWO_LOGISTICS,
    "categorical": categorical_pixels(),
    "gaussian": gaussian_pixels,
}
AUTOREGRESSIVE_DECODERS = {
    f"pixelcnn-{name}": Images(
        lambda shape, n, law=law: pixelcnn_decoder(shape, n, 4, (5, 3), 2, law=law), ((1, 5, 4), (2, 3, 3), (3, 5, 4))
    )
    for name, law in AUTOREGRESSIVE_LAWS.items()
} | {
    f"injective-pixelcnn-{name}": Images(
        lambda shape, n, law=law: injective_pixelcnn_decoder(shape, n, 4, (5, 3), 6, law=law), ((1, 5, 4), (3, 5, 4))
    )
    for name, law in AUTOREGRESSIVE_LAWS.items()
    if name != "categorical"
}
"""PixelCNN decoders of other than binary pixels."""

FLOWS: dict[str, Callable[[int], AutoregressiveFlow]] = {
    "affine": lambda n: vector_flow(n, blocks=2, hidden_features=3 * n),
    "mean-only": lambda n: vector_flow(n, blocks=2, hidden_features=3 * n, mean_only=True),
    "deep": lambda n: vector_flow(n, blocks=1, hidden_features=3 * n, hidden_layers=2),
}

# Parts whose codes are maps, with latent_dim channels and the image's size halved as often as stated for the part

MAP_CHANNELS = 4
HALVED_ONCE = (((3, 7, 8), "divisible by 2, got 7x8"),)
HALVED_TWICE = (((3, 8, 6), "divisible by 4, got 8x6"), ((3, 9, 8), "divisible by 4, got 9x8"))

MAP_ENCODERS: dict[str, tuple[int, Images]] = {
    "densenet-1": (0, Images(lambda s, n: densenet_encoder(s, n, ((3, 2),), 5), ((1, 2, 2), (3, 5, 4)))),
    "densenet-3": (
        2,
        Images(lambda s, n: densenet_encoder(s, n, ((2, 1), (3, 2), (2, 1)), 5), ((3, 8, 4),), HALVED_TWICE),
    ),
    "colour-resnet-2": (1, Images(lambda s, n: colour_resnet_encoder(s, n, 4, (2, 1)), ((3, 4, 6),), HALVED_ONCE)),
    "colour-resnet-3": (2, Images(lambda s, n: colour_resnet_encoder(s, n, 4, (1, 1, 2)), ((3, 8, 4),), HALVED_TWICE)),
}
"""Number of halvings, and the encoder."""

MAP_DECODERS: dict[str, tuple[int, Images]] = {
    "colour-resnet-2": (
        1,
        Images(lambda s, n: colour_resnet_decoder(s, n, 4, (1, 2), TWO_LOGISTICS), ((3, 4, 6), (1, 4, 6))),
    ),
    "colour-resnet-3": (
        2,
        Images(lambda s, n: colour_resnet_decoder(s, n, 4, (2, 1, 1), TWO_LOGISTICS), ((3, 8, 4),), HALVED_TWICE),
    ),
    "pixelcnn++-1": (
        0,
        Images(
            lambda s, n: pixelcnnpp_decoder(s, n, 4, 1, 2, 2, doublings=0, law=TWO_LOGISTICS),
            ((3, 3, 2), (1, 3, 2), (4, 3, 2)),
        ),
    ),
    "pixelcnn++-2": (
        1,
        Images(
            lambda s, n: pixelcnnpp_decoder(s, n, 4, 2, 1, 2, doublings=1, law=TWO_LOGISTICS),
            ((3, 4, 6), (2, 4, 6)),
            HALVED_ONCE,
        ),
    ),
    "pixelcnn++-3-elu": (
        2,
        Images(
            lambda s, n: pixelcnnpp_decoder(s, n, 4, 3, 1, 2, concatenated=False, doublings=2, law=TWO_LOGISTICS),
            ((3, 8, 4),),
            HALVED_TWICE,
        ),
    ),
}
"""Number of doublings, and the decoder."""

MAP_FLOWS: dict[str, Callable[[int], AutoregressiveFlow]] = {
    "affine": lambda n: map_flow(n, blocks=2, hidden_channels=6),
    "mean-only": lambda n: map_flow(n, blocks=2, hidden_channels=6, mean_only=True),
    "shallow": lambda n: map_flow(n, blocks=1, hidden_channels=6, hidden_layers=0),
    "wide": lambda n: map_flow(n, blocks=1, hidden_channels=6, hidden_layers=1, kernel_size=5),
}
"""Flows over maps, built from the number of channels."""

PRIORS: dict[str, Callable[[int], nn.Module]] = {
    "standard-normal": lambda n: StandardNormal((n,)),
    **{f"flow-{name}": lambda n, build=build: FlowPrior(build(n), (n,)) for name, build in FLOWS.items()},
    "ar1": lambda n: AR1Prior((n,), 0.6),
}


def with_shapes(table: dict[str, Images], only: ImageShape | None = None) -> list:
    """Returns test parameters (build, image shape): everything in `table` with every shape it accepts, or just `only`."""
    return [
        pytest.param(images.build, shape, id=f"{name}-{'x'.join(map(str, shape))}")
        for name, images in table.items()
        for shape in images.takes
        if only is None or shape == only
    ]


def with_refusals(table: dict[str, Images]) -> list:
    """Returns test parameters (build, image shape, message): everything in `table` with every shape it rejects."""
    return [
        pytest.param(images.build, shape, message, id=f"{name}-{'x'.join(map(str, shape))}")
        for name, images in table.items()
        for shape, message in images.refuses
    ]


def with_maps(table: dict[str, tuple[int, Images]]) -> list:
    """Returns test parameters (build, image shape, shape of codes): everything in a table of parts whose codes are maps."""
    return [
        pytest.param(
            lambda images=images, shape=shape: images.build(shape, MAP_CHANNELS),
            shape,
            (MAP_CHANNELS, *(size >> halvings for size in shape[1:])),
            id=f"{name}-{'x'.join(map(str, shape))}",
        )
        for name, (halvings, images) in table.items()
        for shape in images.takes
    ]


def colour_images(*shape: int) -> torch.Tensor:
    """Returns random images with 256 levels in [-1, 1]."""
    return torch.randint(256, shape).to(torch.get_default_dtype()) / 127.5 - 1


def by_name(table: dict[str, Callable[[int], nn.Module]]) -> list:
    """Returns test parameters (build): everything in `table`."""
    return [pytest.param(build, id=name) for name, build in table.items()]


def shaken(module: nn.Module, by: float = 0.3) -> nn.Module:
    """Adds noise of standard deviation `by` to the parameters of `module`, and returns it. This breaks the symmetry of the
    initial values, with which a wrong formula can be right by chance."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return module


def binary_images(*shape: int) -> torch.Tensor:
    """Returns random images of zeros and ones."""
    return torch.randint(2, shape).to(torch.get_default_dtype())


def all_binary_images(height: int, width: int) -> torch.Tensor:
    """Returns all binary images, [2^(height*width) 1 height width], counting up with the first pixel as highest bit."""
    pixels = height * width
    bits = torch.arange(2**pixels)[:, None] >> torch.arange(pixels - 1, -1, -1) & 1
    return bits.reshape(-1, 1, height, width).to(torch.get_default_dtype())


def parameters_of(modules: Iterable[nn.Module]) -> int:
    """Returns the number of learned values."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
