"""Bounds on the mutual information: never crossed, each on its side, with intervals that contain the truth."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from mpdvae.measures.aggregate_posterior import Draws, moments
from mpdvae.measures.code_diagnostics import bounds_of_information, mutual_information
from mpdvae.measures.information import measure
from mpdvae.measures.information_bracket import Bracket, bracket
from mpdvae.models.priors import standard_normal
from mpdvae.seeding import seeded


def channel(n: int, signal: float, latent: int, seed: int) -> tuple[Tensor, Tensor]:
    """Posteriors of z = m + noise, m ~ N(0, signal^2), noise of variance 1: I = latent / 2 log(1 + signal^2)."""
    with seeded("channel", seed):
        mean = signal * torch.randn(n, latent, dtype=torch.float64)
    return mean, torch.ones_like(mean)


def of(mean: Tensor, stddev: Tensor, samples: int, seed: int, with_prior: bool = True) -> Bracket:
    drawn = Draws(mean, stddev, samples, seed)
    prior = standard_normal((mean.shape[1],), torch.zeros((), dtype=torch.float64))
    return bracket(drawn, seed, prior.log_prob(drawn.z) if with_prior else None)


@pytest.mark.parametrize("signal", [0.0, 0.01, 0.3, 3.0])
@pytest.mark.parametrize(("n", "samples"), [(5, 5), (5, 60), (100, 3), (100, 100)])
@pytest.mark.parametrize("latent", [1, 6])
def test_bounds_never_cross(signal, n, samples, latent):
    for seed in range(40):
        found = of(*channel(n, signal, latent, seed), samples, seed, with_prior=seed % 2 == 0)
        assert found.lower.nats <= found.upper.nats
        assert found.lower.nats <= found.ceiling + 1e-12
        assert found.interval_95[0] <= found.lower.nats
        assert found.interval_95[1] >= found.upper.nats


def test_without_the_guard_they_would_cross():
    """Where the code carries next to nothing, chance decides which bound is lower: the cases above are not vacuous."""
    crossed = 0
    for seed in range(40):
        found = of(*channel(100, 0.01, 6, seed), 100, seed)
        crossed += min(found.upper_bounds.values()).nats < found.lower.nats
    assert crossed > 0


@pytest.mark.parametrize(("signal", "latent"), [(0.05, 3), (0.7, 2), (1.5, 3), (5.0, 8)])
def test_the_interval_contains_the_information(signal, latent):
    """Of 400 repeats, images included, at least 93% (95% less 2 standard errors of a proportion)."""
    truth = latent / 2 * math.log1p(signal**2)
    inside = 0
    for seed in range(400):
        low, high = of(*channel(120, signal, latent, seed), 120, seed).interval_95
        inside += low <= truth <= high
    assert inside >= 0.93 * 400


@pytest.mark.parametrize(("signal", "latent"), [(0.2, 4), (1.5, 3)])
def test_the_stated_bounds_are_on_their_sides_in_expectation(signal, latent):
    """Also the upper one, which is chosen among three: the choice does not make it too small."""
    truth = latent / 2 * math.log1p(signal**2)
    found = [of(*channel(60, signal, latent, seed), 60, seed) for seed in range(400)]
    lower = torch.tensor([one.lower.nats for one in found])
    upper = torch.tensor([one.upper.nats for one in found])
    error = 1 / math.sqrt(len(found))
    assert lower.mean() < truth + 3 * error * lower.std()
    assert upper.mean() > truth - 3 * error * upper.std()


def test_standard_errors_are_the_deviations_over_repeats():
    """Images and codes drawn anew: the ratio of stated and found errors is 1 within 15%, for both bounds."""
    found = [of(*channel(200, 1.0, 3, seed), 200, seed) for seed in range(300)]
    for bound in ("lower", "upper"):
        estimates = [getattr(one, bound) for one in found]
        spread = torch.tensor([e.nats for e in estimates]).std()
        stated = torch.tensor([e.standard_error for e in estimates]).square().mean().sqrt()
        assert (stated / spread).item() == pytest.approx(1, abs=0.15), bound


def test_a_singular_covariance_still_gives_a_bound():
    """Two dimensions that are one, 1e9 times wider than the noise."""
    mean, _ = channel(50, 1e9, 1, 0)
    mean = mean.expand(-1, 2).contiguous()
    found = of(mean, torch.full_like(mean, 1e-2), 50, 0, with_prior=False)
    assert math.isfinite(found.upper_bounds["gaussian"].nats)
    assert found.lower.nats <= found.upper.nats


# -- the same draws everywhere -----------------------------------------------------------------------------------------


def test_diagnostics_and_information_are_of_the_same_codes():
    mean, stddev = channel(80, 1.0, 3, 0)
    q = Independent(Normal(mean, stddev), 1)
    found = measure(q, standard_normal((3,), torch.zeros(())), samples=20, seed=4)
    alone = bounds_of_information(q, seed=4)
    assert found.mutual_information.lower == alone.lower == mutual_information(q, 4)
    assert found.mutual_information.upper_bounds["leave_one_out"] == alone.upper_bounds["leave_one_out"]
    assert found.mutual_information.samples == alone.samples == 80
    assert "rate" in found.mutual_information.upper_bounds
    assert "rate" not in alone.upper_bounds


@pytest.mark.parametrize("samples", [3, 7, 20, 21, 100])
def test_draws_up_to_all_images_are_one_of_each(samples):
    mean, stddev = channel(20, 2.0, 2, 0)
    drawn = Draws(mean, stddev, samples, 0)
    assert len(drawn.z) == samples
    if samples <= 20:
        assert len(drawn.image.unique()) == samples
        every = Draws(mean, stddev, 20, 0)
        assert torch.equal(drawn.z, every.z[drawn.image])


def test_densities_against_torch():
    mean, stddev = channel(12, 2.0, 3, 1)
    stddev = stddev * torch.linspace(0.5, 2, 12, dtype=torch.float64)[:, None]
    q = Independent(Normal(mean, stddev), 1)
    assert torch.equal(torch.stack(moments(q)), torch.stack([mean, stddev]))
    drawn = Draws(mean, stddev, 12, 3)
    pairs = q.log_prob(drawn.z[:, None])
    torch.testing.assert_close(drawn.own, pairs.diag())
    torch.testing.assert_close(drawn.average, pairs.mean(1))
    torch.testing.assert_close(drawn.aggregate, pairs.logsumexp(1) - math.log(12))
    without = pairs.masked_fill(torch.eye(12, dtype=torch.bool), -math.inf).logsumexp(1) - math.log(11)
    torch.testing.assert_close(drawn.others, without)


def test_the_gaussian_is_fitted_to_the_other_half():
    """The bound of codes of one half is that of the Gaussian with the moments of the aggregate of the other."""
    mean, stddev = channel(40, 2.0, 2, 5)
    drawn = Draws(mean, stddev, 40, 0)
    found = bracket(drawn, 0).upper_bounds["gaussian"].nats
    generator_halves = _halves(40)
    values = torch.empty(40, dtype=torch.float64)
    for fitted, applied in (generator_halves, generator_halves[::-1]):
        covariance = mean[fitted].mT.cov(correction=0) + stddev[fitted].square().mean(0).diag()
        r = MultivariateNormal(mean[fitted].mean(0), covariance)
        values[applied] = drawn.own[applied] - r.log_prob(drawn.z[applied])
    assert found == pytest.approx(values.mean().item())


def _halves(n: int) -> tuple[Tensor, ...]:
    from mpdvae.seeding import derive_seed

    generator = torch.Generator().manual_seed(derive_seed(0, "halves"))
    return torch.randperm(n, generator=generator).tensor_split(2)
