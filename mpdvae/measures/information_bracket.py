r"""The mutual information between image and code, bracketed by a lower and an upper bound from the same draws.

Let x be uniform on N images that stand for a population, :math:`q_N(z) = \frac1N \sum_j q(z|x_j)` their aggregate posterior
and q(z) that of the population. The information is :math:`I = E \log q(z|x) - E \log q(z)`. With x_i the image of z and r any
density, the bounds are

=============  =====================================================  =======  ==============
name           value                                                  bound    ceiling
=============  =====================================================  =======  ==============
aggregate      E log q(z|x_i) - log q_N(z)                            lower    log N, exactly
leave-one-out  E log q(z|x_i) - log 1/(N-1) sum_{j != i} q(z|x_j)     upper    none
Gaussian       E log q(z|x_i) - log r(z), r Gaussian with full        upper    none
               covariance, fitted to the half of the images
               without x_i
rate           E log q(z|x_i) - log p(z)                              upper    none
=============  =====================================================  =======  ==============

The first two follow from Jensen's inequality, since the means over other images have expectation q(z); the others from
E KL(q(z|x) || r) = I + KL(q(z) || r). A lower bound close to log N is saturated, and the smallest upper bound limits how far
off it may be. No other lower bound helps then: none that holds for every distribution of images can much exceed log N
(McAllester & Stratos 2020, https://arxiv.org/abs/1811.04251).

**Order.** All bounds are means over the same codes, and over the same codes each upper bound less the lower one is an
estimate of a divergence of q_N from another density, which is not negative. If the codes drawn say that it is, by chance,
the divergence is taken as zero: the bounds never cross. (Bounds from different draws do, if both are close to I.)

**Choice.** Of three upper bounds the smallest is stated. The smallest of several noisy means is too small; therefore every
second code chooses the bound that the others are averaged with, and the reverse, and the result is an upper bound in
expectation.

**Errors.** Standard errors are those of the means over codes. With one code of each image they contain the choice of the
images, too: the influence of an image on q_N vanishes at first order, since the integral of q(z|x) q(z) / q(z) is one for
every image. The interval from the lower bound less 1.96 standard errors to the upper one plus 1.96 contains I in at least
95% of repeats, with 2.5% on either side if the bounds were equal to I.

On the bounds: Poole, Ozair, van den Oord, Alemi & Tucker, ICML 2019, https://arxiv.org/abs/1905.06922.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.distributions import MultivariateNormal

from mpdvae.measures.aggregate_posterior import Draws
from mpdvae.seeding import derive_seed

SATURATION = 0.9
"""Fraction of log N above which a lower bound on the mutual information is called saturated."""
STANDARD_ERRORS = 1.96
"""Reach of the interval beyond either bound."""


class Estimate(NamedTuple):
    """A mean in nats and its standard error over the draws."""

    nats: float
    standard_error: float

    def to_dict(self) -> dict[str, float]:
        """Returns the fields for JSON, with units in the keys."""
        return {"nats": self.nats, "standard_error_nats": self.standard_error}


@dataclass(frozen=True)
class Bracket:
    """Bounds on the mutual information between image and code, in nats, all from the same draws."""

    images: int
    """N."""
    samples: int
    """Number of codes drawn."""
    lower: Estimate
    """The aggregate bound, at most log N."""
    upper: Estimate
    """The smallest upper bound, never below `lower`."""
    upper_bounds: Mapping[str, Estimate]
    """Every upper bound: leave_one_out, gaussian and, if the prior is known, rate."""

    @property
    def ceiling(self) -> float:
        """log N, which `lower` cannot exceed."""
        return math.log(self.images)

    @property
    def saturated(self) -> bool:
        """Whether the lower bound is within 10% of its ceiling: the information may then be far larger."""
        return self.lower.nats > SATURATION * self.ceiling

    @property
    def interval_95(self) -> tuple[float, float]:
        """The interval that contains the information in at least 95% of repeats, see the module docstring."""
        reach = STANDARD_ERRORS
        return self.lower.nats - reach * self.lower.standard_error, self.upper.nats + reach * self.upper.standard_error

    def to_dict(self) -> dict[str, Any]:
        """Returns the bounds for JSON, with units in the keys."""
        return {
            "samples": self.samples,
            "lower_bound": self.lower.to_dict(),
            "lower_bound_ceiling_nats": self.ceiling,
            "lower_bound_saturated": self.saturated,
            "upper_bound": self.upper.to_dict(),
            "upper_bounds": {name: bound.to_dict() for name, bound in self.upper_bounds.items()},
            "interval_95_nats": list(self.interval_95),
        }


def bracket(drawn: Draws, seed: int, log_prior: Float64[Tensor, " samples"] | None = None) -> Bracket:
    """Returns the bounds from these draws.

    Arguments:
        drawn: codes of the aggregate posterior.
        seed: seed of the halves of the images.
        log_prior: log p(z) of the codes, for the bound `rate`.
    """
    lower = drawn.own - drawn.aggregate
    uppers = {"leave_one_out": drawn.own - drawn.others, "gaussian": drawn.own - _log_gaussian(drawn, seed)}
    if log_prior is not None:
        uppers["rate"] = drawn.own - log_prior
    least, upper = estimate(lower), estimate(_smallest(list(uppers.values())))
    if upper.nats < least.nats:
        upper = Estimate(least.nats, max(least.standard_error, upper.standard_error))
    bounds = {name: estimate(values) for name, values in uppers.items()}
    return Bracket(len(drawn.mean), len(lower), least, upper, bounds)


def estimate(values: Float64[Tensor, " samples"]) -> Estimate:
    """Returns the mean of independent values and its standard error."""
    return Estimate(values.mean().item(), (values.std() / math.sqrt(len(values))).item())


def _smallest(bounds: list[Tensor]) -> Tensor:
    """Returns the values of the bound with the smallest mean, chosen for every second value by the others."""
    stacked = torch.stack(bounds)
    values = torch.empty_like(bounds[0])
    for half, others in ((0, 1), (1, 0)):
        values[half::2] = stacked[stacked[:, others::2].mean(1).argmin(), half::2]
    return values


def _log_gaussian(drawn: Draws, seed: int) -> Tensor:
    """Returns log r(z), r the Gaussian with the moments of the aggregate of the half of the images without that of z."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "halves"))
    halves = torch.randperm(len(drawn.mean), generator=generator).tensor_split(2)
    log_density = torch.empty_like(drawn.own)
    for fitted, applied in (halves, halves[::-1]):
        rows = torch.isin(drawn.image, applied)
        log_density[rows] = _fitted(drawn.mean[fitted], drawn.stddev[fitted], drawn.z[rows])
    return log_density


def _fitted(mean: Tensor, stddev: Tensor, z: Tensor) -> Tensor:
    """Returns log r(z), r the Gaussian with mean and covariance of the aggregate of these posteriors."""
    centre = mean.mean(0)
    deviation = mean - centre
    covariance = deviation.mT @ deviation / len(mean) + stddev.square().mean(0).diag()
    root, failed = torch.linalg.cholesky_ex(covariance)
    if failed:  # singular in double precision: without correlations, it is a bound as well
        root = covariance.diag().sqrt().diag()
    return MultivariateNormal(centre, scale_tril=root, validate_args=False).log_prob(z)
