r"""Information: how much the code carries about the image, and a decomposition of the rate.

Let x be uniform on N images, :math:`q_N(z) = \frac1N \sum_j q(z|x_j)` their aggregate posterior, and q(z) that of the
population of images. Codes are drawn from posteriors of these images (`mpdvae.measures.aggregate_posterior`).

**Mutual information** :math:`I = E \log q(z|x) - E \log q(z)`, as a bracket of a lower and an upper bound:
`mpdvae.measures.information_bracket`.

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

**Cost.** The bracket and KL(q_N || p) take one code of every image, N^2 densities. The terms of single dimensions take K
times as many for each code, and are estimated from a random part of the same codes.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from mpdvae.divergence import mutual_posterior_divergence
from mpdvae.errors import InputError, RunError
from mpdvae.measures.aggregate_posterior import Draws, log_marginals, moments
from mpdvae.measures.information_bracket import Bracket, Estimate, bracket, estimate
from mpdvae.seeding import derive_seed

CODES_AT_ONCE = 500
"""Codes whose density under the prior is computed at once."""


@dataclass(frozen=True)
class Information:
    """The quantities defined in the module docstring, in nats."""

    images: int
    """N."""
    samples: int
    """Codes drawn for the terms of single dimensions and for L; for I, one of each image if these are more."""
    mutual_information: Bracket
    """Lower and upper bound from the same draws."""
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
    def identity_residual(self) -> Estimate:
        """MPD - I - L and its standard error: zero up to the noise of the draws."""
        lower = self.mutual_information.lower
        error = math.hypot(lower.standard_error, self.lautum.standard_error)
        return Estimate(self.mpd - lower.nats - self.lautum.nats, error)

    def to_dict(self) -> dict[str, Any]:
        """Returns the quantities for JSON, with units in the keys."""
        residual = self.identity_residual
        return {
            "images": self.images,
            "samples": self.samples,
            "mutual_information": self.mutual_information.to_dict()
            | {"per_dimension_nats": self.information_per_dimension.tolist()},
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
        samples: number of codes M for the terms of single dimensions and for L, at least 2. Their time is proportional to
            M * N * latent; that of the bracket to max(M, N) * N * latent, with a far smaller factor.
        seed: seed of the draws; those of the bracket are the ones of `code_diagnostics` with the same seed.
        device: device of the prior; everything else is computed on the CPU in double precision.

    Raises:
        InputError: for fewer than two images or samples, or posteriors that are not diagonal Gaussians.
        RunError: if the prior gives a code a non-finite log-density; names the image.
    """
    mean, stddev = moments(q)
    n = len(mean)
    if n < 2:
        raise InputError(f"q: expected the posteriors of at least 2 images, got {n}.")
    if samples < 2:
        raise InputError(f"samples: expected at least 2, got {samples}.")
    drawn = Draws(mean, stddev, max(samples, n), seed)
    again = Draws(mean, stddev, samples, seed, "lautum information")
    log_prior = _log_prior(prior, drawn, device)
    some = _part(len(drawn.z), samples, seed)
    z, image = drawn.z[some], drawn.image[some]
    marginals, prior_marginals = log_marginals(z, mean, stddev), _log_prior_marginals(prior, z)
    return Information(
        images=n,
        samples=samples,
        mutual_information=bracket(drawn, seed, log_prior),
        aggregate_kl=estimate(drawn.aggregate - log_prior),
        total_correlation=estimate(drawn.aggregate[some] - marginals.sum(1)),
        dimension_wise_kl=None if prior_marginals is None else estimate((marginals - prior_marginals).sum(1)),
        information_per_dimension=(Normal(mean[image], stddev[image]).log_prob(z) - marginals).mean(0),
        lautum=estimate(again.aggregate - again.average),
        mpd=(n - 1) / n * mutual_posterior_divergence(Independent(Normal(mean, stddev), 1)).mean.item(),
    )


measure_information = measure
"""Name of `measure` in `mpdvae.measures`."""


def _part(count: int, size: int, seed: int) -> Tensor:
    """Returns the indices of `size` of `count` codes, chosen at random; all if there are no more."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "codes of the marginals"))
    return torch.randperm(count, generator=generator)[:size].sort().values


def _log_prior(prior: Distribution, drawn: Draws, device: torch.device | str) -> Tensor:
    """Returns log p(z) [samples], computed in the default precision, which is that of models."""
    with torch.no_grad():
        z = drawn.z.reshape(len(drawn.z), *prior.event_shape).to(device, torch.get_default_dtype())
        log_prob = torch.cat([prior.log_prob(codes).cpu().double() for codes in z.split(CODES_AT_ONCE)])
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
