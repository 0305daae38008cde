"""Information against closed forms, quadrature and loops; bounds on their side, errors of the stated size."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from mpdvae.errors import InputError, RunError
from mpdvae.measures.information import Information, measure
from mpdvae.measures.information_bracket import Estimate
from mpdvae.models.flows import vector_flow
from mpdvae.models.priors import FlowPrior, standard_normal

pytestmark = pytest.mark.usefixtures("float64")


def posteriors(mean: Tensor, stddev: Tensor | float) -> Independent:
    return Independent(Normal(mean, torch.as_tensor(stddev).expand_as(mean)), 1)


def prior(latent: int) -> Distribution:
    return standard_normal((latent,), torch.zeros(()))


def near(estimate, value: float, errors: float = 4.0, bias: float = 0.0) -> bool:
    return abs(estimate.nats - value) < errors * estimate.standard_error + bias + 1e-9


def bounds(found: Information, *names: str) -> list[Estimate]:
    """The bounds on the mutual information of these names; aggregate: the lower one."""
    known = {"aggregate": found.mutual_information.lower, **found.mutual_information.upper_bounds}
    return [known[name] for name in names]


def channel(n: int, signal: Tensor, noise: float) -> Independent:
    """Posteriors of a linear-Gaussian model: means N(0, `signal`) over n images, standard deviation `noise`."""
    mean = MultivariateNormal(torch.zeros(len(signal)), signal).sample((n,))
    return posteriors(mean, noise)


def test_gaussian_channel():
    """z = m + noise: I = 1/2 log det(1 + signal / noise^2), and every other quantity in closed form."""
    signal, noise = torch.tensor([[1.0, 0.6], [0.6, 0.8]]), 0.5
    q = channel(3000, signal, noise)
    found = measure(q, prior(2), samples=1500)
    total = signal + noise**2 * torch.eye(2)
    information = 0.5 * (total.logdet() - 2 * math.log(noise**2)).item()
    aggregate_kl = 0.5 * (total.trace() - 2 - total.logdet()).item()
    each = 0.5 * (total.diag().log() - math.log(noise**2))
    correlation = 0.5 * (total.diag().log().sum() - total.logdet()).item()
    bias = 0.02  # of 3,000 images that stand for all
    for bound in (found.mutual_information.lower, *bounds(found, "leave_one_out", "gaussian")):
        assert near(bound, information, bias=bias)
    assert near(*bounds(found, "rate"), information + aggregate_kl, bias=bias)
    assert near(found.aggregate_kl, aggregate_kl, bias=bias)
    assert near(found.total_correlation, correlation, bias=bias)
    assert found.dimension_wise_kl is not None
    assert near(found.dimension_wise_kl, aggregate_kl - correlation, bias=bias)
    torch.testing.assert_close(found.information_per_dimension, each, atol=0.08, rtol=0)
    mpd = (signal.diag() / noise**2).sum().item()
    assert found.mpd == pytest.approx(mpd, rel=0.06)
    assert near(found.lautum, mpd - information, bias=0.06 * mpd)


def test_two_groups_of_images_by_quadrature():
    mean, stddev = torch.tensor([0.0, 0.0, 0.0, 2.0])[:, None], 0.7
    found = measure(posteriors(mean, stddev), prior(1), samples=20_000)

    def density(z: float) -> float:
        return 0.75 * norm.pdf(z, 0, stddev) + 0.25 * norm.pdf(z, 2, stddev)

    def over_codes(integrand) -> float:
        return quad(lambda z: density(z) * integrand(z), -5, 8, epsabs=1e-10)[0]

    entropy = -over_codes(lambda z: math.log(density(z)))
    information = entropy - 0.5 * math.log(2 * math.pi * math.e * stddev**2)
    each_kl = [over_codes(lambda z, m=m: math.log(density(z)) - norm.logpdf(z, m, stddev)) for m in (0, 0, 0, 2)]
    assert near(found.mutual_information.lower, information)
    assert near(found.lautum, sum(each_kl) / 4)
    assert near(found.aggregate_kl, over_codes(lambda z: math.log(density(z)) - norm.logpdf(z)))
    assert found.total_correlation.nats == pytest.approx(0, abs=1e-12)


def test_at_collapse_everything_is_zero():
    q = posteriors(torch.full((30, 3), 0.2), 0.9)
    found = measure(q, Independent(Normal(q.mean[0], q.stddev[0]), 1), 50)
    zeros = [
        *bounds(found, "aggregate", "leave_one_out", "gaussian", "rate"),
        found.lautum,
        found.total_correlation,
        found.aggregate_kl,
        found.dimension_wise_kl,
    ]
    assert max(abs(estimate.nats) for estimate in zeros if estimate is not None) < 1e-9
    assert found.dimension_wise_kl is not None
    assert found.information_per_dimension.abs().max() < 1e-9
    assert abs(found.mpd) < 1e-12
    assert near(found.identity_residual, 0)


def test_dimensions_that_are_independent_have_no_total_correlation():
    """Means on a full grid: the aggregate is a product, and so is every estimate of it."""
    grid = torch.cartesian_prod(torch.linspace(-2, 2, 12), torch.linspace(-1, 3, 9), torch.tensor([0.0, 5.0]))
    found = measure(posteriors(grid, torch.tensor([0.3, 0.5, 1.0])), prior(3), samples=500)
    assert found.total_correlation.nats == pytest.approx(0, abs=1e-10)
    assert found.information_per_dimension.sum().item() == pytest.approx(found.mutual_information.lower.nats, abs=1e-10)


def test_images_apart_reach_the_ceiling_and_the_upper_bounds_do_not():
    q = channel(64, 100.0 * torch.eye(8), 0.05)
    found = measure(q, prior(8), samples=500)
    truth = 8 * 0.5 * math.log1p(100 / 0.05**2)
    assert found.mutual_information.lower.nats == pytest.approx(math.log(64), abs=1e-6)
    leave_one_out, gaussian = bounds(found, "leave_one_out", "gaussian")
    assert found.mutual_information.ceiling == math.log(64)
    assert found.mutual_information.saturated
    assert found.mutual_information.upper == gaussian
    assert gaussian.nats > truth - 4 * gaussian.standard_error
    assert leave_one_out.nats > truth


@pytest.mark.parametrize("noise", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("n", [10, 200])
def test_bounds_are_on_their_sides(n: int, noise: float):
    """Averaged over draws of the images, as the theorem has it."""
    truth = 3 * 0.5 * math.log1p(1 / noise**2)
    found = [measure(channel(n, torch.eye(3), noise), prior(3), 50, seed) for seed in range(40)]
    for name, side in (("aggregate", -1), ("leave_one_out", 1), ("gaussian", 1), ("rate", 1)):
        values = torch.tensor([bounds(information, name)[0].nats for information in found])
        assert side * (values.mean() - truth) > -3 * values.std() / math.sqrt(len(values))


def test_identity_holds_within_the_stated_error():
    """Residuals in standard errors have mean 0 and deviation 1, over draws."""
    generator = np.random.default_rng(0)
    mean = torch.from_numpy(generator.normal(size=(40, 3)))
    stddev = torch.from_numpy(generator.uniform(0.7, 1.5, size=(40, 3)))
    scores = []
    for seed in range(120):
        found = measure(Independent(Normal(mean, stddev), 1), prior(3), samples=200, seed=seed)
        scores.append(found.identity_residual.nats / found.identity_residual.standard_error)
    assert np.mean(scores) == pytest.approx(0, abs=0.25)
    assert np.std(scores) == pytest.approx(1, abs=0.2)


def test_the_divergence_of_the_identity_counts_all_pairs():
    generator = np.random.default_rng(1)
    mean = torch.from_numpy(generator.normal(size=(7, 2)))
    q = Independent(Normal(mean, torch.full_like(mean, 0.5)), 1)
    pairs = [((mean[i] - mean[j]).square() / (2 * 0.25)).sum().item() for i in range(7) for j in range(7)]
    assert measure(q, prior(2), 10).mpd == pytest.approx(sum(pairs) / 49)


@pytest.mark.parametrize("elements", [1, 50])
def test_pieces_change_nothing(monkeypatch, elements: int):
    q = channel(20, torch.eye(2), 0.5)
    whole = measure(q, prior(2), 30).to_dict()
    monkeypatch.setattr("mpdvae.measures.aggregate_posterior.ELEMENTS_AT_ONCE", elements)
    pieces = measure(q, prior(2), 30).to_dict()
    assert _numbers(pieces) == pytest.approx(_numbers(whole), abs=1e-9)


def test_a_flow_prior_has_no_dimension_wise_part():
    flow = FlowPrior(vector_flow(2, blocks=1, hidden_features=4), (2,))
    found = measure(channel(20, torch.eye(2), 0.5), flow(), 30)
    assert found.dimension_wise_kl is None
    assert bounds(found, "rate")[0].nats == pytest.approx(found.mutual_information.lower.nats + found.aggregate_kl.nats)


def test_the_rate_is_spent_on_its_parts():
    found = measure(channel(50, torch.eye(3) + 0.5, 0.4), prior(3), 200)
    assert found.dimension_wise_kl is not None
    parts = found.mutual_information.lower.nats + found.total_correlation.nats + found.dimension_wise_kl.nats
    assert bounds(found, "rate")[0].nats == pytest.approx(parts)


def test_codes_that_are_maps_and_posteriors_of_one_half():
    mean = torch.randn(3, 2, 2, 2)
    q = Independent(Normal(mean, torch.full_like(mean, 0.5)), 3)
    found = measure(q, standard_normal((2, 2, 2), torch.zeros(())), 20)
    assert found.information_per_dimension.shape == (8,)
    assert isinstance(found, Information)
    json.dumps(found.to_dict(), allow_nan=False)
    assert found.samples == 20
    two = measure(posteriors(torch.randn(2, 1), 1.0), prior(1), 2)
    json.dumps(two.to_dict(), allow_nan=False)


def test_draws_are_a_function_of_the_seed():
    q = channel(20, torch.eye(2), 0.5)
    assert measure(q, prior(2), 30).to_dict() == measure(q, prior(2), 30).to_dict()
    assert measure(q, prior(2), 30).to_dict() != measure(q, prior(2), 30, seed=1).to_dict()


def test_bad_input_gets_a_sentence():
    q = channel(20, torch.eye(2), 0.5)
    with pytest.raises(InputError, match="q: expected the posteriors of at least 2 images, got 1"):
        measure(posteriors(torch.zeros(1, 2), 1.0), prior(2))
    with pytest.raises(InputError, match="samples: expected at least 2, got 1"):
        measure(q, prior(2), samples=1)
    with pytest.raises(InputError, match="q: expected a diagonal Gaussian posterior, got MultivariateNormal"):
        measure(MultivariateNormal(torch.zeros(5, 2), torch.eye(2)), prior(2))
    broken = Independent(Normal(torch.full((2,), math.nan), torch.ones(2), validate_args=False), 1)
    with pytest.raises(RunError, match=r"the prior gives a code of image \d+ a non-finite log-density"):
        measure(q, broken)


def _numbers(tree) -> list[float]:
    if isinstance(tree, dict):
        return [number for value in tree.values() for number in _numbers(value)]
    if isinstance(tree, list):
        return [number for value in tree for number in _numbers(value)]
    return [] if tree is None else [float(tree)]
