"""Latent reconstruction: zero where a code comes back from its image, and not where a decoder merges codes."""

import math

import pytest
import torch
from constructors import AUTOREGRESSIVE_DECODERS, DECODERS, ENCODERS, TWO_LOGISTICS, binary_images, shaken
from torch import nn
from torch.distributions import Independent, Normal

from mpdvae.data.conditions import Condition
from mpdvae.errors import InputError
from mpdvae.models.decoders import mlp_decoder
from mpdvae.models.priors import StandardNormal
from mpdvae.objectives.latent_reconstruction import LatentReconstruction
from mpdvae.objectives.terms import KL, Objective, reconstruction
from mpdvae.vae import VAE

pytestmark = pytest.mark.usefixtures("float64")

SHAPE, LATENT = (1, 5, 4), 3


class Linear(nn.Module):
    """Gaussian pixels around a linear function of z."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, z: torch.Tensor) -> Independent:
        return Independent(Normal((z @ self.weight.mT).unflatten(-1, SHAPE), 0.1), 3)


class Inverse(nn.Module):
    """The mean is `inverse` times the pixels, the standard deviation 1 whatever the image."""

    def __init__(self, inverse: torch.Tensor) -> None:
        super().__init__()
        self.inverse = nn.Parameter(inverse)

    def forward(self, x: torch.Tensor) -> Independent:
        mean = x.flatten(1) @ self.inverse.mT
        return Independent(Normal(mean, torch.ones_like(mean)), 1)


def value_of(vae: VAE, x: torch.Tensor, weight: float = 1.0, samples: int = 1) -> torch.Tensor:
    return Objective({"latent": LatentReconstruction(weight)}, samples)(vae, x).total


def vae_with(decoder: str) -> VAE:
    parts = ENCODERS["mlp"].build(SHAPE, LATENT), (DECODERS | AUTOREGRESSIVE_DECODERS)[decoder].build(SHAPE, LATENT)
    return shaken(VAE(*parts, StandardNormal((LATENT,))))


def test_the_term_is_the_mean_squared_distance_of_codes_that_come_back():
    vae, x = vae_with("mlp"), binary_images(4, *SHAPE)
    torch.manual_seed(1)
    found = value_of(vae, x, weight=0.7, samples=2)
    torch.manual_seed(1)
    z = vae.encoder(x).rsample((2,))
    squares = [
        (z[s, i] - vae.encoder(torch.sigmoid(vae.decoder.body(z[s, i : i + 1]))).mean[0]).square().sum()
        for s in range(2)
        for i in range(4)
    ]
    torch.testing.assert_close(found, 0.7 * torch.stack(squares).mean())


def test_an_encoder_that_inverts_the_decoder_makes_it_vanish():
    weight = torch.randn(math.prod(SHAPE), LATENT)
    vae = VAE(Inverse(torch.linalg.pinv(weight)), Linear(weight), StandardNormal((LATENT,)))
    assert value_of(vae, torch.randn(8, *SHAPE)).item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_dimensions_that_the_decoder_ignores_cost_their_variance(kept):
    """With q(z|x) = N(m, I), each ignored dimension costs at least 1: no encoder finds what is not in the image."""
    weight = torch.randn(math.prod(SHAPE), LATENT)
    weight[:, kept:] = 0
    vae = VAE(Inverse(torch.linalg.pinv(weight)), Linear(weight), StandardNormal((LATENT,)))
    draws, ignored = 4_000, LATENT - kept
    found = value_of(vae, torch.randn(2, *SHAPE), samples=draws // 2).item()
    assert found == pytest.approx(ignored, abs=4 * math.sqrt(2 * ignored / draws))


@pytest.mark.parametrize("name", ["pixelcnn-two-layers", "pixelcnn-gaussian", "pixelcnn-categorical"])
def test_autoregressive_pixels_have_their_means_given_the_image_of_the_code(name):
    vae = vae_with(name)
    x = vae.sample(4)
    torch.manual_seed(1)
    found = value_of(vae, x)
    torch.manual_seed(1)
    z = vae.encoder(x).rsample((1,))
    p = vae.decoder(z)
    again = vae.encoder(p.law(p.parameters(x)).mean[0]).mean
    torch.testing.assert_close(found, (z[0] - again).square().sum(1).mean())


@pytest.mark.parametrize("name", ["mlp", "pixelcnn-two-layers", "pixelcnn-gaussian", "pixelcnn-categorical"])
def test_the_gradient_reaches_encoder_and_decoder(name):
    vae = vae_with(name)
    value_of(vae, vae.sample(4)).backward()
    for part, parameter in vae.named_parameters():
        in_the_mean = part != "decoder.shared"  # the standard deviation is not
        single = part.endswith("original1") and parameter[0].numel() == 1
        assert parameter.grad is not None, part
        assert single or (parameter.grad != 0).any() == in_the_mean, part


@pytest.mark.parametrize("name", ["mlp", "pixelcnn-two-layers"])
def test_the_decoder_computes_its_pixels_once_for_all_terms(name):
    vae, x = vae_with(name), binary_images(4, *SHAPE)
    network = getattr(vae.decoder, "network", None) or vae.decoder.body
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    Objective({"reconstruction": reconstruction, "kl": KL(), "latent": LatentReconstruction(1.0)})(vae, x)
    assert len(calls) == 1


def test_images_of_autoregressive_pixels_have_the_same_probability_pixel_by_pixel():
    """`given` is what `log_prob` evaluates."""
    decoder, x = shaken(DECODERS["pixelcnn-two-layers"].build(SHAPE, LATENT)), binary_images(4, *SHAPE)
    p = decoder(torch.randn(3, 4, LATENT))
    assert torch.equal(p.given(x).log_prob(x), p.log_prob(x))
    with pytest.raises(InputError, match="value: expected images of shape"):
        p.given(x[..., 1:])


def test_pixels_without_a_mean_are_refused():
    encoder = ENCODERS["mlp"].build(SHAPE, LATENT)
    vae = VAE(encoder, mlp_decoder(SHAPE, LATENT, (7,), law=TWO_LOGISTICS), StandardNormal((LATENT,)))
    with pytest.raises(InputError, match=r"the mean of p.*, which DiscretisedLogisticMixture has no formula for"):
        value_of(vae, vae.sample(2))
    with pytest.raises(InputError, match="latent_reconstruction_weight: a term needs a weight > 0, got 0"):
        LatentReconstruction(0.0)


def test_models_conditioned_on_classes_are_refused():
    vae = vae_with("mlp")
    vae.decoder.condition = Condition(classes=10)  # as those of conditional models
    with pytest.raises(InputError, match="decoded images have no condition, which this model is told"):
        value_of(vae, binary_images(2, *SHAPE))
