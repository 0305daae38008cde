"""Priors beyond the laws of all: AR(1) against a multivariate normal and its rate bound, VampPrior against its mixture."""

import math

import pytest
import torch
from constructors import DECODERS, ENCODERS, binary_images, shaken
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from mpdvae.distributions.gaussian_ar1 import GaussianAR1
from mpdvae.errors import InputError
from mpdvae.models.encoders import mlp_encoder
from mpdvae.models.priors import AR1Prior, VampPrior
from mpdvae.vae import VAE

pytestmark = pytest.mark.usefixtures("float64")

LIKE = torch.zeros((), dtype=torch.float64)
CODES = {"each": ((6,), None), "pairs": ((6,), 3), "two-steps": ((6,), 2), "maps": ((2, 2, 3), None)}
"""Shape of a code and length; what is read as which sequence is in `sequence`."""
codes = pytest.mark.parametrize(("latent_shape", "length"), CODES.values(), ids=CODES)


def covariance(p: GaussianAR1) -> torch.Tensor:
    """Of a flattened sequence [step channel]: alpha^|t - t'| within a channel."""
    t = torch.arange(p.steps, dtype=torch.float64)
    return torch.kron(p.correlation ** (t[:, None] - t).abs(), torch.eye(p.channels))


def diagonal(p: GaussianAR1, mean: torch.Tensor, deviation: torch.Tensor) -> Independent:
    """A posterior from moments [batch step channel]."""
    return Independent(Normal(p.from_sequence(mean), p.from_sequence(deviation)), len(p.event_shape))


@codes
def test_ar1_is_a_multivariate_normal(latent_shape, length):
    p = GaussianAR1(latent_shape, 0.7, LIKE, length)
    exact = MultivariateNormal(torch.zeros(math.prod(latent_shape)), covariance(p))
    z = torch.randn(5, *latent_shape)
    assert torch.equal(p.from_sequence(p.to_sequence(z)), z)
    torch.testing.assert_close(p.log_prob(z), exact.log_prob(p.to_sequence(z).flatten(1)))
    drawn = p.to_sequence(p.sample((20_000,))).flatten(1)
    torch.testing.assert_close(drawn.T @ drawn / len(drawn), exact.covariance_matrix, rtol=0, atol=0.04)


def test_a_vector_is_read_step_by_step_and_maps_position_by_position():
    vector = GaussianAR1((6,), 0.5, LIKE, 3).to_sequence(torch.arange(6.0))
    assert vector.tolist() == [[0, 1], [2, 3], [4, 5]]
    maps = torch.arange(8.0).reshape(2, 2, 2)
    assert GaussianAR1((2, 2, 2), 0.5, LIKE).to_sequence(maps).tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]


@codes
def test_the_kl_in_closed_form(latent_shape, length):
    p = GaussianAR1(latent_shape, 0.7, LIKE, length)
    size = (5, p.steps, p.channels)
    mean, deviation = torch.randn(size), 0.3 + torch.rand(size)
    exact = kl_divergence(
        MultivariateNormal(mean.flatten(1), torch.diag_embed(deviation.flatten(1).square())),
        MultivariateNormal(torch.zeros(math.prod(latent_shape)), covariance(p)),
    )
    torch.testing.assert_close(kl_divergence(diagonal(p, mean, deviation), p), exact)


@pytest.mark.parametrize("correlation", [0.1, 0.9, 0.99])
@codes
def test_the_committed_rate_is_reached_by_the_best_posterior_and_by_no_other(latent_shape, length, correlation):
    p = GaussianAR1(latent_shape, correlation, LIKE, length)
    best = torch.linalg.inv(covariance(p)).diagonal().rsqrt().reshape(1, p.steps, p.channels)
    reached = kl_divergence(diagonal(p, torch.zeros_like(best), best), p)
    assert reached.item() == pytest.approx(p.least_rate_nats)
    noise = torch.randn(1000, p.steps, p.channels)
    other = diagonal(p, 0.1 * torch.randn_like(noise), best * (0.2 * noise).exp())
    assert kl_divergence(other, p).min() > p.least_rate_nats


