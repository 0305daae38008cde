r"""Information: bounds on how much the code carries about the image, and a decomposition of the rate.

Let x be uniform on N images, :math:`q_N(z) = \frac1N \sum_j q(z|x_j)` their aggregate posterior, and q(z) that of the
population of images. Pairs (x, z) are drawn independently: an image at random, then a code from its posterior.

**Mutual information** :math:`I = E \log q(z|x) - E \log q(z)`. Bounds, with x_i the image of z and r any density:

======================  =====================================================  =======  ==============
name                    value                                                  bound    ceiling
======================  =====================================================  =======  ==============
aggregate               E log q(z|x_i) - log q_N(z)                            lower    log N, exactly
leave-one-out           E log q(z|x_i) - log 1/(N-1) sum_{j != i} q(z|x_j)     upper    none
Gaussian                E KL(q(z|x) || r), r Gaussian with full covariance,    upper    none
                        fitted to one half of the images, applied to the other
rate                    E log q(z|x_i) - log p(z)                              upper    none
======================  =====================================================  =======  ==============

The first two follow from Jensen's inequality, since the means over other images have expectation q(z); the others from
E KL(q(z|x) || r) = I + KL(q(z) || r). All are bounds in expectation, with Monte-Carlo errors. A lower bound close to log N
is saturated, and the smallest upper bound limits how far off it may be. No other lower bound helps then: none that holds
for every distribution of images can much exceed log N (McAllester & Stratos 2020, https://arxiv.org/abs/1811.04251).

**Decomposition of the rate** (Hoffman & Johnson, "ELBO surgery", 2016; Chen et al. 2018, https://arxiv.org/abs/1802.04942):

.. math:: E\,KL(q(z|x) || p(z)) = I + KL(q(z) || p(z)), \qquad
          KL(q(z) || p(z)) = TC + \sum_k KL(q(z_k) || p(z_k))

with the total correlation :math:`TC = KL(q(z) || \prod_k q(z_k)) = \sum_k I(x; z_k) - I`; the second equation holds for
factorised priors. The terms are estimated for q_N, without minibatches. KL(q_N || p) and its per-dimension parts exceed
those of q in expectation (KL is convex), by as much as the estimate of I is too low: if I is saturated they are too large,
and as a rule TC is, too.

**Identity.** The mean divergence over all N^2 ordered pairs of images, including pairs of an image with itself, is

.. math:: MPD = I_N + L_N, \qquad L_N = E_x KL(q_N(z) || q(z|x)) = E_{q_N} \log q_N(z) - E_{q_N} E_x \log q(z|x),

where I_N is the information about which of the N images it is, and L_N the lautum information (Palomar & Verdu 2008,
https://doi.org/10.1109/TIT.2007.915715). MPD is exact; I and L are estimated from separate draws, so that the residual
MPD - I - L, in standard errors, checks all three.

On the bounds: Poole, Ozair, van den Oord, Alemi & Tucker, ICML 2019, https://arxiv.org/abs/1905.06922.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from mpdvae.divergence import diagonal_normal, mutual_posterior_divergence
from mpdvae.errors import InputError, RunError
from mpdvae.seeding import derive_seed

ELEMENTS_AT_ONCE = 2**19
"""Log-densities held at once: 4 MB, which fits into CPU caches."""


class Estimate(NamedTuple):
    """A mean in nats and its standard error over the draws."""

    nats: float
    standard_error: float

    def to_dict(self) -> dict[str, float]:
        """Returns the fields for JSON, with units in the keys."""
        return {"nats": self.nats, "standard_error_nats": self.standard_error}


@dataclass(frozen=True)
class Information:
    """The quantities defined in the module docstring, in nats."""

    images: int
    """N."""
    samples: int
    """Codes drawn from the aggregate posterior for I and the related quantities; as many again are drawn for L."""
    aggregate: Estimate
    """Lower bound on the mutual information, at most log N."""
    leave_one_out: Estimate
    """Upper bound on the mutual information."""
    gaussian: Estimate
    """Upper bound on the mutual information."""
    rate: Estimate
    """Mean KL(q(z|x) || p(z)) over images: an upper bound on the mutual information."""
    aggregate_kl: Estimate
    """KL(q_N(z) || p(z))."""
    total_correlation: Estimate
    """TC of q_N(z); zero for one-dimensional codes."""
    dimension_wise_kl: Estimate | None
    """Sum over dimensions of KL(q_N(z_k) || p(z_k)); None if the prior does not factorise into Gaussians."""
    information_per_dimension: Float64[Tensor, " latent"]
    """I(x; z_k), from the aggregate of each dimension: at most log N each."""
    lautum: Estimate
    """L_N, from separate draws."""
    mpd: float
    """Mean of KL(q(z|x) || q(z|x')) over all N^2 ordered pairs, exact."""

    @property
    def ceiling(self) -> float:
        """log N, which `aggregate` cannot exceed."""
        return math.log(self.images)

    @property
    def upper_bound(self) -> Estimate:
        """The smallest of the upper bounds on the mutual information."""
        return min(self.leave_one_out, self.gaussian, self.rate)

    @property
    def identity_residual(self) -> Estimate:
        """MPD - I - L and its standard error: zero up to the noise of the draws."""
        error = math.hypot(self.aggregate.standard_error, self.lautum.standard_error)
        return Estimate(self.mpd - self.aggregate.nats - self.lautum.nats, error)

    def to_dict(self) -> dict[str, Any]:
        """Returns the quantities for JSON, with units in the keys."""
        residual = self.identity_residual
        return {
            "images": self.images,
            "samples": self.samples,
            "mutual_information": {
                "lower_bound": self.aggregate.to_dict(),
                "lower_bound_ceiling_nats": self.ceiling,
                "upper_bound": self.upper_bound.to_dict(),
                "upper_bounds": {
                    "leave_one_out": self.leave_one_out.to_dict(),
                    "gaussian": self.gaussian.to_dict(),
                    "rate": self.rate.to_dict(),
                },
                "per_dimension_nats": self.information_per_dimension.tolist(),
            },
            "aggregate_kl": self.aggregate_kl.to_dict(),
            "total_correlation": self.total_correlation.to_dict(),
            "dimension_wise_kl": self.dimension_wise_kl.to_dict() if self.dimension_wise_kl else None,
            "lautum_information": self.lautum.to_dict(),
            "mpd_all_pairs_nats": self.mpd,
            "identity_residual": residual.to_dict(),
            "identity_residual_in_standard_errors": (
                residual.nats / residual.standard_error if residual.standard_error > 0 else None
            ),
        }


def measure(
    q: Distribution,
    prior: Distribution,
    samples: int = 2_000,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Information:
    """Estimates all quantities of the module docstring from the posteriors of N images.

    Arguments:
        q: diagonal Gaussian posteriors, batch shape [N], N >= 2, event shape [*latent] or flattened.
        prior: p(z), event shape [*latent].
        samples: number of codes M to draw, at least 2. Time and memory traffic are proportional to M * N * latent.
        seed: seed of the draws.
        device: device of the prior; everything else is computed on the CPU in double precision.

    Raises:
        InputError: for fewer than two images or samples, or posteriors that are not diagonal Gaussians.
        RunError: if the prior gives a code a non-finite log-density; names the image.
    """
    normal = diagonal_normal(q)
    mean, stddev = normal.loc.detach().flatten(1).cpu().double(), normal.scale.detach().flatten(1).cpu().double()
    if len(mean) < 2:
        raise InputError(f"q: expected the posteriors of at least 2 images, got {len(mean)}.")
    if samples < 2:
        raise InputError(f"samples: expected at least 2, got {samples}.")
    drawn = _Densities(mean, stddev, samples, derive_seed(seed, "information"))
    again = _Densities(mean, stddev, samples, derive_seed(seed, "lautum information"))
    log_prior = _log_prior(prior, drawn, device)
    marginals, own_marginals = _log_marginals(drawn, mean, stddev)
    prior_marginals = _log_prior_marginals(prior, drawn.z)
    n = len(mean)
    return Information(
        images=n,
        samples=samples,
        aggregate=_estimate(drawn.own - drawn.aggregate),
        leave_one_out=_estimate(drawn.own - drawn.others),
        gaussian=_gaussian_bound(mean, stddev, seed),
        rate=_estimate(drawn.own - log_prior),
        aggregate_kl=_estimate(drawn.aggregate - log_prior),
        total_correlation=_estimate(drawn.aggregate - marginals.sum(1)),
        dimension_wise_kl=None if prior_marginals is None else _estimate((marginals - prior_marginals).sum(1)),
        information_per_dimension=(own_marginals - marginals).mean(0),
        lautum=_estimate(again.aggregate - again.average),
        mpd=(n - 1) / n * mutual_posterior_divergence(Independent(Normal(mean, stddev), 1)).mean.item(),
    )


measure_information = measure
"""Name of `measure` in `mpdvae.measures`."""


class _Densities:
    """Draws codes z from the aggregate posterior and computes log-densities of each, all [samples]."""

    def __init__(self, mean: Tensor, stddev: Tensor, samples: int, seed: int) -> None:
        n, latent = mean.shape
        generator = torch.Generator().manual_seed(seed)
        self.image = torch.randint(n, (samples,), generator=generator)
        noise = torch.randn(samples, latent, generator=generator, dtype=torch.float64)
        self.z = mean[self.image] + stddev[self.image] * noise
        pieces = []
        for rows, log_density in _log_densities(self.z, mean, stddev):
            drawn = torch.arange(len(rows)), self.image[rows]
            own = log_density[drawn]
            average, aggregate = log_density.mean(1), log_density.logsumexp(1) - math.log(n)
            log_density[drawn] = -math.inf
            pieces.append((own, average, aggregate, log_density.logsumexp(1) - math.log(n - 1)))
        self.own, self.average, self.aggregate, self.others = (torch.cat(piece) for piece in zip(*pieces, strict=True))
        """log q(z|x) of the image z was drawn from; its mean over all images; log q_N(z), with and without that image."""


def _log_densities(z: Tensor, mean: Tensor, stddev: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields chunks of codes as row indices and log N(z; mean, stddev^2) [rows images].

    It is -1/2 sum_k (z_k^2 / s_jk^2 - 2 z_k m_jk / s_jk^2) plus a constant for each image j: two matrix products.
    """
    n, latent = mean.shape
    centre = mean.mean(0)  # removes the digits shared by all posteriors from the squares
    z, mean = z - centre, mean - centre
    precision = stddev.square().reciprocal()
    linear = mean * precision
    constant = (mean * linear).sum(1) + 2 * stddev.log().sum(1) + latent * math.log(2 * math.pi)
    for rows in torch.arange(len(z)).split(max(1, ELEMENTS_AT_ONCE // n)):
        squares = torch.addmm(constant, z[rows].square(), precision.mT).addmm_(z[rows], linear.mT, alpha=-2)
        yield rows, squares.mul_(-0.5)


def _log_marginals(drawn: _Densities, mean: Tensor, stddev: Tensor) -> tuple[Tensor, Tensor]:
    """Returns log q_N(z_k), and log q(z_k|x) of the image that z was drawn from; each [samples latent]."""
    aggregate = torch.empty_like(drawn.z)
    for k in range(mean.shape[1]):
        column = slice(k, k + 1)
        for rows, log_density in _log_densities(drawn.z[:, column], mean[:, column], stddev[:, column]):
            aggregate[rows, k] = log_density.logsumexp(1) - math.log(len(mean))
    return aggregate, Normal(mean[drawn.image], stddev[drawn.image]).log_prob(drawn.z)


def _gaussian_bound(mean: Tensor, stddev: Tensor, seed: int) -> Estimate:
    """Computes E KL(q(z|x) || r), with r = N(a, V) fitted to the other half of the images, in closed form:
    1/2 (log det V - sum_k log s_k^2 + trace(V^-1 (diag s^2 + (m - a)(m - a)^T)) - K)."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "halves"))
    order = torch.randperm(len(mean), generator=generator)
    halves = order.tensor_split(2)
    values = []
    for fitted, applied in (halves, halves[::-1]):
        centre = mean[fitted].mean(0)
        deviation = mean[fitted] - centre
        covariance = deviation.mT @ deviation / len(fitted) + stddev[fitted].square().mean(0).diag()
        root = torch.linalg.cholesky(covariance)
        precision = torch.cholesky_inverse(root)
        variance, away = stddev[applied].square(), mean[applied] - centre
        quadratic = variance @ precision.diag() + (away @ precision * away).sum(1)
        log_determinants = 2 * root.diag().log().sum() - variance.log().sum(1)
        values.append(0.5 * (log_determinants + quadratic - mean.shape[1]))
    return _estimate(torch.cat(values))


def _log_prior(prior: Distribution, drawn: _Densities, device: torch.device | str) -> Tensor:
    """Returns log p(z) [samples], computed in the default precision, which is that of models."""
    with torch.no_grad():
        z = drawn.z.reshape(len(drawn.z), *prior.event_shape).to(device, torch.get_default_dtype())
        log_prob = prior.log_prob(z).cpu().double()
    broken = (~log_prob.isfinite()).nonzero()
    if len(broken):
        raise RunError(
            f"the prior gives a code of image {drawn.image[broken[0]].item()} a non-finite log-density; "
            "check that training did not diverge.",
            topic="not-a-number",
        )
    return log_prob


def _log_prior_marginals(prior: Distribution, z: Tensor) -> Tensor | None:
    """Returns log p(z_k) [samples latent]; None if the prior does not factorise into Gaussians."""
    base = prior.base_dist if isinstance(prior, Independent) else prior
    if not isinstance(base, Normal):
        return None
    return Normal(base.loc.detach().flatten().cpu().double(), base.scale.detach().flatten().cpu().double()).log_prob(z)


def _estimate(values: Tensor) -> Estimate:
    return Estimate(values.mean().item(), (values.std() / math.sqrt(len(values))).item())
