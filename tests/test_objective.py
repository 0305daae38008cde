"""Objectives: named terms that sum to the loss, free bits, schedules, and the plain autoencoder."""

import math

import pytest
import torch
from constructors import DECODERS, ENCODERS, PRIORS, binary_images, shaken
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import kl_divergence

from mpdvae.divergence import diversity_term, mutual_posterior_divergence
from mpdvae.errors import InputError
from mpdvae.objective import (
    KL,
    Constant,
    Cyclical,
    Diversity,
    ForwardPass,
    Linear,
    Objective,
    Smoothness,
    reconstruction,
)
from mpdvae.vae import VAE

pytestmark = pytest.mark.usefixtures("float64")

SHAPE, LATENT = (1, 5, 4), 3


def vae_with(prior: str = "standard-normal") -> VAE:
    parts = ENCODERS["mlp"].build(SHAPE, LATENT), DECODERS["mlp"].build(SHAPE, LATENT), PRIORS[prior](LATENT)
    return shaken(VAE(*parts).double())


@pytest.fixture
def x() -> torch.Tensor:
    return binary_images(6, *SHAPE)


def gradients(loss: torch.Tensor, module: torch.nn.Module) -> list[torch.Tensor]:
    parameters = list(module.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


# Terms

TERMS = {
    "reconstruction": reconstruction,
    "kl": KL(Linear(10), free_bits_nats=0.1),
    "diversity": Diversity(1.5),
    "smoothness": Smoothness(0.5),
}


@given(
    names=st.sets(st.sampled_from(sorted(TERMS)), min_size=1),
    prior=st.sampled_from(["standard-normal", "flow-affine"]),
    samples=st.integers(1, 3),
    noise=st.booleans(),
    step=st.integers(0, 20),
)
def test_terms_sum_to_the_total(names, prior, samples, noise, step):
    objective = Objective({name: TERMS[name] for name in sorted(names)}, samples, noise)
    loss = objective(vae_with(prior), binary_images(6, *SHAPE), step)
    assert set(loss.terms) == names
    assert loss.total.shape == ()
    torch.testing.assert_close(loss.total, torch.stack([loss.terms[name] for name in names]).sum())


def test_reconstruction_and_kl_make_the_negative_elbo(x):
    vae = vae_with()
    torch.manual_seed(1)
    loss = Objective({"reconstruction": reconstruction, "kl": KL()}, samples=3)(vae, x)
    torch.manual_seed(1)
    torch.testing.assert_close(loss.total, -vae.elbo(x, 3).mean())


@pytest.mark.parametrize("prior", ["standard-normal", "flow-affine"])
def test_generic_estimator_is_the_mean_of_log_weights(x, prior):
    vae = vae_with(prior)
    torch.manual_seed(1)
    loss = Objective({"reconstruction": reconstruction, "kl": KL()}, samples=3, estimator="generic")(vae, x)
    torch.manual_seed(1)
    torch.testing.assert_close(loss.total, -vae.log_weights(x, 3).mean())


def test_closed_form_and_generic_kl_agree_in_expectation(x):
    vae = vae_with()
    generic = ForwardPass(vae, x, 20_000, estimator="generic").kl
    analytic = ForwardPass(vae, x, 1).kl
    torch.testing.assert_close(analytic, kl_divergence(vae.encoder(x), vae.prior()))
    assert not torch.equal(generic, analytic)
    torch.testing.assert_close(generic, analytic, rtol=0, atol=0.05)


def test_regularisers_are_those_of_the_divergence(x):
    vae = vae_with()
    q = vae.encoder(x)
    for form in ("released", "paper", "submitted"):
        loss = Objective({"diversity": Diversity(2.0, form)})(vae, x)
        torch.testing.assert_close(loss.total, diversity_term(q, 2.0, form))
    loss = Objective({"smoothness": Smoothness(0.5)})(vae, x)
    torch.testing.assert_close(loss.total, 0.5 * mutual_posterior_divergence(q).std)


def test_autoencoder_has_neither_noise_nor_kl(x):
    vae = vae_with()
    autoencoder = Objective({"reconstruction": reconstruction}, noise=False)
    loss, again = autoencoder(vae, x), autoencoder(vae, x)
    assert torch.equal(loss.total, again.total)
    torch.testing.assert_close(loss.total, -vae.decoder(vae.encoder(x).mean).log_prob(x).mean())
    assert torch.equal(loss.forward.z[0], vae.encode(x))
    loss.total.backward()
    head = vae.encoder.body[-1]
    of_mean, of_log_variance = head.bias.grad.chunk(2)
    assert (of_mean != 0).all()
    assert (of_log_variance == 0).all()


def test_noise_differs_from_pass_to_pass(x):
    vae, objective = vae_with(), Objective({"reconstruction": reconstruction})
    assert objective(vae, x).total != objective(vae, x).total


# Free bits


def test_below_the_floor_kl_is_the_floor_without_gradient(x):
    vae = vae_with()
    kl = vae.kl(vae.encoder(x), vae.encoder(x).rsample((1,))).mean().item()
    below = Objective({"kl": KL(free_bits_nats=kl + 1)})(vae, x).total
    assert below.item() == pytest.approx(kl + 1)
    assert all((g == 0).all() for g in gradients(below, vae))
    above = Objective({"kl": KL(free_bits_nats=kl - 0.01)})(vae, x).total
    assert above.item() == pytest.approx(kl)
    assert any((g != 0).any() for g in gradients(above, vae))


def test_the_floor_is_under_the_batch_mean_not_under_each_image(x):
    vae = vae_with()
    each = vae.kl(vae.encoder(x), vae.encoder(x).rsample((1,)))
    floor = each.median().item()
    assert each.min() < floor < each.max()
    total = Objective({"kl": KL(free_bits_nats=floor)})(vae, x).total
    assert total.item() == pytest.approx(max(each.mean().item(), floor))


def test_free_bits_per_dimension_by_hand(x):
    vae = vae_with()
    q = vae.encoder(x)
    m, s = q.mean, q.stddev
    per_dimension = (0.5 * (m**2 + s**2 - 2 * s.log() - 1)).mean(0)
    torch.testing.assert_close(ForwardPass(vae, x).kl_per_dimension, per_dimension)
    floor = per_dimension.sort().values[:2].mean().item()  # between the smallest and the next
    total = Objective({"kl": KL(free_bits_per_dimension_nats=floor)})(vae, x).total
    assert total.item() == pytest.approx(sum(max(kl, floor) for kl in per_dimension.tolist()))
    smallest = int(per_dimension.argmin())
    bias = gradients(total, vae.encoder)[[n for n, _ in vae.encoder.named_parameters()].index("body.3.bias")]
    for moments in bias.chunk(2):
        assert [bool(g == 0) for g in moments] == [k == smallest for k in range(LATENT)]


def test_free_bits_per_dimension_need_a_prior_that_factorises(x):
    objective = Objective({"kl": KL(free_bits_per_dimension_nats=0.1)})
    with pytest.raises(InputError, match=r"prior that factorises.* FlowTransformed"):
        objective(vae_with("flow-affine"), x)


# Schedules


@pytest.mark.parametrize(
    ("schedule", "weights"),
    [
        (Constant(), {0: 1, 10**6: 1}),
        (Constant(0.2), {0: 0.2, 10**6: 0.2}),
        (Linear(10), {0: 0, 1: 0.1, 5: 0.5, 9: 0.9, 10: 1, 11: 1, 1000: 1}),
        (Linear(10, start=0.5), {0: 0.5, 5: 0.75, 10: 1, 11: 1}),
        (Linear(1), {0: 0, 1: 1}),
        (Cyclical(100), {0: 0, 5: 0.4, 12: 0.96, 13: 1, 24: 1, 25: 0, 30: 0.4, 50: 0, 99: 1, 100: 1, 150: 1}),
        (Cyclical(30, cycles=3, rising_fraction=1.0), {0: 0, 1: 0.1, 9: 0.9, 10: 0, 19: 0.9, 20: 0, 29: 0.9, 30: 1}),
        (Cyclical(10, cycles=1, rising_fraction=0.2), {0: 0, 1: 0.5, 2: 1, 9: 1, 10: 1}),
    ],
    ids=repr,
)
def test_schedules(schedule, weights):
    assert {step: schedule(step) for step in weights} == pytest.approx(weights)


def test_the_schedule_weighs_the_kl(x):
    vae = vae_with()
    kl = vae.kl(vae.encoder(x), vae.encoder(x).rsample((1,))).mean().item()
    annealed = Objective({"kl": KL(Linear(8))})
    assert [annealed(vae, x, step).total.item() / kl for step in (0, 2, 8, 9)] == pytest.approx([0, 0.25, 1, 1])
    floored = Objective({"kl": KL(Constant(0.5), free_bits_nats=kl + 1)})
    assert floored(vae, x).total.item() == pytest.approx(0.5 * (kl + 1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Objective({"reconstruction": reconstruction}, samples=0), "samples: expected a number >= 1, got 0"),
        (lambda: Objective({}), "terms: expected at least one"),
        (lambda: Diversity(0.0), "diversity_weight: a term needs a weight > 0, got 0.0"),
        (lambda: Diversity(-1.0), "diversity_weight: a term needs a weight > 0, got -1.0"),
        (lambda: Smoothness(math.nan), "smoothness_weight: a term needs a weight > 0, got nan"),
        (lambda: KL(free_bits_nats=-0.1), "free bits: expected floors >= 0"),
        (lambda: KL(free_bits_per_dimension_nats=-0.1), "free bits: expected floors >= 0"),
        (lambda: Linear(0), "warm_up_steps: expected a number >= 1, got 0"),
        (lambda: Cyclical(0), "total_steps: expected a number >= 1, got 0"),
        (lambda: Cyclical(10, cycles=0), "cycles: expected a number >= 1, got 0"),
        (lambda: Cyclical(10, rising_fraction=0.0), "rising_fraction: expected a number in"),
        (lambda: Cyclical(10, rising_fraction=1.5), "rising_fraction: expected a number in"),
    ],
)
def test_impossible_objectives_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()