def test_ar1_prior_says_its_rate():
    prior = AR1Prior((8,), 0.9, length=4)
    assert f"rate of at least {prior().least_rate_nats:.3g} nats" in repr(prior)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AR1Prior((1,), 0.5), "needs a sequence of at least 2 steps, got 1"),
        (lambda: AR1Prior((3, 1, 1), 0.5), "needs a sequence of at least 2 steps, got 1"),
        (lambda: AR1Prior((6,), 0.5, 4), "a code of 6 numbers cannot be read as 4 equal steps; give a divisor of 6"),
        (
            lambda: AR1Prior((2, 2, 2), 0.5, 2),
            "for map-shaped codes the 4 positions are the steps, got 2; leave it out",
        ),
        (lambda: AR1Prior((6,), 1.0), r"correlation: an AR\(1\) prior needs a number in \(0, 1\), got 1.0"),
        (lambda: VampPrior(torch.nn.Identity(), (1, 2, 2), 0), "components: expected a number >= 1, got 0"),
    ],
)
def test_impossible_priors_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


# VampPrior

SHAPE = (1, 5, 4)


def vamp_vae(latent: int = 3, components: int = 4) -> VAE:
    encoder = ENCODERS["mlp"].build(SHAPE, latent)
    return shaken(VAE(encoder, DECODERS["mlp"].build(SHAPE, latent), VampPrior(encoder, SHAPE, components)).double())


def test_vamp_is_the_mixture_of_its_posteriors():
    vae, z = vamp_vae(), torch.randn(7, 3)
    posteriors = [vae.encoder(u[None]) for u in vae.prior.pseudo_inputs]
    by_hand = torch.stack([q.log_prob(z[:, None])[:, 0].exp() for q in posteriors]).mean(0).log()
    torch.testing.assert_close(vae.prior().log_prob(z), by_hand)


def test_vamp_integrates_to_one():
    vae, grid = vamp_vae(latent=2), torch.arange(-15, 15, 0.05)
    z = torch.cartesian_prod(grid, grid)
    assert vae.prior().log_prob(z).logsumexp(0).item() + 2 * math.log(0.05) == pytest.approx(0, abs=1e-3)


def test_vamp_gradients_reach_pseudo_inputs_and_encoder():
    vae = vamp_vae()
    vae.prior().log_prob(torch.randn(64, 3)).sum().backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in (vae.prior.logits, *vae.encoder.parameters()))


def test_vamp_leaves_the_encoder_to_the_vae():
    """Its state is the pseudo-inputs; a copy of the VAE has a prior that follows the copy's encoder."""
    import copy

    vae, x = vamp_vae(), binary_images(6, *SHAPE)
    assert [name for name in vae.state_dict() if name.startswith("prior.")] == ["prior.logits"]
    twin, z = copy.deepcopy(vae), torch.randn(5, 3)
    for parameter in twin.encoder.parameters():
        torch.nn.init.normal_(parameter)
    assert not torch.equal(twin.prior().log_prob(z), vae.prior().log_prob(z))
    loaded = vamp_vae()
    loaded.load_state_dict(twin.state_dict())
    torch.testing.assert_close(loaded.prior().log_prob(z), twin.prior().log_prob(z), rtol=0, atol=0)
    assert vae.sample(2).shape == (2, *SHAPE)
    assert vae.log_weights(x, 3).shape == (3, 6)


def test_vamp_is_not_what_the_encoder_is_initialised_by():
    """Data-dependent initialisation: posteriors of the images, not of the pseudo-inputs, get unit spread."""
    vae, x = vamp_vae(), binary_images(64, *SHAPE)
    vae.initialise(x)
    mean = vae.encoder(x).mean
    torch.testing.assert_close(mean.std(0), torch.ones(3), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("image_range", "shape"), [((0.0, 1.0), SHAPE), ((-1.0, 1.0), (3, 2, 2))])
def test_pseudo_inputs_are_images(image_range, shape):
    prior = shaken(VampPrior(mlp_encoder(shape, 2), shape, 50, image_range), 3.0)
    low, high = image_range
    assert low < prior.pseudo_inputs.min() < low + 0.1
    assert high - 0.1 < prior.pseudo_inputs.max() < high
