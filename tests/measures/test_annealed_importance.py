"""Annealed importance sampling and Hamiltonian moves, on models whose likelihood is known."""

import math

import pytest
import torch
from known_models import every_model, images, known, linear_gaussian
from scipy.stats import kstest
from torch import nn
from torch.distributions import Distribution, Independent, Normal

from mpdvae.errors import InputError, RunError
from mpdvae.measures import annealed_importance
from mpdvae.measures.annealing_chains import schedule
from mpdvae.measures.hamiltonian import TARGET, Density, adapted, move
from mpdvae.models.priors import StandardNormal
from mpdvae.vae import VAE

STEPS, CHAINS = 12, 16
LEAPFROG = 3


# -- estimates ---------------------------------------------------------------------------------------------------------


@every_model
def test_weights_are_unbiased_whatever_the_encoder(name):
    model = known(name)
    e = annealed_importance.estimate(model.vae, model.x, CHAINS, STEPS, LEAPFROG)
    true = model.log_prob
    ratios, errors = (e.log_prob - true).exp(), e.standard_error * (e.log_prob - true).exp()
    assert abs(ratios.mean() - 1) < 4 * errors.square().sum().sqrt() / len(ratios)
    assert ((e.log_prob - true).abs() < 5 * e.standard_error + 0.02).all()
    assert ((e.effective_sample_size >= 1) & (e.effective_sample_size <= CHAINS)).all()


@every_model
def test_the_sandwich_holds_the_truth_and_closes(name):
    model = known(name)
    gaps = []
    for steps in (2, STEPS):
        s = annealed_importance.sandwich(model.vae, 40, CHAINS, steps, LEAPFROG)
        true = model.law(s.x)
        below, above = (true - s.lower.log_prob), (s.upper.log_prob - true)
        for side in (below, above):
            assert side.mean() > -3 * side.std() / 40**0.5
        gaps.append((below + above).mean().item())
    assert gaps[1] < 0.7 * gaps[0]


def test_reverse_weights_are_unbiased():
    vae, law = linear_gaussian(latent=2)
    s = annealed_importance.sandwich(vae, 200, CHAINS, 8, LEAPFROG)
    ratios = (law.log_prob(s.x.flatten(1)) - s.upper.log_prob).exp()
    assert abs(ratios.mean() - 1) < 4 * ratios.std() / 200**0.5


def test_errors_are_as_large_as_they_say():
    vae, law = linear_gaussian(latent=2)
    x = images(law, 1).expand(150, -1, -1, -1)
    e = annealed_importance.estimate(vae, x, CHAINS, 10, LEAPFROG)
    error = e.log_prob - law.log_prob(x.flatten(1))
    assert 0.88 < ((error.abs() < 1.96 * e.standard_error).double().mean()) < 0.98
    assert e.standard_error.square().mean().sqrt().item() == pytest.approx(error.std().item(), rel=0.2)


def test_one_step_is_plain_importance_sampling_from_the_prior():
    model = known("binary")
    e = annealed_importance.estimate(model.vae, model.x, chains=2000, steps=1)
    assert ((e.log_prob - model.log_prob).abs() < 4.5 * e.standard_error).all()
    assert e.acceptance_rate.isnan().all()


def test_moves_are_accepted_about_as_often_as_aimed_at():
    vae, law = linear_gaussian()
    e = annealed_importance.estimate(vae, images(law, 6), CHAINS, 100, LEAPFROG)
    assert ((e.acceptance_rate - TARGET).abs() < 0.15).all()


def test_neither_the_budget_nor_the_other_images_matter():
    vae, law = linear_gaussian()
    x, calls = images(law, 7), []
    whole = annealed_importance.estimate(vae, x, 4, 10, progress=calls.append)
    assert calls == sorted(calls)
    assert calls[-1] == pytest.approx(1)
    parts = annealed_importance.estimate(vae, x, 4, 10, memory_budget=50_000)
    torch.testing.assert_close(parts.log_prob, whole.log_prob)
    some = annealed_importance.estimate(vae, x[[5, 2]], 4, 10, indices=[5, 2])
    torch.testing.assert_close(some.log_prob, whole.log_prob[[5, 2]])
    assert not torch.equal(annealed_importance.estimate(vae, x, 4, 10, seed=1).log_prob, whole.log_prob)
    one = annealed_importance.sandwich(vae, 5, 4, 10)
    other = annealed_importance.sandwich(vae, 5, 4, 10, memory_budget=50_000)
    torch.testing.assert_close(one.upper.log_prob, other.upper.log_prob)


