r"""What a set of log-weights says: the bound, its error, its course in the number of samples, and where it tends.

With independent unbiased weights, :math:`\mathbb{E} w_i = p(x)`, and
:math:`L_m = \mathbb{E} \log \tfrac1m \sum_{i \le m} w_i`,

.. math:: L_1 \le L_2 \le L_4 \le \dots \le \log p(x), \qquad
          L_m = \log p(x) - \frac{\operatorname{Var} w}{2 m \, p(x)^2} + O(m^{-2})

(Burda, Grosse & Salakhutdinov 2016, https://arxiv.org/abs/1509.00519). From k weights, L_m is estimated without bias by
the mean over floor(k / m) disjoint groups of m.

The jackknife takes the term in 1/m away (Nowozin, "Debiasing Evidence Approximations: On Importance-weighted
Autoencoders and Jackknife Variational Inference", ICLR 2018, order 1, https://openreview.net/forum?id=HyZoi-WRb). With the
shares :math:`r_i = w_i / \sum_j w_j` and the logarithm of the mean of all weights but the i-th,
:math:`L_{-i} = L + \log\tfrac{k}{k-1} + \log(1 - r_i)`, it is the mean of the pseudo-values
:math:`k L - (k - 1) L_{-i}`, and their spread gives its standard error (Tukey 1958). It is no bound.

All weights are given by their logarithms, [samples batch] in float64.
"""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

LogWeights = Float64[Tensor, "samples batch"]


def log_mean(log_weights: LogWeights) -> Float64[Tensor, " batch"]:
    """log 1/k sum w."""
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def standard_error(log_weights: LogWeights) -> Float64[Tensor, " batch"]:
    """Standard error of `log_mean` by the delta method, std(w) / (sqrt(k) mean(w)); nan for one sample."""
    k, shares = len(log_weights), log_weights.softmax(0)
    if k == 1:
        return torch.full_like(shares[0], math.nan)
    return k * (shares.var(0, correction=0) / (k - 1)).sqrt()


def effective_sample_size(log_weights: LogWeights) -> Float64[Tensor, " batch"]:
    """(sum w)^2 / sum w^2, from 1 to the number of samples."""
    return 1 / log_weights.softmax(0).square().sum(0)


def group_sizes(samples: int) -> list[int]:
    """The numbers of samples m at which the bound is followed: 1, 2, 4, ... and `samples`."""
    return [*(2**i for i in range((samples - 1).bit_length())), samples]


def bound_curve(log_weights: LogWeights) -> Float64[Tensor, "batch sizes"]:
    """L_m for each m in `group_sizes(samples)`."""
    curve, groups = [], log_weights
    for _ in group_sizes(len(log_weights))[:-1]:
        curve.append(groups.mean(0))
        pairs = groups[: len(groups) // 2 * 2].unflatten(0, (-1, 2))
        groups = pairs.logsumexp(1) - math.log(2)
    return torch.stack([*curve, log_mean(log_weights)], 1)


def jackknife(log_weights: LogWeights) -> tuple[Float64[Tensor, " batch"], Float64[Tensor, " batch"]]:
    """The bound extrapolated to infinitely many samples, and its standard error; nan for one sample.

    Where one weight outweighs all others both are large, or infinite: the tail shape will say so, too.
    """
    k = len(log_weights)
    if k == 1:
        unknown = torch.full_like(log_weights[0], math.nan)
        return unknown, unknown
    without = math.log(k / (k - 1)) + torch.log1p(-log_weights.softmax(0).clamp_max(1.0))
    pseudo_values = log_mean(log_weights) - (k - 1) * without
    return pseudo_values.mean(0), pseudo_values.std(0) / math.sqrt(k)
