r"""Mutual posterior divergence: the paper's contribution, exact and in linear time.

For posteriors :math:`q_i = N(m_i, \operatorname{diag} s_i^2)`, one per image, the mutual posterior divergence is the mean
KL divergence over ordered pairs of *different* images,

.. math:: MPD = \frac{1}{N(N-1)} \sum_{i \ne j} \sum_k KL_{ijk}, \qquad
          KL_{ijk} = \tfrac12 \Big( \frac{s_{ik}^2 + (m_{ik} - m_{jk})^2}{s_{jk}^2}
                                    - \log s_{ik}^2 + \log s_{jk}^2 - 1 \Big).

MAE adds two terms to the negative ELBO: one makes every dimension's divergence large (*diversity*, weight eta), the other
equalises the totals :math:`D_{ij} = \sum_k KL_{ijk}` over the pairs (*smoothness*, weight gamma).

Linear time. KL does not change when all posteriors undergo the same shift and scale. With any constants b_k, c_k (here the
detached means of m and log s^2 over the data),

    l = log s^2 - c      u = (m - b) exp(-c / 2)      a = expm1(l)      r = expm1(-l)

    f_i =     [ a_i + u_i^2,  u_i,  1,  sum_k(a_ik - l_ik + u_ik^2) ]
    g_j = 1/2 [ r_j,  -2 u_j (1 + r_j),  sum_k(r_jk + l_jk + u_jk^2 (1 + r_jk)),  1 ]        D_ij = f_i . g_j

so that the sum of all D_ij^2 is < F^T F, G^T G >, two (2K+2) x (2K+2) Gram matrices, and the mean per dimension needs six
sums. Subtracting the ones analytically (expm1) keeps full precision when the posteriors nearly coincide, at collapse, where
these numbers matter most. No batch x batch x latent tensor is ever built. For up to 4K + 4 images the matrix D = F G^T
itself is cheaper, and is used instead.

When several processes share a batch (`mpdvae.system.batch_sharding`), each passes the posteriors of its own images and gets
the value for the whole batch: b, c, the six sums and the two Gram matrices are summed over processes, with gradients.
Quantities computed from the pairs themselves - the matrix D of a small batch, a softplus of each pair - use the gathered
posteriors of the whole batch.

Ma, Zhou & Hovy, "MAE: Mutual Posterior-Divergence Regularization for Variational AutoEncoders", ICLR 2019,
https://arxiv.org/abs/1901.01498. The moment form of the mean: Shen et al., "Regularizing Variational Autoencoder with
Diversity and Uncertainty Awareness", IJCAI 2021, https://arxiv.org/abs/2110.12381.
"""

from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence
from torch.nn.functional import softplus

from mpdvae.errors import InputError, refuse_unknown
from mpdvae.system.batch_sharding import added, gathered, images_of_all
from mpdvae.system.devices import back, to_float64

DiversityForm = Literal["released", "paper", "submitted"]
SmoothnessOver = Literal["total", "dimensions"]

PAIRS_AT_ONCE = 2**22
"""Number of elements of a pairwise tensor that `diversity_term` in form "paper" holds at once."""


class PosteriorDivergence(NamedTuple):
    """Mean and spread of the pairwise KL divergence over the N(N-1) ordered pairs of different posteriors, in nats."""

    per_dimension: Float[Tensor, " *latent"]
    """Mean over pairs, one value per latent dimension."""
    mean: Float[Tensor, ""]
    """Mean over pairs of the total over dimensions: the sum of `per_dimension`."""
    std: Float[Tensor, ""]
    """Sample standard deviation over pairs of the total over dimensions."""


class _Standardised(NamedTuple):
    """Posteriors after a common shift and scale, in the symbols of the module docstring. All [rows latent], float64."""

    u: Tensor
    l: Tensor  # noqa: E741 - the symbol of the formula
    a: Tensor
    r: Tensor
    n: int
    """Number of images N in the batch; the rows may be only those of this process."""


def diagonal_normal(q: Distribution) -> Normal:
    """Returns the factorised normal behind `q`; raises `InputError` for any other family."""
    base = q.base_dist if isinstance(q, Independent) else q
    if not isinstance(base, Normal):
        raise InputError(f"q: expected a diagonal Gaussian posterior, got {type(base).__name__}.")
    return base


