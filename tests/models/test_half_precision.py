"""Every part in the precisions in which programs run it: within autocast, and converted to half or double precision."""

from contextlib import nullcontext

import pytest
import torch
from constructors import (
    AUTOREGRESSIVE_DECODERS,
    DECODERS,
    ENCODERS,
    HEADED_ENCODERS,
    LEVEL_DECODERS,
    MAP_CHANNELS,
    MAP_DECODERS,
    MAP_ENCODERS,
    MAP_FLOWS,
    PRIORS,
    binary_images,
    by_name,
    colour_images,
)

from mpdvae.errors import InputError
from mpdvae.models.decoders import mlp_decoder
from mpdvae.models.encoders import mlp_encoder
from mpdvae.models.priors import FlowPrior, StandardNormal
from mpdvae.networks.masked import MaskedLinear
from mpdvae.vae import VAE

LATENT = 3
GREY, WITH_MAPS = (1, 5, 5), (3, 8, 4)
PRECISIONS = {
    "autocast-bfloat16": (torch.float32, torch.bfloat16),
    "float16": (torch.float16, None),
    "bfloat16": (torch.bfloat16, None),
    "float64": (torch.float64, None),
}
"""The precision of the weights, and that of autocast."""
HALF = (torch.float16, torch.bfloat16)
each_precision = pytest.mark.parametrize("precision", PRECISIONS)


def an_encoder(shape=GREY):
    return mlp_encoder(shape, LATENT, (7,))


def a_decoder():
    return mlp_decoder(GREY, LATENT, (7,))


def normal():
    return StandardNormal((LATENT,))


def check(vae: VAE, x: torch.Tensor, precision: str) -> None:
    """Asserts that all that a model gives is finite; that a model of levels has no likelihood in half precision and says
    so."""
    dtype, cast = PRECISIONS[precision]
    vae = vae.eval().to(dtype)
    with nullcontext() if cast is None else torch.autocast("cpu", cast):
        z = vae.encode(x)
        drawn = [z, vae.sample(2), vae.decode(z), vae.decode(z, greedy=False), vae.reconstruct(x)]
        assert all(values.isfinite().all() for values in drawn)
        for measured in (vae.elbo, vae.log_weights, vae.importance_weighted_bound, lambda x: vae(x).elbo):
            if vae.decoder.support.check(x.to(dtype)).all():
                assert measured(x).isfinite().all()
            else:  # the levels are no longer exact
                assert dtype in HALF
                with pytest.raises(InputError, match=r"levels .*, got them in torch\.b?float16, .* vae\.float\(\)"):
                    measured(x)


@each_precision
@pytest.mark.parametrize("name", ENCODERS | HEADED_ENCODERS)
def test_encoders(name, precision):
    encoder = (ENCODERS | HEADED_ENCODERS)[name].build(GREY, LATENT)
    check(VAE(encoder, a_decoder(), normal()), binary_images(3, *GREY), precision)


@each_precision
@pytest.mark.parametrize("name", DECODERS)
def test_decoders_of_black_and_white(name, precision):
    check(VAE(an_encoder(), DECODERS[name].build(GREY, LATENT), normal()), binary_images(3, *GREY), precision)


@each_precision
@pytest.mark.parametrize("name", LEVEL_DECODERS | AUTOREGRESSIVE_DECODERS)
def test_decoders_of_levels(name, precision):
    images = (LEVEL_DECODERS | AUTOREGRESSIVE_DECODERS)[name]
    shape = images.takes[0]
    check(VAE(an_encoder(shape), images.build(shape, LATENT), normal()), colour_images(3, *shape), precision)


@each_precision
@pytest.mark.parametrize("build", by_name(PRIORS))
def test_priors(build, precision):
    check(VAE(an_encoder(), a_decoder(), build(LATENT)), binary_images(3, *GREY), precision)


@each_precision
@pytest.mark.parametrize("build", by_name(MAP_FLOWS))
def test_priors_of_maps(build, precision):
    encoder, decoder = MAP_ENCODERS["densenet-3"][1], MAP_DECODERS["colour-resnet-3"][1]
    prior = FlowPrior(build(MAP_CHANNELS), (MAP_CHANNELS, 2, 1))
    vae = VAE(encoder.build(WITH_MAPS, MAP_CHANNELS), decoder.build(WITH_MAPS, MAP_CHANNELS), prior)
    check(vae, colour_images(3, *WITH_MAPS), precision)


@pytest.mark.parametrize("dtype", HALF)
def test_codes_are_drawn_within_autocast_as_without_it(dtype):
    """Numbers that depend on each other, site by site, are not computed in half precision."""
    prior = PRIORS["flow-affine"](LATENT)
    u = torch.randn(5, LATENT)
    with torch.autocast("cpu", dtype):
        z = prior.flow.from_base(u)
    assert torch.equal(z, prior.flow.from_base(u))


def test_masked_weights_in_float16_are_those_of_float32_rounded():
    mask = torch.tensor([[0.0, 0.0], [1.0, 0.0]])  # the first unit sees nothing
    layer = MaskedLinear(mask)
    expected = layer.weight
    torch.testing.assert_close(layer.half().weight, expected.half(), rtol=2e-3, atol=0)
