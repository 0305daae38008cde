"""Terms of the aggregate posterior: the MMD against closed forms, total correlation and density gap against loops and their
identities."""

import math

import pytest
import torch
from constructors import DECODERS, ENCODERS, PRIORS, binary_images, shaken
from torch.distributions import Independent, Normal

from mpdvae.errors import InputError
from mpdvae.objectives.aggregate_terms import MMD, DensityGap, TotalCorrelation, aggregate_densities, squared_mmd
from mpdvae.objectives.terms import KL, Objective, reconstruction
from mpdvae.vae import VAE

pytestmark = pytest.mark.usefixtures("float64")

SHAPE, LATENT = (1, 5, 4), 3


def vae_with(prior: str = "standard-normal") -> VAE:
    parts = ENCODERS["mlp"].build(SHAPE, LATENT), DECODERS["mlp"].build(SHAPE, LATENT), PRIORS[prior](LATENT)
    return shaken(VAE(*parts).double())


# MMD


def kernel_by_hand(one: list[float], other: list[float], kernel: str) -> float:
    squares, scale = sum((a - b) ** 2 for a, b in zip(one, other, strict=True)), 2 * len(one)
    return scale / (scale + squares) if kernel == "imq" else math.exp(-squares / scale)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_squared_mmd_by_loops(kernel):
    n, one, other = 5, torch.randn(5, 3), torch.randn(5, 3) + 0.5
    a, b = one.tolist(), other.tolist()
    pairs = [(i, j) for i in range(n) for j in range(n)]
    within = sum(kernel_by_hand(s[i], s[j], kernel) for s in (a, b) for i, j in pairs if i != j) / (n * (n - 1))
    across = sum(kernel_by_hand(a[i], b[j], kernel) for i, j in pairs) / n**2
    assert squared_mmd(one, other, kernel).item() == pytest.approx(within - 2 * across)


def rbf_of_gaussians(shift: float, variance: float, latent: int) -> float:
    """E k(z, z') for z - z' ~ N(shift, variance I) and the RBF kernel exp(-d^2 / (2 latent))."""
    wide = 1 + variance / latent
    return wide ** (-latent / 2) * math.exp(-latent * shift**2 / (2 * latent * wide))


@pytest.mark.parametrize(("shift", "deviation"), [(0.0, 1.0), (0.7, 1.0), (0.0, 0.3)])
def test_squared_mmd_of_gaussians(shift, deviation):
    """Unbiased: its mean over many draws is the closed form, zero where both laws are the same, within 4 errors."""
    latent, draws = 4, 400
    found = torch.stack(
        [squared_mmd(shift + deviation * torch.randn(20, latent), torch.randn(20, latent), "rbf") for _ in range(draws)]
    )
    exact = (
        rbf_of_gaussians(0, 2 * deviation**2, latent)
        + rbf_of_gaussians(0, 2, latent)
        - 2 * rbf_of_gaussians(shift, 1 + deviation**2, latent)
    )
    assert (exact == pytest.approx(0, abs=1e-12)) == (shift == 0 and deviation == 1)
    assert abs(found.mean().item() - exact) < 4 * found.std().item() / math.sqrt(draws)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_a_shift_is_detected(kernel):
    z, drawn = torch.randn(100, 8), torch.randn(100, 8)
    distances = [squared_mmd(z + shift, drawn, kernel).item() for shift in (0.0, 0.3, 0.6)]
    assert distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize("prior", ["standard-normal", "flow-affine"])
def test_the_term_compares_codes_with_draws_from_the_prior(prior):
    vae, x = vae_with(prior), binary_images(6, *SHAPE)
    torch.manual_seed(1)
    loss = Objective({"mmd": MMD(10.0)}, samples=2)(vae, x)
    torch.manual_seed(1)
    z = vae.encoder(x).rsample((2,))[0]
    torch.testing.assert_close(loss.total, 10 * squared_mmd(z, vae.prior().sample((6,))))
    loss.total.backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in vae.encoder.parameters())


