"""Density estimates: what they are made of, how they are run and summarised, what is refused. Laws over models whose
likelihood is known are in test_density_laws.py."""

import json
import math
from functools import partial

import pytest
import torch
from known_models import images, known, linear_gaussian
from scipy.stats import genpareto
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from mpdvae.errors import InputError, RunError
from mpdvae.measures import density
from mpdvae.measures.density import DensityEstimate, pareto_shape
from mpdvae.measures.density_summary import summarise
from mpdvae.measures.memory_use import TRIAL, LiveBytes
from mpdvae.models.flows import vector_flow
from mpdvae.models.priors import FlowPrior
from mpdvae.seeding import seeded
from mpdvae.vae import VAE

estimate = partial(density.estimate, proposal="encoder")
"""Fitted proposals are in test_fitted_proposal.py."""


def test_exact_posterior_gives_the_likelihood_without_noise():
    vae, law = linear_gaussian()
    x = images(law, 20)
    e = estimate(vae, x, samples=30)
    torch.testing.assert_close(e.log_prob, law.log_prob(x.flatten(1)))
    torch.testing.assert_close(e.elbo, e.log_prob)
    assert e.standard_error.max() < 1e-10
    torch.testing.assert_close(e.effective_sample_size, torch.full((20,), 30.0, dtype=torch.float64))


def test_bounds_come_in_order_and_converge():
    vae, law = linear_gaussian(widened=1.5, shifted=0.2)
    x = images(law, 300)
    true = law.log_prob(x.flatten(1))
    few, many = estimate(vae, x, samples=4), estimate(vae, x, samples=2000)
    for e in (few, many):
        assert (e.elbo <= e.log_prob + 1e-12).all()
    gaps = [(true - bound).mean().item() for bound in (few.elbo, few.log_prob, many.log_prob)]
    assert gaps[0] > gaps[1] > gaps[2]
    assert abs(gaps[2]) < 0.01
    assert (true - many.log_prob).abs().max() < 6 * many.standard_error.max()


def test_rate_and_distortion_sum_to_the_negative_elbo():
    vae, law = linear_gaussian(widened=1.2)
    x = images(law, 50)
    e = estimate(vae, x, samples=3000)
    q = vae.encoder(x)
    torch.testing.assert_close(e.kl, vae.kl(q, q.sample((1,))))
    torch.testing.assert_close((e.kl + e.reconstruction).mean(), -e.elbo.mean(), atol=0.02, rtol=0)
    torch.testing.assert_close(e.bits_per_dim, -e.log_prob / (6 * math.log(2)))


def test_rate_under_a_flow_prior_comes_from_the_same_samples():
    vae, law = linear_gaussian(widened=1.2)
    vae = VAE(vae.encoder, vae.decoder, FlowPrior(vector_flow(3, blocks=1, hidden_features=8), (3,))).double()
    e = estimate(vae, images(law, 10), samples=100, memory_budget=200_000)
    torch.testing.assert_close(e.kl + e.reconstruction, -e.elbo)


def test_probabilities_of_all_binary_images_sum_to_one():
    model = known("binary")
    e = estimate(model.vae, model.x, samples=4000)
    p, error = e.log_prob.exp(), (e.log_prob.exp() * e.standard_error).square().sum().sqrt()
    assert p.sum() == pytest.approx(1, abs=4 * error.item())


def test_the_memory_budget_changes_nothing_and_is_kept():
    vae, law = linear_gaussian(widened=1.3)
    x = images(law, 37)
    calls: list[tuple[int, int]] = []
    whole = estimate(vae, x, samples=150)
    # Pieces of 48 samples of one image, of one image, and of two images.
    for budget in (170_000, 200_000, 500_000):
        calls.clear()
        with LiveBytes() as live:
            parts = estimate(vae, x, samples=150, memory_budget=budget, progress=lambda *call: calls.append(call))
        assert live.peak < budget
        assert len(calls) > 6
        assert calls == sorted(calls)
        assert calls[-1] == (37 * 150, 37 * 150)
        for name in ("log_prob", "elbo", "standard_error", "kl", "reconstruction", "effective_sample_size", "pareto_k"):
            torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-9, atol=1e-9)
    assert torch.equal(estimate(vae, x, samples=150).log_prob, whole.log_prob)
    assert not torch.equal(estimate(vae, x, samples=150, seed=1).log_prob, whole.log_prob)
    torch.testing.assert_close(estimate(vae, x[:5], samples=150).log_prob, whole.log_prob[:5])


def test_the_encoder_runs_once_and_modes_come_back():
    vae, law = linear_gaussian()
    vae.encoder.eval()
    before, state = vae.encoder.calls, torch.get_rng_state()
    estimate(vae, images(law, 20), samples=200, memory_budget=200_000)
    assert vae.encoder.calls - before == 20 + TRIAL
    assert vae.training
    assert vae.decoder.dropout.training
    assert not vae.encoder.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.8, 1.2])
def test_pareto_shape_of_known_tails(shape):
    with seeded("tails"):
        uniform = torch.rand(4000, 60, dtype=torch.float64)
    log_weights = ((uniform**-shape - 1) / shape).log() + 700  # far beyond what exp could hold
    assert pareto_shape(log_weights).mean() == pytest.approx(shape, abs=0.07)


