"""The VAE's arithmetic: on a linear-Gaussian model whose likelihood is known, and on every kind of decoder.

    z ~ N(0, I),   x|z ~ N(W z + b, sigma^2 I)   =>   x ~ N(b, W W^T + sigma^2 I)

The columns of W are orthogonal, so that the exact posterior is diagonal and an encoder can be exact.
"""

import math

import pytest
import torch
from constructors import DECODERS, ENCODERS, PRIORS, binary_images, by_name, shaken, with_shapes
from linear_gaussian import SHAPE, SIGMA, B, LinearDecoder, LinearEncoder, W, log_likelihood
from torch.distributions import MultivariateNormal, kl_divergence

from mpdvae.errors import InputError
from mpdvae.models.priors import AR1Prior, StandardNormal
from mpdvae.vae import VAE

pytestmark = pytest.mark.usefixtures("float64")


def linear_vae(shift: float = 0.0, factor: float = 1.0) -> VAE:
    return VAE(LinearEncoder(shift, factor), LinearDecoder(), StandardNormal((2,)).double())


@pytest.fixture
def x() -> torch.Tensor:
    return MultivariateNormal(B, W @ W.mT + SIGMA**2 * torch.eye(4)).sample((6,)).unflatten(-1, SHAPE)


def assert_mean_is(values: torch.Tensor, expected: torch.Tensor) -> None:
    """Means over the first axis within 4 standard errors of `expected`, which are small enough to tell."""
    error = values.std(0) / math.sqrt(len(values))
    assert (error < 0.1).all()
    assert ((values.mean(0) - expected).abs() < 4 * error + 1e-12).all()


PERTURBED = linear_vae(shift=0.2, factor=1.2)


def known_elbo(x: torch.Tensor) -> torch.Tensor:
    """log p(x) - KL(q(z|x) || p(z|x))"""
    return log_likelihood(x) - kl_divergence(PERTURBED.encoder(x), LinearEncoder()(x))


@pytest.mark.parametrize("samples", [1, 7])
def test_exact_posterior_gives_the_likelihood_without_noise(x, samples):
    vae, expected = linear_vae(), log_likelihood(x)
    torch.testing.assert_close(vae.log_weights(x, samples), expected.expand(samples, 6))
    torch.testing.assert_close(vae.importance_weighted_bound(x, samples), expected)
    torch.testing.assert_close(vae.elbo(x, samples, "generic"), expected)


@pytest.mark.parametrize("estimator", ["analytic-if-possible", "generic"])
@pytest.mark.parametrize("samples", [1, 5])
def test_both_estimators_of_the_elbo_agree_in_expectation(x, estimator, samples):
    estimates = torch.stack([PERTURBED.elbo(x, samples, estimator) for _ in range(1000)])
    assert_mean_is(estimates, known_elbo(x))
    spread_per_draw = estimates.std(0) * math.sqrt(samples)
    assert (spread_per_draw > 0.05).all()


def test_more_samples_mean_less_noise(x):
    one = torch.stack([PERTURBED.elbo(x, 1, "generic") for _ in range(1000)]).var(0)
    five = torch.stack([PERTURBED.elbo(x, 5, "generic") for _ in range(1000)]).var(0)
    torch.testing.assert_close(one / five, torch.full((6,), 5.0), rtol=0.4, atol=0)


def test_elbo_is_the_mean_of_log_weights(x):
    torch.manual_seed(1)
    elbo = PERTURBED.elbo(x, 9, "generic")
    torch.manual_seed(1)
    torch.testing.assert_close(PERTURBED.log_weights(x, 9).mean(0), elbo)


def test_closed_form_kl_against_samples(x):
    q = PERTURBED.encoder(x)
    z = q.rsample((20_000,))
    exact = PERTURBED.kl(q, z)
    m, s = q.mean, q.stddev
    torch.testing.assert_close(exact, 0.5 * (m**2 + s**2 - 2 * s.log() - 1).sum(1))
    log_ratio = q.log_prob(z) - PERTURBED.prior().log_prob(z)
    assert_mean_is(log_ratio, exact)
    torch.testing.assert_close(PERTURBED.kl(q, z, "generic"), log_ratio.mean(0))


def test_elbo_is_below_the_bound_which_is_below_the_likelihood(x):
    log_weights = PERTURBED.log_weights(x, 50_000)
    bounds = {k: (log_weights.unflatten(0, (-1, k)).logsumexp(1) - math.log(k)).mean(0) for k in (1, 5, 50)}
    assert_mean_is(log_weights, known_elbo(x))
    assert (known_elbo(x) < bounds[5]).all()
    assert (bounds[5] < bounds[50]).all()
    assert (bounds[50] < log_likelihood(x)).all()


def test_bound_is_the_log_mean_weight(x):
    torch.manual_seed(1)
    bound = PERTURBED.importance_weighted_bound(x, 9)
    torch.manual_seed(1)
    torch.testing.assert_close(PERTURBED.log_weights(x, 9).exp().mean(0).log(), bound)