def test_the_model_and_the_random_state_are_left_as_they_were():
    vae, law = linear_gaussian()
    state = torch.get_rng_state()
    annealed_importance.sandwich(vae, 2, 2, 3)
    annealed_importance.estimate(vae, images(law, 2), 2, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert vae.training
    assert all(p.grad is None for p in vae.parameters())


def test_the_schedule_rises_from_0_to_1_slowest_at_the_ends():
    for steps in (1, 2, 7, 100):
        betas = schedule(steps)
        assert (betas[0], betas[-1], len(betas)) == (0, 1, steps + 1)
        assert (betas.diff() > 0).all()
        torch.testing.assert_close(betas + betas.flip(0), torch.ones_like(betas))
    assert schedule(100).diff().argmin() in (0, 99)


# -- moves -------------------------------------------------------------------------------------------------------------


def normal(z: torch.Tensor) -> Density:
    return Density(-z.square().sum(-1) / 2, -z)


def test_moves_leave_the_density_unchanged():
    z = torch.randn(4000, 2, dtype=torch.float64)
    step_size = torch.full((4000,), 1.1, dtype=torch.float64)
    for _ in range(3):
        z, acceptance = move(normal, z, step_size, torch.randn_like(z), torch.rand(4000), 3)
    assert acceptance.mean() < 0.95  # the correction has work to do
    for column in z.mT:
        assert kstest(column.numpy(), "norm").pvalue > 0.01


def test_a_move_reversed_leads_back():
    z, momentum = torch.randn(2, 50, 3, dtype=torch.float64)
    step_size, always = torch.full((50,), 0.3, dtype=torch.float64), torch.zeros(50)
    there, _ = move(normal, z, step_size, momentum, always, 4)
    position, rho = z, momentum + 0.15 * -z
    for step in range(4):
        position = position + 0.3 * rho
        rho = rho - (0.3 if step < 3 else 0.15) * position
    torch.testing.assert_close(there, position)
    back, _ = move(normal, there, step_size, -rho, always, 4)
    torch.testing.assert_close(back, z)


def test_step_sizes_find_the_acceptance_rate_that_is_aimed_at():
    z, step_size, rates = torch.randn(20, 5), torch.full((20,), 0.01), []
    for _ in range(400):
        z, acceptance = move(normal, z, step_size, torch.randn_like(z), torch.rand(20), 5)
        step_size = adapted(step_size, acceptance)
        rates.append(acceptance.mean().item())
    assert sum(rates[200:]) / 200 == pytest.approx(TARGET, abs=0.03)


def test_where_the_density_is_no_number_nothing_moves():
    def broken(z: torch.Tensor) -> Density:
        return Density(torch.full((3,), math.nan), torch.full((3, 2), math.nan))

    z = torch.randn(3, 2)
    there, acceptance = move(broken, z, torch.ones(3), torch.randn(3, 2), torch.zeros(3), 2)
    assert torch.equal(there, z)
    assert torch.equal(acceptance, torch.zeros(3))


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chains", "steps", "leapfrog_steps"])
def test_counts_below_one_are_refused(name):
    vae, law = linear_gaussian()
    with pytest.raises(InputError, match=rf"{name}: expected a number >= 1, got 0"):
        annealed_importance.estimate(vae, images(law, 2), **{name: 0})
    with pytest.raises(InputError, match=rf"{name}: expected a number >= 1, got 0"):
        annealed_importance.sandwich(vae, 2, **{name: 0})


def test_bad_input_gets_a_sentence():
    vae, law = linear_gaussian()
    x = images(law, 3)
    with pytest.raises(InputError, match="count: expected a number >= 1, got 0"):
        annealed_importance.sandwich(vae, 0)
    with pytest.raises(InputError, match=r"x: expected images .* at least one, got shape \(0, 1, 2, 3\)"):
        annealed_importance.estimate(vae, x[:0])
    with pytest.raises(InputError, match=r"memory_budget: one image with 16 chains needs [\d,]+ bytes, got 100"):
        annealed_importance.estimate(vae, x, memory_budget=100)
    broken = x.clone()
    broken[1, 0, 0, 0] = math.inf
    with pytest.raises(InputError, match="x: image 40 has a non-finite pixel"):
        annealed_importance.estimate(vae, broken, indices=[30, 40, 50])


class Spoilt(nn.Module):
    """A decoder whose likelihood of images with a first pixel above 100 is no number."""

    def forward(self, z: torch.Tensor) -> Distribution:
        mean = z.sum(-1)[..., None, None, None].expand(*z.shape[:-1], 1, 2, 3)
        return SpoiltLaw(Normal(mean, 1.0, validate_args=False), 3, validate_args=False)


class SpoiltLaw(Independent):
    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        return torch.where(value[..., 0, 0, 0] > 100, math.nan, super().log_prob(value))


def test_a_model_that_diverged_is_reported_with_the_image():
    vae, law = linear_gaussian()
    x = images(law, 4)
    x[2, 0, 0, 0] = 1000.0
    spoilt = VAE(vae.encoder, Spoilt(), StandardNormal((3,))).double()
    with pytest.raises(RunError, match="gives image 2 a non-finite importance weight"):
        annealed_importance.estimate(spoilt, x, 2, 2)