def test_pareto_shape_agrees_with_maximum_likelihood():
    with seeded("tails"):
        w = torch.rand(4000, dtype=torch.float64) ** -0.7
    tail = w.sort().values[-191:]
    by_scipy = genpareto.fit((tail[1:] - tail[0]).numpy(), floc=0)[0]
    drawn_to_half = (190 * by_scipy + 5) / 200
    assert pareto_shape(w.log()[:, None]).item() == pytest.approx(drawn_to_half, abs=0.05)


def test_pareto_shape_at_the_edges():
    with seeded("tails"):
        light = torch.rand(4000, 5, dtype=torch.float64).log()
    assert (pareto_shape(light) < 0.1).all()
    assert pareto_shape(light[:20]).isnan().all()
    assert not pareto_shape(light[:21]).isnan().any()
    assert pareto_shape(torch.zeros(100, 2, dtype=torch.float64)).isnan().all()
    assert pareto_shape(1e6 * light).isposinf().all()


def test_summary_is_ready_for_json():
    vae, law = linear_gaussian(widened=1.3)
    x = images(law, 40)
    e = estimate(vae, x, samples=64)
    s = json.loads(json.dumps(summarise(e), allow_nan=False))
    assert s["nll_nats"]["mean"] == pytest.approx(-e.log_prob.mean().item())
    assert s["nll_nats"]["standard_error"] == pytest.approx(e.log_prob.std().item() / math.sqrt(40))
    assert s["bits_per_dim"]["mean"] == pytest.approx(s["nll_nats"]["mean"] / 6 / math.log(2))
    assert s["nll_monte_carlo_error_nats"] == pytest.approx(e.standard_error.square().sum().sqrt().item() / 40)
    assert (s["samples"], s["images"]) == (64, 40)
    assert s["effective_sample_size"]["min"] == pytest.approx(e.effective_sample_size.min().item())
    assert s["pareto_k"]["share_above_0.7"] == pytest.approx((e.pareto_k > 0.7).double().mean().item())
    assert s["pareto_k"]["threshold"] == pytest.approx(1 - 1 / math.log10(64))
    assert s["pareto_k"]["share_above_threshold"] == pytest.approx((e.pareto_k > 0.4463).double().mean().item())
    assert s["open_intervals"] == e.interval_upper.isinf().sum().item()
    assert (s["proposal"], s["decoder_evaluations_per_image"]) == ("encoder", 64)
    assert s["nll_bias_nats"] == pytest.approx((e.extrapolated_log_prob - e.log_prob).mean().item())
    low, high = s["nll_monte_carlo_interval_95_nats"]
    assert (low is None) == (s["open_intervals"] > 0)
    assert high > s["extrapolated_nll_nats"]["mean"]


def test_what_one_image_and_one_sample_cannot_give_is_null():
    vae, law = linear_gaussian()
    s = json.loads(json.dumps(summarise(estimate(vae, images(law, 1), samples=1)), allow_nan=False))
    assert s["nll_nats"]["standard_error"] is None
    assert s["nll_monte_carlo_error_nats"] is None
    assert s["pareto_k"] == {"median": None, "share_above_0.7": None, "threshold": None, "share_above_threshold": None}
    assert s["nll_monte_carlo_interval_95_nats"][0] is None


def test_bad_input_gets_a_sentence():
    vae, law = linear_gaussian()
    x = images(law, 4)
    with pytest.raises(InputError, match="samples: expected a number >= 1, got 0"):
        estimate(vae, x, samples=0)
    with pytest.raises(InputError, match=r"x: expected images .* at least one, got shape \(0, 1, 2, 3\)"):
        estimate(vae, x[:0], samples=1)
    with pytest.raises(InputError, match=r"memory_budget: one image with 10 samples needs [\d,]+ bytes, got 100"):
        estimate(vae, x, samples=10, memory_budget=100)
    broken = x.clone()
    broken[2, 0, 1, 1] = math.nan
    with pytest.raises(InputError, match="x: image 2 has a non-finite pixel"):
        estimate(vae, broken, samples=1)


class SpoiltDecoder(nn.Module):
    """Gives not-a-number for images whose first pixel is above 100."""

    def forward(self, z: Tensor) -> Distribution:
        return Spoilt(torch.zeros(z.shape[:-1]).double()[..., None, None, None].expand(*z.shape[:-1], 1, 2, 3), 1.0)


class Spoilt(Normal):
    def log_prob(self, value: Tensor) -> Tensor:
        log_prob = super().log_prob(value).sum((-3, -2, -1))
        return torch.where(value[..., 0, 0, 0] > 100, math.nan, log_prob)


def test_a_model_that_diverged_is_reported_with_the_image():
    vae, law = linear_gaussian()
    x = images(law, 4)
    x[3, 0, 0, 0] = 1000.0
    with pytest.raises(RunError, match="gives image 3 a non-finite importance weight"):
        estimate(VAE(vae.encoder, SpoiltDecoder(), vae.prior), x, samples=5)
    # torch refuses such a distribution itself, unless another library has switched its validation off for all.
    with torch.no_grad():
        vae.encoder.weight.fill_(math.nan)
    with pytest.raises(RunError, match=r"no valid distribution|a non-finite importance weight"):
        estimate(vae, x, samples=5)


def test_estimates_are_frozen():
    vae, law = linear_gaussian()
    e = estimate(vae, images(law, 2), samples=2)
    assert isinstance(e, DensityEstimate)
    with pytest.raises(AttributeError):
        e.samples = 3
