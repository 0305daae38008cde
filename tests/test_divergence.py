"""Pairwise divergence of posteriors: against torch's KL over all pairs, down to collapse, value and gradient.

The implementation never forms the pairs; the oracle here is the brute force over all of them. It has two routes, one for
few posteriors (a product of matrices) and one for many (Gram matrices, N > 4K + 4): both are visited.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence
from torch.nn.functional import softplus

from mpdvae import divergence
from mpdvae.divergence import diversity_term, mutual_posterior_divergence, smoothness_term, spread_per_dimension
from mpdvae.errors import InputError

pytestmark = pytest.mark.usefixtures("float64")

SIZES = [(2, 1), (2, 3), (3, 1), (8, 1), (9, 1), (20, 4), (21, 4), (50, 32), (500, 32)]
"""(N, K): the smallest, both sides of N = 4K + 4, and a batch and a data set."""
sizes = pytest.mark.parametrize(("n", "latent"), SIZES)


def posteriors(n: int, *latent: int, spread: float = 1.0) -> Independent:
    """Posteriors around a common one that is not N(0, 1), which differ by about `spread` in mean and log-deviation."""
    mean = 3 * torch.randn(*latent) + spread * torch.randn(n, *latent)
    log_std = 0.5 * torch.randn(*latent) + 0.3 * spread * torch.randn(n, *latent)
    return Independent(Normal(mean, log_std.exp()), len(latent))


def parameters(q: Independent) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log-deviation as leaves that take gradients."""
    return q.mean.clone().requires_grad_(), q.stddev.log().requires_grad_()


def normal(mean: torch.Tensor, log_std: torch.Tensor) -> Independent:
    return Independent(Normal(mean, log_std.exp()), 1)


def pairs(q: Independent) -> torch.Tensor:
    """KL(q_i || q_j) per dimension for the ordered pairs i != j, [N(N-1) latent]: brute force by torch."""
    base = Normal(q.mean.flatten(1), q.stddev.flatten(1))
    kl = kl_divergence(
        Normal(base.loc[:, None], base.scale[:, None]),
        Normal(base.loc[None], base.scale[None]),
    )
    return kl[~torch.eye(len(base.loc), dtype=torch.bool)]


def precise_pairs(q: Independent) -> torch.Tensor:
    """As `pairs`, without the cancellation of torch's formula where posteriors nearly coincide.

    With d = log s_i^2 - log s_j^2 = 2 log1p((s_i - s_j) / s_j), KL = 1/2 (expm1(d) - d + (m_i - m_j)^2 / s_j^2); for small
    d the first difference is its power series.
    """
    m, s = q.mean, q.stddev
    d = 2 * torch.log1p((s[:, None] - s) / s)
    series = d.square() / 2 * (1 + d / 3 * (1 + d / 4 * (1 + d / 5 * (1 + d / 6))))
    excess = torch.where(d.abs() < 1e-3, series, torch.expm1(d) - d)
    kl = (excess + ((m[:, None] - m) / s).square()) / 2
    return kl[~torch.eye(len(m), dtype=torch.bool)]


