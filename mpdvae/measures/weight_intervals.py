r"""95 % intervals for log p(x) from independent unbiased importance weights, and for its mean over images.

*Closed intervals.* With k weights of mean w-bar, relative standard error s and skewness G, Student's statistic of the mean
is skewed, since large weights raise the mean and its error together: plain intervals miss the truth above them. Hall's
monotone transformation (Hall 1992, https://doi.org/10.1111/j.2517-6161.1992.tb01865.x) removes the skewness: with t the
quantile of Student's t and :math:`a = G / \sqrt k`,

.. math:: \log \bar w + \log\bigl(1 - s\, h(\pm t)\bigr), \qquad
          h(x) = \tfrac3a \Bigl( \bigl(1 + a (x - \tfrac a6)\bigr)^{1/3} - 1 \Bigr).

G itself is too small if the largest weights have not been drawn. The part above log w-bar is therefore multiplied by
:math:`(1 - \max(\hat k - 0.1, 0))^{-3/2}`, which makes up for it for tails of any shape k-hat that is reliable; exponent and
offset were found by simulation. From :math:`10 \le k < 21` weights, k-hat is that of the larger half of them.

*Open intervals.* If k-hat is above its threshold (`importance_weights`; `MOST_OF_FEW` for less than 21 weights), or there are
fewer than 10 weights, no upper end can be trusted, and it is infinite. The lower end is a true one for weights of any
distribution: if p is the mean of the weights,

.. math:: K(p) = \frac1L \sum_{l=1}^L \prod_i \bigl( 1 - \lambda_l + \lambda_l w_i / p \bigr), \qquad 0 < \lambda_l \le 1,

has expectation 1, so that P(K(p) >= 20) <= 1/20 by Markov's inequality; the lower end is the p at which K falls below 20
(Waudby-Smith & Ramdas 2024, https://arxiv.org/abs/2010.09686; for k = 1 and lambda = 1 this is p >= w / 20, as in Gogate,
Bidyuk & Dechter 2007, https://arxiv.org/abs/1206.5242).

*Means over images.* Errors are independent between images, so the distances of the ends from the estimates add in squares
(Zou & Donner 2008, https://doi.org/10.1002/sim.3095). One open interval makes that of the mean open.

tests/measures/test_weight_intervals.py measures the coverage.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from mpdvae.measures.importance_weights import (
    FEWEST_WITH_A_TAIL,
    LogWeights,
    largest_reliable_shape,
    log_mean,
    pareto_shape,
    standard_error,
    tail_shape,
)
from mpdvae.measures.random_subsets import student_quantile

FEWEST = 10
"""Weights for a closed interval."""
MOST_OF_FEW = 0.45
"""Largest shape of the larger half of less than 21 weights for a closed interval."""
LIGHT, GROWTH = 0.1, -1.5
"""Largest shape at which the upper part is as wide as the skewness makes it, and the exponent of its growth."""
MISSED = 0.05
"""Probability that an open interval misses."""
BETS = [2.0**-j for j in range(9)]
"""The lambdas."""
BISECTIONS = 32


class Interval(NamedTuple):
    """Ends of 95 % intervals for log p(x), in nats."""

    lower: Float64[Tensor, " batch"]
    upper: Float64[Tensor, " batch"]
    """Infinite if the tail of the weights does not allow one."""


def interval(log_weights: LogWeights) -> Interval:
    """Returns the interval of each image."""
    ends, closed = _skewed(log_weights), is_closed(log_weights)
    lower = ends.lower.clone()
    if not closed.all():
        lower[~closed] = lower_bound(log_weights[:, ~closed])
    return Interval(lower, torch.where(closed, ends.upper, math.inf))


def is_closed(log_weights: LogWeights) -> Bool[Tensor, " batch"]:
    """Returns whether the tail of the weights allows an upper end."""
    k = len(log_weights)
    if k < FEWEST:
        return torch.zeros(log_weights.shape[1], dtype=torch.bool)
    most = largest_reliable_shape(k) if k >= FEWEST_WITH_A_TAIL else MOST_OF_FEW
    return ~(_shape(log_weights) > most)


def lower_bound(log_weights: LogWeights) -> Float64[Tensor, " batch"]:
    """Returns the value that log p(x) is above with a probability of 95 %, whatever the distribution of the weights."""
    top = log_mean(log_weights)
    low, high = top - math.log(len(BETS) / MISSED) - 1, top + 1
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        rejected = _log_wealth(log_weights - middle) >= -math.log(MISSED)
        low, high = torch.where(rejected, middle, low), torch.where(rejected, high, middle)
    return low


def of_mean(
    estimates: Float64[Tensor, " batch"], lower: Float64[Tensor, " batch"], upper: Float64[Tensor, " batch"]
) -> tuple[Tensor, Tensor]:
    """Returns the ends of the interval for the mean of log p(x) over the images; the upper is infinite if one of theirs
    is."""
    mean, n = estimates.mean(), len(estimates)
    return mean - (estimates - lower).norm() / n, mean + (upper - estimates).norm() / n


def _skewed(log_weights: LogWeights) -> Interval:
    k, centre, error = len(log_weights), log_mean(log_weights), standard_error(log_weights)
    deviations = k * log_weights.softmax(0) - 1
    skewness = deviations.pow(3).mean(0) / deviations.square().mean(0).pow(1.5)
    a = (skewness / math.sqrt(k)).nan_to_num(0.0)
    t = student_quantile(k - 1)
    below = (1 - error * _transformed(a, t)).clamp_min(torch.finfo(error.dtype).tiny).log()
    above = (1 - error * _transformed(a, -t)).log()
    excess = (_shape(log_weights) - LIGHT).nan_to_num(0.0).clamp(0.0, 0.9)
    return Interval(centre + below, centre + above * (1 - excess) ** GROWTH)


def _transformed(a: Tensor, x: float) -> Tensor:
    """Returns h(x); x itself for hardly any skewness."""
    inner = 1 + a * (x - a / 6)
    h = 3 / a * (inner.sign() * inner.abs().pow(1 / 3) - 1)
    return torch.where(a.abs() < 1e-5, x, h)


def _shape(log_weights: LogWeights) -> Tensor:
    few = FEWEST <= len(log_weights) < FEWEST_WITH_A_TAIL
    return tail_shape(log_weights, len(log_weights) // 2) if few else pareto_shape(log_weights)


def _log_wealth(log_ratios: LogWeights) -> Tensor:
    """Returns log K for the logarithms of w / p."""
    ratios = log_ratios.exp()
    wealth = [torch.log1p(bet * (ratios - 1)).sum(0) if bet < 1 else log_ratios.sum(0) for bet in BETS]
    return torch.stack(wealth).logsumexp(0) - math.log(len(BETS))
