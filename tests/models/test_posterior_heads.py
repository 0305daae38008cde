"""Heads of encoders: the floors that they promise, for every image or over the batch; training against evaluation."""

import math

import pytest
import torch
from constructors import HEADED_ENCODERS, binary_images, shaken, with_shapes
from torch.distributions import Independent, Normal, kl_divergence

from mpdvae.errors import InputError
from mpdvae.models.encoders import GaussianEncoder
from mpdvae.models.posterior_heads import SQUARED_MEAN_FLOOR, BatchNormHead, DeltaHead, DUHead, variances_of_rate
from mpdvae.models.priors import standard_normal

pytestmark = pytest.mark.usefixtures("float64")

N, LATENT = 200, 4
SHAPES = {"vectors": (LATENT,), "maps": (LATENT, 2, 3)}
latent_shapes = pytest.mark.parametrize("latent_shape", SHAPES.values(), ids=SHAPES)


def kl_to_standard_normal(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    q = Independent(Normal(mean, (log_variance / 2).exp()), mean.ndim - 1)
    return kl_divergence(q, standard_normal(tuple(mean.shape[1:]), mean))


def raw(latent_shape, spread: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """What a body might give: means with another centre and scale in each dimension."""
    scale = 0.1 + 5 * torch.rand(latent_shape)
    return 2 + scale * torch.randn(N, *latent_shape), spread * torch.randn(N, *latent_shape)


# delta


@pytest.mark.parametrize("delta", [1e-3, 0.1, 2.0, 20.0])
def test_variances_of_rate_are_the_roots(delta):
    least, largest = variances_of_rate(delta)
    assert 0 < least < 1 < largest
    for v in (least, largest):
        assert math.log(v) - v + 2 * delta + 1 == pytest.approx(0, abs=1e-9 * max(1, v))
        p, q = Normal(torch.tensor(0.0), torch.tensor(math.sqrt(v))), Normal(0.0, 1.0)
        assert kl_divergence(p, q).item() == pytest.approx(delta, rel=1e-6)


@pytest.mark.parametrize("rate", [0.05, 3.0, 40.0])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
@latent_shapes
def test_the_kl_of_every_image_is_at_least_delta(latent_shape, rate, spread):
    """KL = delta + max(0, r) / 2 in each dimension, however extreme the variance."""
    head = DeltaHead(rate, latent_shape)
    r, a = raw(latent_shape, spread)
    kl = kl_to_standard_normal(*head(r, a))
    assert kl.min() >= rate - 1e-9
    expected = rate + r.relu().flatten(1).sum(1) / 2
    torch.testing.assert_close(kl, expected, rtol=1e-9, atol=10 * SQUARED_MEAN_FLOOR * math.prod(latent_shape))


def test_delta_itself_is_reached():
    head = DeltaHead(2.0, (LATENT,))
    kl = kl_to_standard_normal(*head(-torch.rand(N, LATENT), torch.randn(N, LATENT)))
    torch.testing.assert_close(kl, torch.full((N,), 2.0))


def test_delta_gradients_are_finite_at_the_roots():
    head = DeltaHead(2.0, (LATENT,))
    r, a = torch.full((2, LATENT), -1.0, requires_grad=True), torch.tensor([[-1e4], [1e4]]).expand(2, LATENT)
    a = a.clone().requires_grad_()
    mean, log_variance = head(r, a)
    (mean.sum() + log_variance.sum()).backward()
    for numbers in (mean, log_variance, r.grad, a.grad):
        assert numbers is not None
        assert numbers.isfinite().all()


def test_a_float32_head_keeps_its_rate():
    head = DeltaHead(5.0, (32,)).float()
    r, a = torch.randn(500, 32).float(), 4 * torch.randn(500, 32).float()
    mean, log_variance = head(r, a)
    assert mean.dtype == torch.float32
    assert kl_to_standard_normal(mean.double(), log_variance.double()).min() >= 5 - 1e-4


# Normalised over the batch


@latent_shapes
def test_batch_norm_moments_and_the_bound_of_the_mean_kl(latent_shape):
    """Deviation g and mean b in each channel; E KL >= n (g^2 + mean b^2) / 2, with equality at unit variances."""
    head = shaken(BatchNormHead(LATENT, 0.6))
    r, a = raw(latent_shape)
    mean, log_variance = head(r, a)
    channels = mean.transpose(0, 1).flatten(1)
    torch.testing.assert_close(channels.mean(1), head.shift.detach())
    torch.testing.assert_close(channels.std(1, correction=0), torch.full((LATENT,), 0.6), rtol=1e-3, atol=0)
    assert torch.equal(log_variance, a)
    bound = (mean[0].numel() / LATENT) * (0.6**2 + head.shift.detach().square()).sum() / 2
    assert kl_to_standard_normal(mean, log_variance).mean() > bound
    at_equality = kl_to_standard_normal(mean, torch.zeros_like(a)).mean()
    torch.testing.assert_close(at_equality, bound, rtol=1e-3, atol=0)


@latent_shapes
def test_du_holds_the_mean_square_of_its_scales(latent_shape):
    head = shaken(DUHead(LATENT, 0.6))
    mean, _ = head(*raw(latent_shape))
    deviations = mean.transpose(0, 1).flatten(1).std(1, correction=0)
    assert deviations.std() > 0.01
    assert deviations.square().mean().sqrt().item() == pytest.approx(0.6, rel=1e-3)
    torch.testing.assert_close(mean.transpose(0, 1).flatten(1).mean(1), head.shift.detach())


@pytest.mark.parametrize("floor", [1.0, 0.2])
def test_du_variances_have_a_floor_that_some_are_dropped_to(floor):
    head, dropout = DUHead(LATENT, dropout=0.3, floor=floor), 0.3
    least = floor / (2 * math.pi * math.e)
    a = torch.randn(2000, LATENT)
    _, log_variance = head(torch.randn(2000, LATENT), a)
    variance, before = log_variance.exp(), a.exp().clamp_min(least)
    assert variance.min().item() == pytest.approx(least)
    entropy = 0.5 * torch.log(2 * math.pi * math.e * variance)
    assert entropy.min().item() == pytest.approx(0.5 * math.log(floor))
    above = before > least + 1e-9
    dropped = above & (variance < least + 1e-9)
    assert dropped.sum().item() / above.sum().item() == pytest.approx(dropout, abs=0.02)
    kept = above & ~dropped
    torch.testing.assert_close(variance[kept] - least, (before[kept] - least) / (1 - dropout))
    _, evaluated = head.eval()(torch.randn(2000, LATENT), a)
    torch.testing.assert_close(evaluated.exp(), before)


@pytest.mark.parametrize("build", [lambda: BatchNormHead(LATENT, 0.6), lambda: DUHead(LATENT, 0.6)])
@latent_shapes
def test_evaluation_uses_running_statistics(build, latent_shape):
    """They approach those of the data, and an image's mean no longer depends on the others."""
    head = build()
    r, a = raw(latent_shape)
    for _ in range(100):
        head(r, a)
    trained, _ = head(r, a)
    evaluated, _ = head.eval()(r, a)
    torch.testing.assert_close(evaluated, trained, rtol=0.02, atol=0.02)
    torch.testing.assert_close(head(r[3:4], a[3:4])[0], evaluated[3:4])


# Encoders with heads

headed = pytest.mark.parametrize(("build", "shape"), with_shapes(HEADED_ENCODERS))


@headed
def test_encoders_with_heads(build, shape):
    """Shapes; gradients reach everything; in evaluation images are alone; the state holds all that matters."""
    encoder, x = shaken(build(shape, LATENT)), binary_images(5, *shape)
    q = encoder(x)
    assert isinstance(encoder, GaussianEncoder)
    assert (q.batch_shape, q.event_shape) == ((5,), (LATENT,))
    (q.mean * torch.randn(5, LATENT) + q.stddev.log() * torch.randn(5, LATENT)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    encoder.eval()
    torch.testing.assert_close(encoder(x).mean[2:3], encoder(x[2:3]).mean)
    other = build(shape, LATENT).eval()
    other.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(other(x).mean, encoder(x).mean, rtol=0, atol=0)
    assert type(encoder.head).__name__ in repr(encoder)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DeltaHead(0.0, (2,)), "rate_nats: a delta head needs a rate > 0, got 0.0"),
        (lambda: DeltaHead(1e3, (2,)), "rate_nats: 500 nats in each dimension are too many"),
        (lambda: BatchNormHead(2, 0.0), "scale: batch normalisation needs a scale > 0, got 0.0"),
        (lambda: DUHead(2, -1.0), "scale: batch normalisation needs a scale > 0, got -1.0"),
    ],
)
def test_impossible_heads_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()
