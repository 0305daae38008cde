r"""Means over seeds with 95 % intervals, and differences between models that are paired by seed.

For values :math:`v_1 .. v_n` of n runs that differ in their seed alone, the interval is Student's,

.. math:: \bar v \pm t_{0.975, n-1} \, s / \sqrt{n}, \qquad s^2 = \tfrac{1}{n-1} \sum_i (v_i - \bar v)^2 .

One run has no interval: `half_width` is then None, never zero.

Two models are compared by the same formula on the differences a_i - b_i of runs with the same seed i. The seed fixes the
order of the data and their binarisation, so what is common to a pair cancels. An interval over seeds says nothing about
the noise of one evaluation (Monte-Carlo error, choice of test images); that is reported on its own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its uncertainty."""

    mean: float
    half_width: float | None
    """Half the width of the 95 % interval; None for a single value."""
    count: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """Lower and upper end of the 95 % interval; None for a single value."""
        if self.half_width is None:
            return None
        return self.mean - self.half_width, self.mean + self.half_width


@dataclass(frozen=True)
class Difference:
    """Left minus right, seed by seed."""

    by_seed: Mapping[int, float]
    estimate: Estimate


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % interval of finite values, one for each seed; at least one."""
    from scipy.special import stdtrit

    n = len(values)
    # Rounding must not move the mean of equal values away from them.
    mean = values[0] if len(set(values)) == 1 else math.fsum(values) / n
    if n == 1:
        return Estimate(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    t = float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2))
    return Estimate(mean, t * math.sqrt(variance / n), n)


def paired_difference(left: Mapping[int, float], right: Mapping[int, float]) -> Difference | None:
    """`left` minus `right`, both from seed to value; None where they share no seed."""
    shared = sorted(left.keys() & right.keys())
    if not shared:
        return None
    by_seed = {seed: left[seed] - right[seed] for seed in shared}
    return Difference(by_seed, estimate(list(by_seed.values())))
