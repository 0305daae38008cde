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
from mpdvae.objectives.forward_pass import ForwardPass
from mpdvae.objectives.kl_weights import GECO, Constant, Linear
from mpdvae.objectives.terms import (
    KL,
    Diversity,
    MutualPosteriorDivergence,
    Objective,
    Smoothness,
    importance_weighted,
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


# The importance-weighted bound


def test_the_bound_of_one_sample_is_the_elbo(x):
    vae = vae_with("flow-affine")
    torch.manual_seed(1)
    bound = Objective({"importance_weighted": importance_weighted})(vae, x).total
    torch.manual_seed(1)
    elbo = Objective({"reconstruction": reconstruction, "kl": KL()}, estimator="generic")(vae, x).total
    torch.testing.assert_close(bound, elbo)


def test_the_bound_is_that_of_the_vae(x):
    vae = vae_with()
    torch.manual_seed(1)
    bound = Objective({"importance_weighted": importance_weighted}, samples=4)(vae, x).total
    torch.manual_seed(1)
    torch.testing.assert_close(bound, -vae.importance_weighted_bound(x, 4).mean())


def test_the_gradient_of_the_bound_weighs_samples_by_their_weights(x):
    """Burda et al. 2016, equation 14: sum_i w~_i grad log w_i with normalised weights w~, sample by sample."""
    vae, k = vae_with(), 3
    torch.manual_seed(1)
    found = gradients(Objective({"importance_weighted": importance_weighted}, samples=k)(vae, x).total, vae)
    torch.manual_seed(1)
    log_w = vae.log_weights(x, k)
    share = log_w.detach().exp() / log_w.detach().exp().sum(0)
    by_hand = sum(-share[i, n] * log_w[i, n] / len(x) for i in range(k) for n in range(len(x)))
    for one, other in zip(found, gradients(by_hand, vae), strict=True):
        torch.testing.assert_close(one, other)


# The divergence as a plain loss


def test_the_plain_divergence_is_subtracted_up_to_its_limit(x):
    vae = vae_with()
    mpd = mutual_posterior_divergence(vae.encoder(x)).mean.item()
    below = Objective({"mpd": MutualPosteriorDivergence(0.3, limit_nats=mpd + 1)})(vae, x).total
    assert below.item() == pytest.approx(-0.3 * mpd)
    assert any((g != 0).any() for g in gradients(below, vae))
    above = Objective({"mpd": MutualPosteriorDivergence(0.3, limit_nats=mpd / 2)})(vae, x).total
    assert above.item() == pytest.approx(-0.3 * mpd / 2)
    assert all((g == 0).all() for g in gradients(above, vae))


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
    with pytest.raises(
        InputError, match=r"free bits per dimension: expected a factorised prior, got FlowTransformed; use"
    ):
        objective(vae_with("flow-affine"), x)


# Weights


def test_the_schedule_weighs_the_kl(x):
    vae = vae_with()
    kl = vae.kl(vae.encoder(x), vae.encoder(x).rsample((1,))).mean().item()
    annealed = Objective({"kl": KL(Linear(8))})
    assert [annealed(vae, x, step).total.item() / kl for step in (0, 2, 8, 9)] == pytest.approx([0, 0.25, 1, 1])
    floored = Objective({"kl": KL(Constant(0.5), free_bits_nats=kl + 1)})
    assert floored(vae, x).total.item() == pytest.approx(0.5 * (kl + 1))


def test_a_weight_that_adapts_is_moved_by_what_the_batch_gave(x):
    vae, weight = vae_with(), GECO(goal_nats=5.0)
    objective = Objective({"reconstruction": reconstruction, "kl": KL(weight)}, adaptive=weight)
    loss = objective(vae, x)
    assert loss.terms["kl"].item() == pytest.approx(loss.forward.kl.mean().item())
    objective.adapt(loss)
    assert weight.state["violation_nats"] == pytest.approx(loss.forward.reconstruction.mean().item() - 5)
    torch.testing.assert_close(objective(vae, x).terms["kl"], loss.forward.kl.mean() / weight.multiplier)
    plain = Objective({"kl": KL()})
    plain.adapt(plain(vae, x))  # nothing adapts


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
        (lambda: MutualPosteriorDivergence(0.0), "mpd_weight: a term needs a weight > 0, got 0.0"),
        (lambda: MutualPosteriorDivergence(1.0, 0.0), "mpd_limit_nats: a term needs a weight > 0, got 0.0"),
    ],
)
def test_impossible_objectives_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()