# Total correlation


def test_aggregate_densities_by_loops():
    q = Independent(Normal(torch.randn(4, 2), 0.5 + torch.rand(4, 2)), 1)
    z = q.sample()
    found = aggregate_densities(q, z)
    for i in range(4):
        posteriors = [Normal(q.mean[j], q.stddev[j]).log_prob(z[i]).exp() for j in range(4)]
        joint = sum(float(p.prod()) for p in posteriors) / 4
        assert found.log_joint[i].item() == pytest.approx(math.log(joint))
        for k in range(2):
            marginal = sum(float(p[k]) for p in posteriors) / 4
            assert found.log_marginals[i, k].item() == pytest.approx(math.log(marginal))


def test_the_total_correlation_of_a_gaussian():
    """q(z) ~ N(0, C) with correlation rho, made of many narrow posteriors: -1/2 log(1 - rho^2)."""
    rho, n, narrow = 0.8, 3000, 0.2
    shared = torch.randn(n, 2) @ torch.linalg.cholesky(torch.tensor([[1, rho], [rho, 1]])).mT
    q = Independent(Normal(shared * math.sqrt(1 - narrow**2), torch.full((n, 2), narrow)), 1)
    densities = aggregate_densities(q, q.sample())
    found = (densities.log_joint - densities.log_marginals.sum(1)).mean().item()
    blurred = rho * (1 - narrow**2)
    assert found == pytest.approx(-0.5 * math.log(1 - blurred**2), abs=0.06)


@pytest.mark.parametrize("beta", [1.5, 4.0])
def test_the_objective_is_the_decomposed_one(beta):
    """R + I + beta TC + sum_k KL_k, each by its own definition from the same codes; at beta = 1 that is the negative ELBO."""
    vae, x = vae_with(), binary_images(6, *SHAPE)
    terms = {"reconstruction": reconstruction, "kl": KL(), "total_correlation": TotalCorrelation(beta - 1)}
    torch.manual_seed(1)
    loss = Objective(terms, estimator="generic")(vae, x)
    forward, prior = loss.forward, Normal(0.0, 1.0)
    z, densities = forward.z[0], aggregate_densities(forward.q, forward.z[0])
    information = (forward.q.log_prob(z) - densities.log_joint).mean()
    correlation = (densities.log_joint - densities.log_marginals.sum(1)).mean()
    dimensions = (densities.log_marginals - prior.log_prob(z)).sum(1).mean()
    decomposed = forward.reconstruction.mean() + information + beta * correlation + dimensions
    torch.testing.assert_close(loss.total, decomposed)
    elbo = forward.reconstruction.mean() + information + correlation + dimensions
    torch.testing.assert_close(elbo, -forward.log_weights.mean())


def test_independent_dimensions_have_none():
    """Posteriors that all coincide: q(z) factorises whatever the code."""
    q = Independent(Normal(torch.zeros(7, 3), torch.ones(7, 3)), 1)
    densities = aggregate_densities(q, torch.randn(7, 3))
    torch.testing.assert_close(densities.log_joint, densities.log_marginals.sum(1))


def test_maps_are_taken_as_vectors():
    q = Independent(Normal(torch.randn(4, 2, 3, 1), torch.ones(4, 2, 3, 1)), 3)
    flat = Independent(Normal(q.mean.flatten(1), q.stddev.flatten(1)), 1)
    z = q.sample()
    for one, other in zip(aggregate_densities(q, z), aggregate_densities(flat, z.flatten(1)), strict=True):
        torch.testing.assert_close(one, other)


# Density gap


def drawn_with(vae: VAE, x: torch.Tensor, samples: int) -> torch.Tensor:
    torch.manual_seed(1)
    return vae.encoder(x).rsample((samples,))