@sizes
def test_agrees_with_all_pairs(n, latent):
    q = posteriors(n, latent)
    result, kl = mutual_posterior_divergence(q), pairs(q)
    torch.testing.assert_close(result.per_dimension, kl.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(result.mean, kl.sum(1).mean(), rtol=1e-12, atol=0)
    torch.testing.assert_close(result.std, kl.sum(1).std(), rtol=1e-12, atol=0)


@given(n=st.integers(2, 30), latent=st.integers(1, 4), spread=st.floats(0.01, 3), seed=st.integers(0, 10**6))
def test_agrees_with_all_pairs_anywhere(n, latent, spread, seed):
    torch.manual_seed(seed)
    q = posteriors(n, latent, spread=spread)
    result, kl = mutual_posterior_divergence(q), precise_pairs(q)
    torch.testing.assert_close(result.per_dimension, kl.mean(0), rtol=1e-10, atol=0)
    torch.testing.assert_close(result.std, kl.sum(1).std(), rtol=1e-9, atol=0)


def test_is_quadratic_neither_in_time_nor_in_memory():
    """60,000 posteriors: all pairs in 32 dimensions would take 900 GB."""
    q = posteriors(60_000, 32)
    result, some = mutual_posterior_divergence(q), pairs(Independent(Normal(q.mean[:200], q.stddev[:200]), 1))
    assert result.mean.item() == pytest.approx(some.sum(1).mean().item(), rel=0.2)
    assert result.std.item() == pytest.approx(some.sum(1).std().item(), rel=0.3)


@pytest.mark.parametrize("spread", [1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize(("n", "latent"), [(50, 32), (200, 32), (200, 1)])
def test_nearly_coinciding_posteriors_lose_no_precision(n, latent, spread):
    """The table of the method: mean KL from tens of nats down to 1e-9."""
    q = posteriors(n, latent, spread=spread)
    result, kl = mutual_posterior_divergence(q), precise_pairs(q)
    torch.testing.assert_close(result.per_dimension, kl.mean(0), rtol=1e-10, atol=0)
    torch.testing.assert_close(result.mean, kl.sum(1).mean(), rtol=1e-10, atol=0)
    torch.testing.assert_close(result.std, kl.sum(1).std(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("spread", [1e-6, 1e-7, 1e-8, 1e-9])
def test_posteriors_as_close_as_numbers_can_tell(spread):
    """Deviations are given to 1e-16, so that their differences are known to 1e-16 / spread only."""
    q = posteriors(300, 8, spread=spread)
    result, kl = mutual_posterior_divergence(q), precise_pairs(q)
    torch.testing.assert_close(result.mean, kl.sum(1).mean(), rtol=1e-15 / spread, atol=0)
    torch.testing.assert_close(result.std, kl.sum(1).std(), rtol=1e-15 / spread, atol=0)


@pytest.mark.parametrize("spread", [1, 1e-2, 1e-4])
def test_float32_is_accurate_too(spread):
    q = posteriors(200, 32, spread=spread)
    single = Independent(Normal(q.mean.float(), q.stddev.float()), 1)
    result, kl = (
        mutual_posterior_divergence(single),
        precise_pairs(Independent(Normal(*map(torch.Tensor.double, (single.mean, single.stddev))), 1)),
    )
    assert result.mean.dtype == result.std.dtype == result.per_dimension.dtype == torch.float32
    assert result.mean.item() == pytest.approx(kl.sum(1).mean().item(), rel=1e-6)
    assert result.std.item() == pytest.approx(kl.sum(1).std().item(), rel=1e-6)


@pytest.mark.parametrize(("n", "latent"), [(2, 1), (10, 3), (50, 3)])
def test_exact_collapse_is_zero_with_finite_gradients(n, latent):
    mean, log_std = torch.randn(latent).repeat(n, 1).requires_grad_(), torch.randn(latent).repeat(n, 1).requires_grad_()
    result = mutual_posterior_divergence(normal(mean, log_std))
    assert result.mean.item() == pytest.approx(0, abs=1e-15)
    assert result.std.item() == pytest.approx(0, abs=1e-15)
    (result.mean + result.std).backward()
    for gradient in (mean.grad, log_std.grad):
        assert gradient is not None
        torch.testing.assert_close(gradient, torch.zeros(n, latent), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n", "latent"), [*SIZES[:-1], (150, 32)])
def test_gradients_agree_with_those_of_all_pairs(n, latent):
    mean, log_std = parameters(posteriors(n, latent))
    weight = torch.randn(latent)
    fast = mutual_posterior_divergence(normal(mean, log_std))
    slow = pairs(normal(mean, log_std))
    spread_of_pairs = slow.sum(1).std() if slow.sum(1).std() > 0 else slow.sum() * 0
    for ours, theirs in [
        (fast.per_dimension @ weight, slow.mean(0) @ weight),
        (fast.mean, slow.sum(1).mean()),
        (fast.std, spread_of_pairs),
    ]:
        for one, other in zip(
            torch.autograd.grad(ours, (mean, log_std), retain_graph=True),
            torch.autograd.grad(theirs, (mean, log_std), retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12 * other.abs().max().item())


@pytest.mark.parametrize(("n", "latent"), [(4, 2), (13, 1)])
def test_gradients_agree_with_finite_differences(n, latent):
    mean, log_std = parameters(posteriors(n, latent))
    assert torch.autograd.gradcheck(lambda m, s: tuple(mutual_posterior_divergence(normal(m, s))), (mean, log_std))


@pytest.mark.parametrize(("n", "latent"), [(7, 3), (40, 3)])
def test_invariant_under_shift_scale_and_order(n, latent):
    q = posteriors(n, latent)
    shift, scale, order = 10 * torch.randn(latent), torch.randn(latent), torch.randperm(n)
    moved = Independent(Normal(scale * q.mean[order] + shift, scale.abs() * q.stddev[order]), 1)
    torch.testing.assert_close(
        tuple(mutual_posterior_divergence(moved)), tuple(mutual_posterior_divergence(q)), rtol=1e-10, atol=0
    )


def test_maps_of_codes_count_as_dimensions():
    q = posteriors(7, 2, 3, 3)
    flat = Independent(Normal(q.mean.flatten(1), q.stddev.flatten(1)), 1)
    result, expected = mutual_posterior_divergence(q), mutual_posterior_divergence(flat)
    torch.testing.assert_close(result.per_dimension, expected.per_dimension.reshape(2, 3, 3), rtol=0, atol=0)
    torch.testing.assert_close((result.mean, result.std), (expected.mean, expected.std), rtol=0, atol=0)
    assert diversity_term(q, 1.0, "paper").item() == pytest.approx(diversity_term(flat, 1.0, "paper").item(), rel=1e-14)


FORMS = {
    "released": lambda kl, eta: eta * sum(softplus(-kl[:, k].mean()) for k in range(kl.shape[1])),
    "paper": lambda kl, eta: eta * sum(softplus(-pair).sum() for pair in kl) / len(kl),
    "submitted": lambda kl, eta: eta * sum(softplus(-kl[:, k].mean() / eta) for k in range(kl.shape[1])),
}
forms = pytest.mark.parametrize("form", FORMS)


@forms
@pytest.mark.parametrize("weight", [0.5, 2.0])
@pytest.mark.parametrize("pairs_at_once", [1, 30, 2**22])
def test_diversity_against_loops(form, weight, pairs_at_once, monkeypatch):
    monkeypatch.setattr(divergence, "PAIRS_AT_ONCE", pairs_at_once)
    q = posteriors(11, 3, spread=0.5)
    torch.testing.assert_close(diversity_term(q, weight, form), FORMS[form](pairs(q), weight), rtol=1e-12, atol=0)


@forms
def test_diversity_gradient_agrees_with_that_of_loops(form):
    mean, log_std = parameters(posteriors(6, 2, spread=0.5))
    ours = torch.autograd.grad(diversity_term(normal(mean, log_std), 2.0, form), (mean, log_std))
    theirs = torch.autograd.grad(FORMS[form](pairs(normal(mean, log_std)), 2.0), (mean, log_std))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


@forms
@pytest.mark.parametrize(("eta", "latent"), [(1.0, 32), (0.5, 3)])
def test_diversity_at_collapse_is_eta_times_latent_times_log_2(form, eta, latent):
    collapsed = Independent(Normal(torch.zeros(5, latent), torch.ones(5, latent)), 1)
    assert diversity_term(collapsed, eta, form).item() == pytest.approx(eta * latent * math.log(2), rel=1e-12)


@forms
def test_diversity_vanishes_for_posteriors_far_apart(form):
    q = Independent(Normal(100.0 * torch.arange(5)[:, None].expand(5, 3), torch.ones(5, 3)), 1)
    assert 0 <= diversity_term(q, 1.0, form).item() < 1e-6


@given(n=st.integers(2, 20), latent=st.integers(1, 4), spread=st.floats(0, 3), seed=st.integers(0, 10**6))
def test_released_is_at_most_paper(n, latent, spread, seed):
    torch.manual_seed(seed)
    q = posteriors(n, latent, spread=spread)
    assert diversity_term(q, 1.0, "released") <= diversity_term(q, 1.0, "paper") + 1e-12


def test_a_pair_that_coincides_is_penalised_by_paper_only():
    mean = torch.tensor([[0.0], [0.0], [50.0], [100.0]])
    q = Independent(Normal(mean, torch.ones_like(mean)), 1)
    assert diversity_term(q, 1.0, "released") < 1e-6
    assert diversity_term(q, 1.0, "paper").item() == pytest.approx(2 * math.log(2) / 12, rel=1e-9)


def test_smoothness_is_the_weighted_spread():
    q = posteriors(9, 3)
    assert smoothness_term(q, 0.5).item() == pytest.approx(0.5 * pairs(q).sum(1).std().item(), rel=1e-12)


@pytest.mark.parametrize(
    "function",
    [
        mutual_posterior_divergence,
        lambda q: smoothness_term(q, 1.0),
        *(lambda q, form=form: diversity_term(q, 1.0, form) for form in FORMS),
    ],
)
def test_a_single_posterior_is_refused(function):
    with pytest.raises(InputError, match=r"at least 2 posteriors, got 1\."):
        function(posteriors(1, 3))


def test_other_families_are_refused():
    mixture = MixtureSameFamily(Categorical(torch.ones(4, 2)), Normal(torch.zeros(4, 2), torch.ones(4, 2)))
    with pytest.raises(InputError, match="expected a diagonal Gaussian posterior, got MixtureSameFamily"):
        mutual_posterior_divergence(mixture)


@pytest.mark.parametrize("n", [3, 40])
def test_spread_of_each_dimension_by_brute_force(n):
    q = Independent(Normal(torch.randn(n, 2, 3), 0.1 + torch.rand(n, 2, 3)), 2)
    base = q.base_dist
    kl = kl_divergence(Normal(base.loc[:, None], base.scale[:, None]), Normal(base.loc[None], base.scale[None]))
    pairs = kl[~torch.eye(n, dtype=torch.bool)]
    torch.testing.assert_close(spread_per_dimension(q), pairs.std(0), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(smoothness_term(q, 0.3, "dimensions"), 0.3 * pairs.std(0).sum())
    torch.testing.assert_close(smoothness_term(q, 0.3, "total"), 0.3 * pairs.flatten(1).sum(1).std())
