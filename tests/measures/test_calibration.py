"""The correction of log-weights from an imprecise decoder: oracles are exact log-weights, and a decoder in float64."""

import copy
import math
from functools import partial

import pytest
import torch
from known_models import images, linear_gaussian
from torch import Tensor, nn
from torch.distributions import Distribution

from mpdvae.measures import density
from mpdvae.measures.calibration import corrected, offset, remaining_error, shift
from mpdvae.measures.density_summary import summarise
from mpdvae.measures.importance_sampling import NOISE_BLOCK, PAIRED
from mpdvae.measures.importance_weights import log_mean
from mpdvae.measures.memory_use import LiveBytes
from mpdvae.models.acceleration import run_in_bfloat16
from mpdvae.models.decoders import IndependentDecoder, pixelcnn_decoder
from mpdvae.models.encoders import mlp_encoder
from mpdvae.models.priors import StandardNormal
from mpdvae.seeding import seeded
from mpdvae.vae import VAE

SAMPLES, IMAGES = 512, 400

estimate = partial(density.estimate, proposal="encoder")


class Off(nn.Module):
    """A decoder whose log-likelihoods are wrong: by a constant, and by noise that is a function of z."""

    def __init__(self, decoder: nn.Module, constant: float = 0.0, noise: float = 0.0) -> None:
        super().__init__()
        self.decoder, self.constant, self.noise = decoder, constant, noise

    def forward(self, z: Tensor) -> Distribution:
        p = self.decoder(z)
        right = p.log_prob
        p.log_prob = lambda x: right(x) + self.constant + self.noise * (1e4 * z.sum(-1)).sin()
        return p


def weights(spread: float = 1.5, error: float = 0.1, constant: float = 0.7) -> tuple[Tensor, Tensor, Tensor]:
    """Returns imprecise, known and all exact log-weights [sample image]."""
    with seeded("log-weights"):
        exact = spread * torch.randn(SAMPLES, IMAGES, dtype=torch.float64) - 90
        raw = exact + constant + error * torch.randn_like(exact)
    known = torch.where((torch.arange(SAMPLES) % NOISE_BLOCK < PAIRED)[:, None], exact, math.nan)
    return raw, known, exact


def test_a_constant_error_vanishes():
    raw, known, exact = weights(error=0.0)
    torch.testing.assert_close(corrected(raw, known), exact)
    torch.testing.assert_close(offset(raw, known), torch.full((IMAGES,), -0.7, dtype=torch.float64))
    assert remaining_error(raw, known).max() < 1e-10
    assert shift(raw, known).abs().max() < 1e-10


@pytest.mark.parametrize("spread", [0.1, 1.5])
@pytest.mark.parametrize("error", [0.01, 0.1])
def test_the_remaining_error_is_as_large_as_stated(spread, error):
    raw, known, exact = weights(spread, error)
    found = log_mean(corrected(raw, known)) - log_mean(exact)
    stated = remaining_error(raw, known)
    assert found.square().mean().sqrt() == pytest.approx(stated.square().mean().sqrt().item(), rel=0.15)
    assert corrected(raw, known).mean().item() == pytest.approx(
        exact.mean().item(), abs=4 * error / math.sqrt(32 * IMAGES)
    )


def test_an_error_that_depends_on_the_weight_is_seen_in_the_shift():
    """It is the same for all images, and no correction of a mean removes it."""
    raw, known, exact = weights(error=0.0)
    raw = raw + 0.05 * (exact + 90)
    found = (log_mean(corrected(raw, known)) - log_mean(exact)).mean().item()
    assert found > 0.05
    assert shift(raw, known).mean().item() == pytest.approx(found, rel=0.25)
    raw, known, _ = weights(error=0.1)
    assert abs(shift(raw, known).mean().item()) < 0.01


def test_without_known_weights_nothing_is_corrected_and_no_error_stated():
    raw, _, exact = weights()
    none = torch.full_like(raw, math.nan)
    assert torch.equal(corrected(raw, none), raw)
    one = none.clone()
    one[0] = exact[0]
    for unknown in (none, one):
        assert remaining_error(raw, unknown).isnan().all()
        assert shift(raw, unknown).isnan().all()
    assert torch.equal(corrected(raw, exact), exact)
    assert remaining_error(raw, exact).max() == 0


