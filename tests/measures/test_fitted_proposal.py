"""Proposals that are fitted to each image: unbiased weights however they turn out, and many times q's effective samples.

Laws over all models of known_models.py are in test_density_laws.py, coverage in test_weight_intervals.py.
"""

import copy

import pytest
import torch
from known_models import NOISE, Known, enumerated, images, independent_pixels, known, linear_gaussian
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from mpdvae.errors import RunError
from mpdvae.measures import fitted_proposal
from mpdvae.measures.density import estimate
from mpdvae.measures.fitted_proposal import FIT_COST, POINTS, FittedProposal, fit, joint_density
from mpdvae.measures.importance_sampling import PAIRED
from mpdvae.measures.memory_use import LiveBytes
from mpdvae.models.decoders import IndependentDecoder
from mpdvae.models.priors import StandardNormal
from mpdvae.seeding import seeded
from mpdvae.vae import VAE

LATENT = 32


class Encoder(nn.Module):
    """The posterior of a linear decoder without its correlations, shifted, for codes of any shape."""

    def __init__(self, weight: Tensor, shifted: float, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight, self.shifted, self.latent_shape = nn.Parameter(weight), shifted, latent_shape

    def forward(self, x: Tensor) -> Distribution:
        precision = torch.eye(self.weight.shape[1]).to(x) + self.weight.mT @ self.weight / NOISE**2
        covariance = precision.inverse()
        mean = (x.flatten(1) @ self.weight @ covariance / NOISE**2) + self.shifted * covariance.diag().sqrt()
        scale = precision.diag().rsqrt().expand_as(mean)
        shape = (len(x), *self.latent_shape)
        return Independent(Normal(mean.view(shape), scale.view(shape)), len(self.latent_shape))


class Decoder(nn.Module):
    def __init__(self, weight: Tensor, latent_ndim: int) -> None:
        super().__init__()
        self.weight, self.latent_ndim = nn.Parameter(weight), latent_ndim

    def forward(self, z: Tensor) -> Distribution:
        mean = z.flatten(-self.latent_ndim) @ self.weight.mT
        return Independent(Normal(mean.unflatten(-1, (1, 8, 8)), NOISE), 3)


def correlated(latent_shape: tuple[int, ...] = (LATENT,), shifted: float = 0.3) -> tuple[VAE, Tensor, Tensor]:
    """Returns a linear-Gaussian VAE whose posterior has strong correlations, images, and their log-likelihood."""
    latent = torch.Size(latent_shape).numel()
    with seeded("correlated"):
        weight = torch.randn(64, latent, dtype=torch.float64) / 8
        covariance = weight @ weight.mT + NOISE**2 * torch.eye(64, dtype=torch.float64)
        law = torch.distributions.MultivariateNormal(torch.zeros(64, dtype=torch.float64), covariance)
        x = law.sample((20,))
    encoder, decoder = Encoder(weight, shifted, latent_shape), Decoder(weight, len(latent_shape))
    vae = VAE(encoder, decoder, StandardNormal(latent_shape)).double()
    return vae, x.view(-1, 1, 8, 8), law.log_prob(x)


def test_a_gaussian_posterior_is_found_and_multiplies_the_effective_samples():
    vae, x, true = correlated()
    fitted, encoder = estimate(vae, x, 256 - FIT_COST), estimate(vae, x, 256, proposal="encoder")
    assert fitted.effective_sample_size.median() > 5 * encoder.effective_sample_size.median()
    assert fitted.pareto_k.median() < 0.4 < 0.7 < encoder.pareto_k.median()
    assert (fitted.log_prob - true).abs().max() < 5 * fitted.standard_error.max()
    assert (fitted.decoder_evaluations == 256).all()
    assert (encoder.decoder_evaluations == 256).all()


@pytest.mark.parametrize("repeats", [2_000, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("samples", [1, 8])
def test_weights_are_unbiased_for_any_number_of_samples(repeats, samples):
    """Each repeat fits a proposal of its own: the fit does not bias the mean of the weights."""
    model = known("binary")
    x, true = model.x[:1].repeat(repeats, 1, 1, 1), model.log_prob[:1].detach()
    ratios = (estimate(model.vae, x, samples).log_prob - true).exp()
    assert abs(ratios.mean().item() - 1) < 4 * ratios.std().item() / repeats**0.5


def test_a_bad_fit_costs_samples_but_no_bias(monkeypatch):
    """Curvatures and steps that are all wrong."""
    monkeypatch.setattr(fitted_proposal, "_step", lambda _, __, gradient: torch.full_like(gradient, 3.0))
    model = known("mixture")
    x, true = model.x.repeat(200, 1, 1, 1), model.log_prob.detach().repeat(200)
    ratios = (estimate(model.vae, x, 64).log_prob - true).exp()
    assert abs(ratios.mean().item() - 1) < 4 * ratios.std().item() / len(x) ** 0.5


@pytest.mark.parametrize("latent_shape", [(2, 4, 4), (4, 8, 8)])
def test_codes_may_be_maps(latent_shape):
    """The second has more dimensions than a full covariance is fitted for."""
    vae, x, true = correlated(latent_shape, shifted=0.1)
    e = estimate(vae, x, 256)
    assert (e.log_prob <= true + 6 * e.standard_error + 0.5).all()
    q = vae.encoder(x)
    proposal, _ = fit(q.base_dist, lambda z: joint_density(vae, x, z), 0, range(len(x)))
    assert (proposal.axes is None) == (q.mean[0].numel() > fitted_proposal.FULL)
    noise, uniform = torch.randn(100, *q.mean.shape), torch.rand(100, len(x), dtype=torch.float64)
    z, log_density = proposal.draw(noise, uniform)
    assert z.shape == noise.shape
    assert log_density.isfinite().all()
    assert (log_density >= q.log_prob(z) + torch.tensor(0.05).log() - 1e-9).all()  # the defensive component


def test_the_density_of_the_mixture_integrates_to_one():
    model = enumerated(independent_pixels(), StandardNormal((2,)))
    q = model.vae.encoder(model.x)
    proposal, _ = fit(q.base_dist, lambda z: joint_density(model.vae, model.x, z), 0, range(len(model.x)))
    with seeded("integral"):
        z, log_density = proposal.draw(
            torch.randn(20_000, *q.mean.shape), torch.rand(20_000, len(model.x), dtype=torch.float64)
        )
    ratios = (q.log_prob(z) - log_density).exp()  # at most 1 / share
    assert ratios.mean().item() == pytest.approx(1, abs=4 * ratios.mean(1).std().item() / 20_000**0.5)


def test_rate_and_elbo_are_those_of_the_encoder():
    vae, x, _ = correlated()
    fitted, encoder = estimate(vae, x, 4), estimate(vae, x, 4096, proposal="encoder")
    torch.testing.assert_close(fitted.kl, encoder.kl)
    difference = fitted.elbo - encoder.elbo
    assert abs(difference.mean().item()) < 4 * difference.std().item() / len(x) ** 0.5
    torch.testing.assert_close((fitted.kl + fitted.reconstruction).mean(), -fitted.elbo.mean(), atol=0.5, rtol=0)


@pytest.mark.parametrize("tolerance", [None, 0.1])
def test_neither_budget_nor_company_change_an_estimate(tolerance):
    vae, law = linear_gaussian(widened=1.3)
    x = images(law, 21)
    calls: list[tuple[int, int]] = []
    whole = estimate(vae, x, 150, tolerance=tolerance)
    for budget in (300_000, 900_000):
        calls.clear()
        with LiveBytes() as live:
            parts = estimate(vae, x, 150, budget, tolerance=tolerance, progress=lambda *call: calls.append(call))
        assert live.peak < budget
        assert calls == sorted(calls)
        assert calls[-1] == (21 * (150 + FIT_COST), 21 * (150 + FIT_COST))
        for name, value in whole.tensors().items():
            torch.testing.assert_close(getattr(parts, name), value, rtol=1e-7, atol=1e-7, equal_nan=True)
    some = estimate(vae, x[[7, 3]], 150, tolerance=tolerance, indices=[7, 3])
    torch.testing.assert_close(some.log_prob, whole.log_prob[[7, 3]])
    assert not torch.equal(estimate(vae, x, 150, seed=1).log_prob, whole.log_prob)


def test_an_approximate_decoder_is_corrected_on_the_same_draws():
    vae, x, _ = correlated()
    plain, other = estimate(vae, x, 128), estimate(vae, x, 128, approximate=copy.deepcopy(vae.decoder))
    for name, value in plain.tensors().items():
        if name != "decoder_evaluations" and not name.startswith("approximation"):
            torch.testing.assert_close(getattr(other, name), value, equal_nan=True)
    assert (other.decoder_evaluations == FIT_COST + 128 + 2 * PAIRED).all()


def test_decoder_evaluations_are_counted():
    vae, x, _ = correlated()
    evaluated = 0

    def count(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        nonlocal evaluated
        evaluated += arguments[0].shape[:2].numel() if arguments[0].shape[1] == len(x) else 0

    vae.decoder.register_forward_pre_hook(count)
    estimate(vae, x, 32)
    assert evaluated == len(x) * (POINTS + 32)
    assert POINTS * fitted_proposal.GRADIENT_COST == FIT_COST


class Broken(nn.Module):
    """Likelihoods that are not a number."""

    def forward(self, z: Tensor) -> Distribution:
        p = Independent(Normal(z.sum(-1)[..., None, None, None].expand(*z.shape[:-1], 1, 8, 8), 1.0), 3)
        right = p.log_prob
        p.log_prob = lambda x: right(x) * torch.where(x[..., 0, 0, 0] > 50, torch.nan, 1.0)
        return p


def test_a_model_that_diverged_is_reported_with_the_image():
    vae, x, _ = correlated()
    x[3] = 100.0
    with pytest.raises(RunError, match="gives image 3 a non-finite importance weight"):
        estimate(VAE(vae.encoder, Broken(), vae.prior), x, 5)


def test_a_trained_decoder_of_pixels_gains():
    """A posterior that is no Gaussian: logits of a network."""
    with seeded("network"):
        body = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 64), nn.Unflatten(-1, (1, 8, 8)))
        with torch.no_grad():
            body[0].weight.mul_(2)
            body[2].weight.mul_(4)
        vae = VAE(nn.Identity(), IndependentDecoder(body), StandardNormal((8,))).double()
        x = vae.decoder(torch.randn(20, 8, dtype=torch.float64)).sample()

    class Rough(nn.Module):
        def forward(self, x: Tensor) -> Distribution:
            return Independent(Normal(torch.zeros(len(x), 8).to(x), 0.7), 1)

    model = Known(VAE(Rough(), vae.decoder, vae.prior), x, lambda _: x)
    fitted, encoder = estimate(model.vae, x, 128), estimate(model.vae, x, 256, proposal="encoder")
    assert fitted.effective_sample_size.median() > 3 * encoder.effective_sample_size.median()
    assert fitted.log_prob.mean() > encoder.log_prob.mean()


def test_draws_depend_on_the_precision_not_on_the_choice_of_its_eigenvectors():
    """Of equal eigenvalues any orthonormal basis will do, and the sign of every axis is free."""
    batch, dimensions = 3, 5
    q = Normal(torch.zeros(batch, dimensions), torch.ones(batch, dimensions))
    centre = torch.randn(batch, dimensions).double()
    values = torch.tensor([0.5, 2.0, 2.0, 2.0, 9.0]).double().expand(batch, -1)
    axes = torch.linalg.qr(torch.randn(batch, dimensions, dimensions).double()).Q
    turned = axes.clone()
    turned[..., 1:4] = axes[..., 1:4] @ torch.linalg.qr(torch.randn(3, 3).double()).Q
    turned[..., 0] *= -1
    noise, uniform = torch.randn(40, batch, dimensions), torch.rand(40, batch).double()
    one = FittedProposal(q, centre, axes, values).draw(noise, uniform)
    other = FittedProposal(q, centre, turned, values).draw(noise, uniform)
    torch.testing.assert_close(one, other)