def test_weights_are_unbiased_and_the_bound_converges(x):
    relative = (PERTURBED.log_weights(x, 50_000) - log_likelihood(x)).exp()
    assert_mean_is(relative, torch.ones(6))
    torch.testing.assert_close(PERTURBED.importance_weighted_bound(x, 50_000), log_likelihood(x), rtol=0, atol=0.02)


def test_encode_is_the_posterior_mean(x):
    vae = linear_vae(shift=0.2)
    torch.testing.assert_close(vae.encode(x), LinearEncoder(0.2)(x).mean)
    assert torch.equal(vae.encode(x), vae.encode(x))


# Every kind of part, put together

ENCODER = ENCODERS["mlp"]
decoders = pytest.mark.parametrize(
    ("build", "shape"), with_shapes(DECODERS, (1, 5, 4)) + with_shapes(DECODERS, (3, 7, 6))
)
priors = pytest.mark.parametrize("build_prior", by_name(PRIORS))


def vae_of(build_decoder, build_prior, shape=(1, 5, 4)) -> VAE:
    return shaken(VAE(ENCODER.build(shape, 3), build_decoder(shape, 3), build_prior(3))).eval()


@priors
@decoders
def test_shapes_of_every_combination(build, shape, build_prior):
    vae, x = vae_of(build, build_prior, shape), binary_images(4, *shape)
    assert vae.log_weights(x, 3).shape == (3, 4)
    assert vae.elbo(x, 3).shape == vae.importance_weighted_bound(x, 3).shape == (4,)
    assert vae.encode(x).shape == (4, 3)
    assert vae.sample(2).shape == (2, *shape)
    assert set(vae.sample(2).unique().tolist()) <= {0.0, 1.0}


@decoders
def test_reconstructions(build, shape):
    vae, x = vae_of(build, PRIORS["standard-normal"], shape), binary_images(4, *shape)
    once, again = vae.reconstruct(x), vae.reconstruct(x)
    assert once.shape == x.shape
    assert torch.equal(once, again)
    assert 0 <= once.min() <= once.max() <= 1
    torch.testing.assert_close(once, vae.decode(vae.encode(x)))
    drawn = vae.reconstruct(x, greedy=False)
    assert drawn.shape == x.shape
    assert set(drawn.unique().tolist()) <= {0.0, 1.0}
    assert vae.decode(torch.randn(2, 5, 3)).shape == (2, 5, *shape)


def test_reconstruction_of_independent_pixels_is_their_probability():
    vae = vae_of(DECODERS["mlp"].build, PRIORS["standard-normal"])
    x = binary_images(2, 1, 5, 4)
    drawn = torch.stack([vae.reconstruct(x, greedy=False) for _ in range(2000)])
    torch.testing.assert_close(drawn.mean(0), vae.reconstruct(x), rtol=0, atol=0.06)


@priors
def test_a_flow_has_no_closed_form_and_falls_back_on_samples(build_prior):
    vae = vae_of(DECODERS["mlp"].build, build_prior)
    q = vae.encoder(binary_images(4, 1, 5, 4))
    z = q.rsample((2,))
    analytic, generic = vae.kl(q, z), vae.kl(q, z, "generic")
    assert torch.equal(analytic, generic) != isinstance(vae.prior, StandardNormal | AR1Prior)


def test_initialise_gives_unit_posteriors_and_needs_no_noise():
    vae = VAE(ENCODER.build((1, 5, 4), 3), DECODERS["pixelcnn-skips"].build((1, 5, 4), 3), PRIORS["flow-affine"](3))
    other = VAE(ENCODER.build((1, 5, 4), 3), DECODERS["pixelcnn-skips"].build((1, 5, 4), 3), PRIORS["flow-affine"](3))
    other.load_state_dict(vae.state_dict())
    x = binary_images(64, 1, 5, 4)
    vae.initialise(x)
    torch.manual_seed(99)
    other.initialise(x)
    q = vae.encoder(x)
    for numbers in (q.mean, 2 * q.stddev.log()):
        torch.testing.assert_close(numbers.mean(0), torch.zeros(3), rtol=0, atol=1e-9)
        torch.testing.assert_close(numbers.std(0), torch.ones(3), rtol=1e-3, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(vae.parameters(), other.parameters(), strict=True))


def test_initialising_from_a_single_image_is_refused():
    """Its outputs have no spread: the gains would become NaN."""
    vae = vae_of(DECODERS["mlp"].build, PRIORS["standard-normal"])
    with pytest.raises(InputError, match="at least 2 images, got 1"):
        vae.initialise(binary_images(1, 1, 5, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda vae, x: vae.log_weights(x, 0), "samples: expected a number >= 1, got 0"),
        (lambda vae, x: vae.elbo(x, 0), "samples: expected a number >= 1, got 0"),
        (lambda vae, x: vae.importance_weighted_bound(x, -1), "samples: expected a number >= 1, got -1"),
        (lambda vae, x: vae.sample(0), "count: expected a number >= 1, got 0"),
    ],
)
def test_no_samples_are_refused(call, message, x):
    with pytest.raises(InputError, match=message):
        call(linear_vae(), x)


def test_empty_latent_shape_is_refused():
    for shape in [(), (0,), (3, -1)]:
        with pytest.raises(InputError, match=r"latent shape: expected sizes >= 1, got"):
            StandardNormal(shape)()