# -- in an estimate ----------------------------------------------------------------------------------------------------


def test_an_exact_stand_in_changes_nothing():
    vae, law = linear_gaussian(widened=1.3)
    x = images(law, 20)
    plain, other = estimate(vae, x, 200), estimate(vae, x, 200, approximate=copy.deepcopy(vae.decoder))
    for name, value in plain.tensors().items():
        if name != "decoder_evaluations" and not name.startswith("approximation"):
            torch.testing.assert_close(getattr(other, name), value, equal_nan=True)
    assert plain.approximation_error.isnan().all()
    assert other.approximation_error.max() < 1e-10
    assert "approximation" not in summarise(plain)
    assert summarise(other)["approximation"]["error_per_image_nats"] < 1e-10


@pytest.mark.parametrize("tolerance", [None, 0.1])
def test_a_constant_error_of_a_decoder_changes_nothing(tolerance):
    vae, law = linear_gaussian(widened=1.3)
    x = images(law, 20)
    plain = estimate(vae, x, 500, tolerance=tolerance)
    other = estimate(vae, x, 500, tolerance=tolerance, approximate=Off(vae.decoder, constant=3.0))
    for name in ("log_prob", "elbo", "reconstruction", "kl", "standard_error", "samples_drawn", "bounds"):
        torch.testing.assert_close(getattr(other, name), getattr(plain, name), equal_nan=True)


def test_the_error_of_a_noisy_decoder_is_stated():
    vae, law = linear_gaussian(widened=1.3)
    x = images(law, 300)
    plain, other = estimate(vae, x, 256), estimate(vae, x, 256, approximate=Off(vae.decoder, noise=0.3))
    found = (other.log_prob - plain.log_prob).square().mean().sqrt().item()
    assert other.approximation_error.square().mean().sqrt().item() == pytest.approx(found, rel=0.2)
    assert summarise(other)["approximation"]["error_per_image_nats"] == pytest.approx(found, rel=0.2)


def test_the_budget_is_kept_and_changes_nothing():
    vae, law = linear_gaussian(widened=1.3)
    x, decoder = images(law, 37), Off(vae.decoder, noise=0.3)
    whole = estimate(vae, x, 150, approximate=decoder)
    for budget in (230_000, 500_000):
        with LiveBytes() as live:
            parts = estimate(vae, x, 150, budget, approximate=decoder)
        assert live.peak < budget
        torch.testing.assert_close(parts.log_prob, whole.log_prob, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(parts.approximation_error, whole.approximation_error, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(estimate(vae, x[:5], 150, approximate=decoder).log_prob, whole.log_prob[:5])


@pytest.mark.parametrize("kind", ["pixelcnn", "independent"])
def test_bfloat16_is_near_a_decoder_in_float64(kind):
    """The oracle decodes the same codes, from the same noise, in float64."""
    with seeded("model"):
        if kind == "pixelcnn":
            decoder = pixelcnn_decoder((1, 8, 8), 4, 8, (5, 3))
        else:
            decoder = IndependentDecoder(nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, (1, 8, 8))))
        vae = VAE(mlp_encoder((1, 8, 8), 4), decoder, StandardNormal((4,)))
        x = (torch.rand(30, 1, 8, 8) < 0.3).float()
    precise, rough = copy.deepcopy(vae.decoder).double(), copy.deepcopy(vae.decoder)
    run_in_bfloat16(rough)

    class InDouble(nn.Module):
        def forward(self, z: Tensor) -> Distribution:
            p = precise(z.double())
            right = p.log_prob
            p.log_prob = lambda x: right(x.double())
            return p

    oracle = estimate(VAE(vae.encoder, InDouble(), vae.prior), x, 256)
    for name, bound in (("float32", 1e-4), ("bfloat16", 0.02)):
        found = estimate(vae, x, 256, approximate=rough if name == "bfloat16" else None)
        assert found.log_prob.dtype == found.reconstruction.dtype == torch.float64
        difference = (found.log_prob - oracle.log_prob).square().mean().sqrt().item()
        assert difference < bound
    assert difference > 1e-6  # bfloat16 was used
    assert difference < 0.1 * oracle.standard_error.median().item()
    assert found.approximation_error.square().mean().sqrt().item() == pytest.approx(difference, rel=0.5)