def mutual_posterior_divergence(q: Distribution, variance_floor: float = 0.0) -> PosteriorDivergence:
    """Returns the mean and spread of KL(q_i || q_j) over all ordered pairs i != j, exactly, in time linear in N.

    Arguments:
        q: diagonal Gaussian posteriors, one per image: batch shape [N], event shape [*latent], N >= 2. Inside
            `batch_sharding.divided`, those of this process's images; the same holds for the other functions.
        variance_floor: added to the variance in the denominator. The released code adds 1e-12, which moves its values by
            1e-12 / s_j^2 (4e-10 where log s^2 is -6); by default nothing is added, and values are exact.

    Returns:
        `PosteriorDivergence` in nats, in the dtype of `q` (sums are accumulated in float64). Gradients are exact; where all
        posteriors coincide, the gradient of the spread is zero.

    Raises:
        InputError: for fewer than two posteriors, or posteriors that are not diagonal Gaussians.
    """
    normal = diagonal_normal(q)
    shape = normal.loc.shape[1:]
    p = _standardise(normal, variance_floor)
    per_dimension = _mean_per_dimension(p)
    total = per_dimension.sum()
    return PosteriorDivergence(
        per_dimension=back(per_dimension.reshape(shape), normal.loc),
        mean=back(total, normal.loc),
        std=back(_spread(p, total), normal.loc),
    )


def mean_per_dimension(q: Distribution) -> Float[Tensor, " *latent"]:
    """Returns only `per_dimension` of `mutual_posterior_divergence`, which needs no more than the six sums."""
    normal = diagonal_normal(q)
    return back(_mean_per_dimension(_standardise(normal)).reshape(normal.loc.shape[1:]), normal.loc)


def diversity_term(q: Distribution, weight: float, form: DiversityForm = "released") -> Float[Tensor, ""]:
    """Returns the term that makes posteriors differ in every dimension, L_diverse in nats.

    ========== ============================================================ ===========================================
    form       value (eta = `weight`, KLbar_k = mean over pairs of KL_ijk)  source
    ========== ============================================================ ===========================================
    released   eta * sum_k softplus(-KLbar_k)                               the authors' code since October 2018
    paper      eta * mean over pairs of sum_k softplus(-KL_ijk)             the paper's equations, as a reader quotes them
    submitted  eta * sum_k softplus(-KLbar_k / eta)                         the authors' code before that
    ========== ============================================================ ===========================================

    All are bounded: eta * K * ln 2 at full collapse, towards 0 when every dimension distinguishes the images. "released" is
    at most "paper" (Jensen), which costs O(N^2 K) because a softplus of each pair does not factorise.

    Arguments:
        q: diagonal Gaussian posteriors, batch shape [N], N >= 2.
        weight: eta of the paper, > 0.
    """
    if form not in get_args(DiversityForm):
        refuse_unknown("form of the diversity term", form, list(get_args(DiversityForm)))
    if form == "paper":
        return weight * _mean_softplus_of_pairs(_of_all(diagonal_normal(q)))
    per_dimension = mean_per_dimension(q)
    reach = weight if form == "submitted" else 1.0
    return weight * softplus(-per_dimension / reach).sum()


def smoothness_term(q: Distribution, weight: float, over: SmoothnessOver = "total") -> Float[Tensor, ""]:
    """Returns the term that equalises the pairwise divergences, L_smooth = gamma * STD over pairs, in nats.

    Arguments:
        q: diagonal Gaussian posteriors, batch shape [N], N >= 2.
        weight: gamma of the paper.
        over: "total" takes the spread of D_ij, as the released code does; "dimensions" takes the sum over dimensions of the
            spread of KL_ijk, one reading of the paper.
    """
    if over not in get_args(SmoothnessOver):
        refuse_unknown("argument of the smoothness term", over, list(get_args(SmoothnessOver)))
    if over == "total":
        return weight * mutual_posterior_divergence(q).std
    return weight * spread_per_dimension(q).sum()


def spread_per_dimension(q: Distribution) -> Float[Tensor, " *latent"]:
    """Returns the sample standard deviation of KL(q_i || q_j) over ordered pairs i != j for each latent dimension, in nats,
    from the same Gram matrices (4 x 4 per dimension).

    Arguments:
        q: diagonal Gaussian posteriors, batch shape [N], N >= 2.
    """
    normal = diagonal_normal(q)
    p = _standardise(normal)
    each = _Standardised(*(x.mT[..., None] for x in (p.u, p.l, p.a, p.r)), n=p.n)  # [latent rows 1]
    return back(_spread(each, _mean_per_dimension(p)).reshape(normal.loc.shape[1:]), normal.loc)


