r"""Statistics of log-weights: the bound, its error, its dependence on the number of samples, and its limit.

With independent unbiased weights, :math:`\mathbb{E} w_i = p(x)`, and
:math:`L_m = \mathbb{E} \log \tfrac1m \sum_{i \le m} w_i`,

.. math:: L_1 \le L_2 \le L_4 \le \dots \le \log p(x), \qquad
          L_m = \log p(x) - \frac{\operatorname{Var} w}{2 m \, p(x)^2} + O(m^{-2})

(Burda, Grosse & Salakhutdinov 2016, https://arxiv.org/abs/1509.00519). From k weights, L_m is estimated without bias by
the mean over floor(k / m) disjoint groups of m.

The jackknife removes the term in 1/m (Nowozin, "Debiasing Evidence Approximations: On Importance-weighted
Autoencoders and Jackknife Variational Inference", ICLR 2018, order 1, https://openreview.net/forum?id=HyZoi-WRb). With the
normalised weights :math:`r_i = w_i / \sum_j w_j` and the logarithm of the mean of all weights but the i-th,
:math:`L_{-i} = L + \log\tfrac{k}{k-1} + \log(1 - r_i)`, it is the mean of the pseudo-values
:math:`k L - (k - 1) L_{-i}`, and their spread gives its standard error (Tukey 1958). It is not a bound.

An error bar is only as good as the tail of the weights. The shape k-hat of a generalised Pareto distribution fitted to the
largest weights (Zhang & Stephens 2009, https://doi.org/10.1198/tech.2009.08017) measures this: above

.. math:: \min(1 - 1 / \log_{10} k, \; 0.7)

for k samples, neither the mean of the weights nor its error bar is reliable (Vehtari, Simpson, Gelman, Yao & Gabry 2024,
section 3.2.4, https://arxiv.org/abs/1507.02646): 0.45 for 64 samples, 0.58 for 256, 0.7 from 2,200 on. `weight_intervals`
turns weights into intervals.

All weights are passed as logarithms, [samples batch] in float64.
"""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

LogWeights = Float64[Tensor, "samples batch"]

MOST_RELIABLE = 0.7
"""Largest shape at which the mean of any number of weights and its error are reliable."""

FEWEST_WITH_A_TAIL = 21
"""Samples whose tail has five weights."""

ROUNDING = 1e-4
"""A tail that spans less than this fraction of the largest weight is ignored: float32 likelihoods are no more accurate."""


def largest_reliable_shape(samples: int | Tensor) -> Tensor:
    """Returns the largest shape k-hat at which the mean of so many weights and its error are reliable, in float64; minus
    infinity for one."""
    return (1 - 1 / torch.as_tensor(samples, dtype=torch.float64).log10()).clamp_max(MOST_RELIABLE)


def log_mean(log_weights: LogWeights) -> Float64[Tensor, " batch"]:
    """Returns log(1/k sum w)."""
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def standard_error(log_weights: LogWeights) -> Float64[Tensor, " batch"]:
    """Returns the standard error of `log_mean` by the delta method, std(w) / (sqrt(k) mean(w)); nan for one sample."""
    k, shares = len(log_weights), log_weights.softmax(0)
    if k == 1:
        return torch.full_like(shares[0], math.nan)
    return k * (shares.var(0, correction=0) / (k - 1)).sqrt()


def effective_sample_size(log_weights: LogWeights) -> Float64[Tensor, " batch"]:
    """Returns (sum w)^2 / sum w^2, between 1 and the number of samples."""
    return 1 / log_weights.softmax(0).square().sum(0)


def group_sizes(samples: int) -> list[int]:
    """Returns the numbers of samples m at which the bound is evaluated: 1, 2, 4, ... and `samples`."""
    return [*(2**i for i in range((samples - 1).bit_length())), samples]


def bound_curve(log_weights: LogWeights) -> Float64[Tensor, "batch sizes"]:
    """Returns L_m for each m in `group_sizes(samples)`."""
    curve, groups = [], log_weights
    for _ in group_sizes(len(log_weights))[:-1]:
        curve.append(groups.mean(0))
        pairs = groups[: len(groups) // 2 * 2].unflatten(0, (-1, 2))
        groups = pairs.logsumexp(1) - math.log(2)
    return torch.stack([*curve, log_mean(log_weights)], 1)


def jackknife(log_weights: LogWeights) -> tuple[Float64[Tensor, " batch"], Float64[Tensor, " batch"]]:
    """Returns the bound extrapolated to infinitely many samples, and its standard error; nan for one sample.

    If one weight outweighs all others, both are large or infinite; the tail shape is then large, too.
    """
    k = len(log_weights)
    if k == 1:
        unknown = torch.full_like(log_weights[0], math.nan)
        return unknown, unknown
    without = math.log(k / (k - 1)) + torch.log1p(-log_weights.softmax(0).clamp_max(1.0))
    pseudo_values = log_mean(log_weights) - (k - 1) * without
    return pseudo_values.mean(0), pseudo_values.std(0) / math.sqrt(k)


def pareto_shape(log_weights: LogWeights) -> Float64[Tensor, " batch"]:
    """Returns the shape k-hat of a generalised Pareto distribution fitted to the largest weights of each image.

    The tail is the M = ceil(min(samples / 5, 3 sqrt(samples))) largest weights, minus the largest weight below the tail.
    The estimate is the average over the grid of Zhang & Stephens (2009), weighted by profile likelihood and shrunk towards
    0.5 as if by ten further observations (Vehtari et al. 2024). Weights of shape k-hat have moments up to order 1 / k-hat.

    Returns:
        the shape; nan if M < 5 (fewer than `FEWEST_WITH_A_TAIL` samples) or all tail weights are equal up to rounding (an
        exact posterior: there is no tail); inf if the tail spans more orders of magnitude than float64 can represent.
    """
    samples, images = log_weights.shape
    if samples < FEWEST_WITH_A_TAIL:
        return log_weights.new_full((images,), math.nan)
    return tail_shape(log_weights, math.ceil(min(samples / 5, 3 * math.sqrt(samples))))


def tail_shape(log_weights: LogWeights, tail: int) -> Float64[Tensor, " batch"]:
    """Returns `pareto_shape` for a tail of so many weights, at least 5 and less than all of them."""
    largest = log_weights.mT.topk(tail + 1, dim=1).values.flip(1)
    w = (largest - largest[:, -1:]).exp()
    x = w[:, 1:] - w[:, :1]  # exceedances [images tail], ascending
    x_quarter, x_max = x[:, math.floor(tail / 4 + 0.5) - 1, None], x[:, -1:]
    m = 30 + math.floor(math.sqrt(tail))
    j = torch.arange(1, m + 1, dtype=x.dtype, device=x.device)
    b = 1 / x_max + (1 - (m / (j - 0.5)).sqrt()) / (3 * x_quarter)  # theta of Zhang & Stephens [images grid]
    k = torch.log1p(-b[:, :, None] * x[:, None, :]).mean(-1)
    log_likelihood = tail * ((-b / k).log() - k - 1)
    b_hat = (torch.softmax(log_likelihood, dim=1) * b).sum(1, keepdim=True)
    k_hat = (torch.log1p(-b_hat * x).sum(1) + 10 * 0.5) / (tail + 10)
    lost = torch.where(x_quarter.squeeze(1) > 0, k_hat, math.inf)
    return torch.where(x_max.squeeze(1) > ROUNDING, lost, math.nan)
