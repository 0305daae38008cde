r"""Terms of the aggregate posterior q(z) = E_x q(z|x): distances to the prior, and dependence between dimensions.

**MMD** (InfoVAE: Zhao, Song & Ermon 2017, https://arxiv.org/abs/1706.02262). With a kernel k, codes z_i ~ q(z) (one for
each image of the batch) and as many draws z'_i ~ p(z),

.. math:: MMD^2 = \frac{1}{N(N-1)} \sum_{i \ne j} \big[ k(z_i, z_j) + k(z'_i, z'_j) \big]
          - \frac{2}{N^2} \sum_{ij} k(z_i, z'_j),

the unbiased U-statistic (Gretton et al., JMLR 2012): zero in expectation if q(z) = p(z), and then below zero half of the
time. InfoVAE's objective is R + (1 - alpha) KL + (alpha + lambda - 1) MMD^2: set the weight of the KL to 1 - alpha.
Kernels, with d^2 = ||z - z'||^2 and C = 2 * latent dimensions, the mean of d^2 under N(0, I): "imq" C / (C + d^2), "rbf"
exp(-d^2 / C).

**Total correlation** (beta-TC-VAE: Chen et al. 2018, https://arxiv.org/abs/1802.04942). The mean KL over images is

.. math:: E_x KL(q(z|x) || p(z)) = I_q(x; z) + TC(q(z)) + \sum_k KL(q(z_k) || p(z_k)), \qquad
          TC = E_{q(z)} \Big[ \log q(z) - \sum_k \log q(z_k) \Big],

so that R + I + beta TC + sum KL_k = R + KL + (beta - 1) TC: the term is (beta - 1) TC. q(z) is taken as the mixture of the
batch's posteriors. Minibatch-weighted sampling divides by the size of the data set instead of the batch size, which only
shifts TC by a constant.

**Density gap** (DG-VAE: Zhang et al., NeurIPS 2022, https://arxiv.org/abs/2211.00321). The gap log q(z) - log p(z), averaged
over codes of the batch, estimates the KL of the aggregate posterior in its two forms,

.. math:: \text{total: } KL(q(z) || p(z)) = E_x KL(q(z|x) || p(z)) - I_q(x; z), \qquad
          \text{dimensions: } \sum_k KL(q(z_k) || p(z_k)) = E_x KL(q(z|x) || p(z)) - \sum_k I_q(x; z_k),

the second for a factorised prior. In place of the KL (weight of the KL 0, weight of the gap 1), the objective is the ELBO
plus the mutual information, or plus that of each dimension: information is free, and only codes outside the prior, or holes
in it, cost. The second form is the one of the paper for Gaussian posteriors. q(z) is the mixture of the batch's N
posteriors, so that no more than log N nats are free, of the whole code or of each dimension. The paper averages over 32
codes of each image; here they are those of the forward pass, `objective.samples` of each.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Normal

from mpdvae.divergence import diagonal_normal
from mpdvae.errors import InputError
from mpdvae.objectives.forward_pass import ForwardPass, factorised
from mpdvae.objectives.terms import check_weight

Kernel = Literal["imq", "rbf"]
GapOver = Literal["dimensions", "total"]

KERNELS: dict[Kernel, Callable[[Tensor, float], Tensor]] = {
    "imq": lambda squares, scale: scale / (scale + squares),
    "rbf": lambda squares, scale: torch.exp(-squares / scale),
}
"""For each kernel, a function from squared distances and C to k(z, z')."""


@dataclass(frozen=True)
class MMD:
    """weight * MMD^2(q(z), p(z)); no gradient flows through the draws from the prior."""

    weight: float
    kernel: Kernel = "imq"

    def __post_init__(self) -> None:
        check_weight("mmd_weight", self.weight)

    def __call__(self, forward: ForwardPass, step: int) -> Float[Tensor, ""]:
        z = forward.z[0].flatten(1)
        drawn = forward.vae.prior().sample((len(z),)).flatten(1)
        return self.weight * squared_mmd(z, drawn, self.kernel)


@dataclass(frozen=True)
class TotalCorrelation:
    """weight * TC(q(z)); weight = beta - 1."""

    weight: float

    def __post_init__(self) -> None:
        check_weight("total_correlation_weight", self.weight)

    def __call__(self, forward: ForwardPass, step: int) -> Float[Tensor, ""]:
        densities = aggregate_densities(forward.q, forward.z[0])
        return self.weight * (densities.log_joint - densities.log_marginals.sum(1)).mean()


@dataclass(frozen=True)
class DensityGap:
    """weight * KL(q(z) || p(z)), of the whole code or summed over its dimensions; the latter needs a factorised prior."""

    weight: float
    over: GapOver = "dimensions"

    def __post_init__(self) -> None:
        check_weight("density_gap_weight", self.weight)

    def __call__(self, forward: ForwardPass, step: int) -> Float[Tensor, ""]:
        of_draw = self._of_dimensions if self.over == "dimensions" else self._of_code
        prior = forward.vae.prior()
        gaps = [of_draw(aggregate_densities(forward.q, z), prior, z) for z in forward.z]
        return self.weight * torch.stack(gaps).mean()

    @staticmethod
    def _of_code(densities: "AggregateDensities", prior: Distribution, z: Tensor) -> Float[Tensor, " batch"]:
        return densities.log_joint - prior.log_prob(z)

    @staticmethod
    def _of_dimensions(densities: "AggregateDensities", prior: Distribution, z: Tensor) -> Float[Tensor, " batch"]:
        p = factorised(prior, "a density gap over dimensions", "a gap over the total")
        return densities.log_marginals.sum(1) - p.log_prob(z).flatten(1).sum(1)


class AggregateDensities(NamedTuple):
    """Log-densities of codes under the mixture of a batch's posteriors, in nats."""

    log_joint: Float[Tensor, " batch"]
    """log q(z)."""
    log_marginals: Float[Tensor, "batch latent"]
    """log q(z_k)."""


def squared_mmd(
    one: Float[Tensor, "n latent"], other: Float[Tensor, "n latent"], kernel: Kernel = "imq"
) -> Float[Tensor, ""]:
    """Returns the U-statistic of MMD^2 between two equally large sets of codes.

    Raises:
        InputError: for fewer than two codes.
    """
    n = len(one)
    if n < 2:
        raise InputError(
            f"MMD: expected a batch of at least 2 codes (it is a mean over pairs), got {n}; use more images."
        )
    within = sum(_kernel(z, z, kernel).sum() - n for z in (one, other))  # every k(z, z) is 1
    return within / (n * (n - 1)) - 2 * _kernel(one, other, kernel).mean()


def aggregate_densities(q: Distribution, z: Float[Tensor, "batch *latent"]) -> AggregateDensities:
    """Returns log q(z) and log q(z_k) of one code per image, where q(z) is the mixture of the batch's posteriors `q`."""
    normal = diagonal_normal(q)
    each = Normal(normal.loc.flatten(1), normal.scale.flatten(1)).log_prob(
        z.flatten(1)[:, None]
    )  # [code posterior latent]
    log_batch = math.log(len(z))
    return AggregateDensities(each.sum(2).logsumexp(1) - log_batch, each.logsumexp(1) - log_batch)


def _kernel(one: Tensor, other: Tensor, kernel: Kernel) -> Tensor:
    squares = (one[:, None] - other[None]).square().sum(2)
    return KERNELS[kernel](squares, 2 * one.shape[1])
