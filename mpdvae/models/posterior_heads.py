r"""Heads of an encoder: map the two numbers that a body gives per latent dimension to the mean m and log s^2 of q(z|x).

The plain Gaussian uses them directly. The other heads keep KL(q(z|x) || N(0, I)) away from zero by construction.

**delta** (delta-VAE: Razavi et al., ICLR 2019, https://arxiv.org/abs/1901.03416). With a rate of delta nats committed to a
dimension,

.. math:: s = s_l + (s_u - s_l)\,\sigma(a), \qquad m = \sqrt{2\delta + 1 + \ln s^2 - s^2 + \max(0, r)},

where s_l^2 < 1 < s_u^2 are the roots v of ln v - v + 2 delta + 1 = 0 and (r, a) is the output of the body. Then
KL = delta + max(0, r) / 2 >= delta for every image.

**batch norm** (BN-VAE: Zhu et al., ACL 2020, https://arxiv.org/abs/2004.12585). m = g (r - E r) / std(r) + b over the
batch, with g fixed and b learned. Since E m^2 = g^2 + b^2 and s^2 - ln s^2 >= 1, the mean KL over images is at least sum_k
(g^2 + b_k^2) / 2.

**DU** (DU-VAE: Shen et al., IJCAI 2021, https://arxiv.org/abs/2110.12381). The same with learned scales whose root mean
square is held at g (diversity), and dropout on the variance above a floor, to which dropped units are set (uncertainty):

.. math:: s^2 \leftarrow c + \mathrm{dropout}(\max(s^2 - c, 0)), \qquad c = \frac{a}{2 \pi e}:
          \text{an entropy of at least } \tfrac12 \ln a.

In evaluation, batch normalisation uses running statistics and nothing is dropped, so that an image's posterior does not
depend on the other images of the batch.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mpdvae.errors import InputError
from mpdvae.networks.dropout import Dropout
from mpdvae.system.batch_sharding import gathered, own

SQUARED_MEAN_FLOOR = 1e-6
"""Floor of the delta head: the square root has an infinite slope at 0."""

Moments = tuple[Float[Tensor, "batch *latent"], Float[Tensor, "batch *latent"]]
"""Mean and log-variance."""


class DeltaHead(nn.Module):
    """Posteriors whose KL to N(0, I) is at least `rate_nats` in total, for every image.

    Arguments:
        rate_nats: committed rate, divided equally among the dimensions, > 0.
        latent_shape: of a code.
    """

    def __init__(self, rate_nats: float, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        if not rate_nats > 0:
            raise InputError(f"rate_nats: a delta head needs a rate > 0, got {rate_nats}.")
        self.delta = rate_nats / math.prod(latent_shape)
        least, largest = variances_of_rate(self.delta)
        self.least_deviation, self.largest_deviation = math.sqrt(least), math.sqrt(largest)

    def forward(self, mean: Tensor, log_variance: Tensor) -> Moments:
        deviation = torch.lerp(
            mean.new_full((), self.least_deviation), mean.new_full((), self.largest_deviation), log_variance.sigmoid()
        )
        log_variance = 2 * deviation.log()
        squared_mean = 2 * self.delta + 1 + log_variance - deviation.square() + mean.relu()
        return squared_mean.clamp_min(SQUARED_MEAN_FLOOR).sqrt(), log_variance

    def extra_repr(self) -> str:
        return f"delta={self.delta:g} nats in each dimension"


class BatchNormHead(nn.Module):
    """Posterior means with standard deviation `scale` around a learned shift, over the batch.

    Arguments:
        channels: of a code: its length, or the channels of its maps.
        scale: g, > 0.
    """

    def __init__(self, channels: int, scale: float = 0.5) -> None:
        super().__init__()
        check_scale(scale)
        self.scale = scale
        self.norm = nn.BatchNorm1d(channels, affine=False)
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, mean: Tensor, log_variance: Tensor) -> Moments:
        return self.scale * normalised(self.norm, mean) + by_channel(self.shift, mean), log_variance

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}"


class DUHead(nn.Module):
    """Posterior means spread by batch normalisation, variances perturbed by dropout.

    Arguments:
        channels: of a code: its length, or the channels of its maps.
        scale: g, the root mean square over the channels of the means' standard deviations, > 0.
        dropout: fraction of the variances that are dropped to the floor in training.
        floor: a, > 0; 1 for an entropy of at least 0 in each dimension.
    """

    def __init__(self, channels: int, scale: float = 0.5, dropout: float = 0.2, floor: float = 1.0) -> None:
        super().__init__()
        check_scale(scale)
        self.scale, self.least_variance = scale, floor / (2 * math.pi * math.e)
        self.norm = nn.BatchNorm1d(channels, affine=False)
        self.scales = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.dropout = Dropout(dropout)

    def forward(self, mean: Tensor, log_variance: Tensor) -> Moments:
        scales = self.scale * self.scales / self.scales.square().mean().sqrt()
        mean = normalised(self.norm, mean) * by_channel(scales, mean) + by_channel(self.shift, mean)
        above = (log_variance.exp() - self.least_variance).relu()
        return mean, (self.least_variance + self.dropout(above)).log()

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}, least_variance={self.least_variance:g}"


def variances_of_rate(delta_nats: float) -> tuple[float, float]:
    """Returns the two variances v of N(0, v) at which KL(N(0, v) || N(0, 1)) = `delta_nats`: -W(-exp(-1 - 2 delta)) on both
    real branches of the Lambert W function. Raises `InputError` for a rate whose smaller variance is not representable in
    double precision."""
    from scipy.special import lambertw

    argument = -math.exp(-1 - 2 * delta_nats)
    if argument > -1e-300:
        raise InputError(
            f"rate_nats: {delta_nats:g} nats in each dimension are too many; commit to a lower rate, or widen the code."
        )
    return -float(lambertw(argument, 0).real), -float(lambertw(argument, -1).real)


def normalised(norm: nn.BatchNorm1d, mean: Tensor) -> Tensor:
    """Normalises each channel of vectors or maps by its mean and standard deviation over the batch (and positions); in
    training over the whole batch, of which several processes hold a part each."""
    values = mean.reshape(*mean.shape[:2], -1)
    return (own(norm(gathered(values))) if norm.training else norm(values)).view_as(mean)


def by_channel(values: Float[Tensor, " channel"], like: Float[Tensor, "batch channel *size"]) -> Tensor:
    """Reshapes `values` to broadcast with vectors or maps."""
    return values.view(-1, *[1] * (like.ndim - 2))


def check_scale(scale: float) -> None:
    """Raises `InputError` unless the scale of batch normalisation is > 0."""
    if not scale > 0:
        raise InputError(f"scale: batch normalisation needs a scale > 0, got {scale}.")
