r"""Codes drawn from the aggregate posterior of N images, and their log-densities under it.

The aggregate posterior is :math:`q_N(z) = \frac1N \sum_j q(z|x_j)`, a mixture of diagonal Gaussians. All densities of M codes
under N posteriors are two matrix products, computed for chunks of codes:

.. math:: \log N(z; m_j, s_j^2) = -\tfrac12 \sum_k \big( z_k^2 / s_{jk}^2 - 2 z_k m_{jk} / s_{jk}^2 \big) + c_j .

**Draws.** Up to N codes are one each of different images: of all, if M = N. More are codes of images drawn at random. The
first are functions of (seed, image), so that measurements with the same seed and all images use the same codes.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.distributions import Distribution

from mpdvae.divergence import diagonal_normal
from mpdvae.seeding import derive_seed

ELEMENTS_AT_ONCE = 2**19
"""Log-densities held at once: 4 MB, which fits into CPU caches (more is slower)."""
DRAWS = "mutual information"
"""Purpose of the draws that every measure of the information uses."""


def moments(q: Distribution) -> tuple[Float64[Tensor, "images latent"], Float64[Tensor, "images latent"]]:
    """Returns mean and standard deviation of diagonal Gaussian posteriors, flattened, without gradient, on the CPU."""
    normal = diagonal_normal(q)
    return normal.loc.detach().flatten(1).cpu().double(), normal.scale.detach().flatten(1).cpu().double()


class Draws:
    """Codes z from the aggregate posterior and log-densities of each, all [samples].

    Arguments:
        mean, stddev: the posteriors of at least 2 images.
        samples: number of codes M.
        seed: seed of the draws.
        purpose: draws for different purposes are independent.
    """

    image: Int64[Tensor, " samples"]
    """Index of the image that z was drawn from."""
    own: Float64[Tensor, " samples"]
    """log q(z|x) of that image."""
    average: Float64[Tensor, " samples"]
    """Mean over all images of log q(z|x)."""
    aggregate: Float64[Tensor, " samples"]
    """log q_N(z)."""
    others: Float64[Tensor, " samples"]
    """The same without the image that z was drawn from."""

    def __init__(
        self,
        mean: Float64[Tensor, "images latent"],
        stddev: Float64[Tensor, "images latent"],
        samples: int,
        seed: int,
        purpose: str = DRAWS,
    ) -> None:
        n = len(mean)
        self.mean, self.stddev = mean, stddev
        generator = torch.Generator().manual_seed(derive_seed(seed, purpose))
        noise = torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        if samples > n:
            self.image = torch.randint(n, (samples,), generator=generator)
            noise = torch.randn(samples, mean.shape[1], generator=generator, dtype=torch.float64)
        elif samples == n:
            self.image = torch.arange(n)
        else:
            self.image = torch.randperm(n, generator=generator)[:samples].sort().values
            noise = noise[self.image]
        self.z = mean[self.image] + stddev[self.image] * noise
        chunks = []
        for rows, log_density in log_densities(self.z, mean, stddev):
            drawn = torch.arange(len(rows)), self.image[rows]
            own = log_density[drawn]
            average, aggregate = log_density.mean(1), log_density.logsumexp(1) - math.log(n)
            log_density[drawn] = -math.inf
            chunks.append((own, average, aggregate, log_density.logsumexp(1) - math.log(n - 1)))
        self.own, self.average, self.aggregate, self.others = (torch.cat(chunk) for chunk in zip(*chunks, strict=True))


def log_densities(z: Tensor, mean: Tensor, stddev: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields chunks of codes as row indices and log N(z; mean, stddev^2) [rows images]."""
    n, latent = mean.shape
    centre = mean.mean(0)  # removes the digits shared by all posteriors from the squares
    z, mean = z - centre, mean - centre
    precision = stddev.square().reciprocal()
    linear = mean * precision
    constant = (mean * linear).sum(1) + 2 * stddev.log().sum(1) + latent * math.log(2 * math.pi)
    for rows in torch.arange(len(z)).split(max(1, ELEMENTS_AT_ONCE // n)):
        squares = torch.addmm(constant, z[rows].square(), precision.mT).addmm_(z[rows], linear.mT, alpha=-2)
        yield rows, squares.mul_(-0.5)


def log_marginals(
    z: Float64[Tensor, "samples latent"],
    mean: Float64[Tensor, "images latent"],
    stddev: Float64[Tensor, "images latent"],
) -> Float64[Tensor, "samples latent"]:
    """Returns log q_N(z_k) of every dimension."""
    aggregate = torch.empty_like(z)
    for k in range(mean.shape[1]):
        column = slice(k, k + 1)
        for rows, log_density in log_densities(z[:, column], mean[:, column], stddev[:, column]):
            aggregate[rows, k] = log_density.logsumexp(1) - math.log(len(mean))
    return aggregate