def _standardise(q: Normal, variance_floor: float = 0.0) -> _Standardised:
    mean_q, std_q, n = q.loc.flatten(1), q.scale.flatten(1), images_of_all(q.loc)
    if n < 2:
        raise InputError(f"q: the divergence is a mean over pairs and needs a batch of at least 2 posteriors, got {n}.")
    m, log_variance = to_float64(mean_q), 2 * to_float64(std_q).log()
    b, c = added(torch.stack([m, log_variance]).detach().sum(1)) / n
    l = log_variance - c  # noqa: E741
    floor = torch.log1p(variance_floor * torch.exp(-log_variance)) if variance_floor else 0.0
    return _Standardised(u=(m - b) * torch.exp(-c / 2), l=l, a=torch.expm1(l), r=torch.expm1(-l - floor), n=n)


def _mean_per_dimension(p: _Standardised) -> Tensor:
    """KLbar_k = (A R + N E + N Q - 2 U W) / (2 N (N-1)), with the six sums over the data."""
    n, u2 = p.n, p.u.square()
    terms = [p.a + u2, p.r, p.a - p.l + u2, p.r + p.l + u2 * (1 + p.r), p.u, p.u * (1 + p.r)]
    A, R, E, Q, U, W = added(torch.stack([term.sum(0) for term in terms]))
    return (A * R + n * E + n * Q - 2 * U * W) / (2 * n * (n - 1))


def _spread(p: _Standardised, mean: Float[Tensor, "*each"]) -> Float[Tensor, "*each"]:
    """Sample standard deviation over ordered pairs of the divergence summed over all dimensions of `p`, whose mean is
    `mean`, by the cheaper of two exact methods. Leading axes of `p` [*each rows latent] index separate divergences."""
    n, latent = p.n, p.u.shape[-1]
    u2, one = p.u.square(), torch.ones_like(p.u[..., :1])
    f_constant = (p.a - p.l + u2).sum(-1, keepdim=True)
    g_constant = (p.r + p.l + u2 * (1 + p.r)).sum(-1, keepdim=True)
    F = torch.cat([p.a + u2, p.u, one, f_constant], -1)
    G = torch.cat([p.r, -2 * p.u * (1 + p.r), g_constant, one], -1) / 2
    pairs = n * (n - 1)
    if n > 4 * latent + 4:
        of_f, of_g = added(torch.stack([F.mT @ F, G.mT @ G]))
        squares_about_mean = (of_f * of_g).sum((-2, -1)) - pairs * mean.square()
    else:
        F, G = gathered(torch.stack([F, G]), axis=-2)
        itself = torch.eye(n, dtype=torch.bool, device=F.device)
        squares_about_mean = (F @ G.mT - mean[..., None, None]).masked_fill(itself, 0.0).square().sum((-2, -1))
    variance = squares_about_mean / (pairs - 1)
    # sqrt has an infinite slope at 0: below the clamp the gradient is 0 instead of NaN.
    return variance.clamp_min(1e-60).sqrt()


def _of_all(q: Normal) -> Normal:
    """Gathers the posteriors of the whole batch from those of each process's images."""
    mean, deviation = gathered(torch.stack([q.loc, q.scale]), axis=1)
    return Normal(mean, deviation)


def _mean_softplus_of_pairs(q: Normal) -> Tensor:
    n = len(q.loc)
    if n < 2:
        raise InputError(f"q: the divergence is a mean over pairs and needs a batch of at least 2 posteriors, got {n}.")
    mean_q, std_q = q.loc.flatten(1), q.scale.flatten(1)
    total = mean_q.new_zeros(())
    for rows in torch.arange(n, device=mean_q.device).split(max(1, PAIRS_AT_ONCE // mean_q.numel())):
        kl = kl_divergence(Normal(mean_q[rows, None], std_q[rows, None]), Normal(mean_q[None], std_q[None]))
        total = total + softplus(-kl).sum()
    coinciding = n * mean_q.shape[1] * softplus(mean_q.new_zeros(()))  # the pairs (i, i), which are excluded
    return (total - coinciding) / (n * (n - 1))