@pytest.mark.parametrize("over", ["dimensions", "total"])
def test_the_gap_is_the_kl_less_the_information(over):
    """KL - I(x; z), or KL - sum_k I(x; z_k), each by loops over the same codes: in place of the KL, information is free."""
    vae, x, images, samples = vae_with(), binary_images(5, *SHAPE), 5, 2
    z, q, prior = drawn_with(vae, x, samples), vae.encoder(x), Normal(0.0, 1.0)
    torch.manual_seed(1)
    found = Objective({"gap": DensityGap(0.7, over)}, samples)(vae, x).total
    kl, information = 0.0, 0.0
    for code in z:
        for i in range(images):
            own = Normal(q.mean[i], q.stddev[i]).log_prob(code[i])
            kl += (own - prior.log_prob(code[i])).sum().item() / (images * samples)
            every = [Normal(q.mean[j], q.stddev[j]).log_prob(code[i]) for j in range(images)]
            parts = torch.stack(every if over == "dimensions" else [p.sum() for p in every])
            own_parts = own if over == "dimensions" else own.sum()
            information += (own_parts - parts.exp().mean(0).log()).sum().item() / (images * samples)
    assert found.item() == pytest.approx(0.7 * (kl - information))
    assert information > 0


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.7, 1.0), (0.0, 0.4)])
def test_the_gap_of_a_code_that_has_collapsed_is_its_kl(mean, deviation):
    """Where all posteriors coincide there is no information: both gaps estimate the KL, zero at the prior."""
    exact = (deviation**2 + mean**2 - 1 - 2 * math.log(deviation)) / 2
    q = Independent(Normal(torch.full((4, 1), mean), torch.full((4, 1), deviation)), 1)
    z = q.sample((500,))
    found = [aggregate_densities(q, one).log_joint - Normal(0.0, 1.0).log_prob(one).sum(1) for one in z]
    gaps = torch.stack(found)
    assert abs(gaps.mean().item() - exact) <= 4 * gaps.std().item() / math.sqrt(gaps.numel()) + 1e-12


def test_an_aggregate_that_is_the_prior_costs_nothing_however_much_it_tells():
    """Many narrow posteriors whose means are spread as the prior: their KL is large, the gap nearly zero."""
    n, narrow = 3000, 0.3
    q = Independent(Normal(math.sqrt(1 - narrow**2) * torch.randn(n, 1), torch.full((n, 1), narrow)), 1)
    z = q.sample()
    gap = (aggregate_densities(q, z).log_joint - Normal(0.0, 1.0).log_prob(z).sum(1)).mean().item()
    kl = (q.log_prob(z) - Normal(0.0, 1.0).log_prob(z).sum(1)).mean().item()
    assert abs(gap) < 0.05
    assert kl == pytest.approx(-math.log(narrow), abs=0.1)


@pytest.mark.parametrize("prior", ["flow-affine", "ar1"])
def test_the_gap_over_dimensions_needs_a_prior_that_factorises(prior):
    vae, x = vae_with(prior), binary_images(4, *SHAPE)
    with pytest.raises(
        InputError, match=r"a density gap over dimensions: expected a factorised prior.*a gap over the total"
    ):
        Objective({"gap": DensityGap(1.0)})(vae, x)
    z = drawn_with(vae, x, 1)[0]
    torch.manual_seed(1)
    found = Objective({"gap": DensityGap(1.0, "total")})(vae, x).total
    expected = (aggregate_densities(vae.encoder(x), z).log_joint - vae.prior().log_prob(z)).mean()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DensityGap(0.0), "density_gap_weight: a term needs a weight > 0"),
        (lambda: MMD(0.0), "mmd_weight: a term needs a weight > 0"),
        (lambda: TotalCorrelation(-1.0), "total_correlation_weight: a term needs a weight > 0"),
        (lambda: squared_mmd(torch.zeros(1, 2), torch.zeros(1, 2)), "expected a batch of at least 2 codes .*, got 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
