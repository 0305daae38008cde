r"""Means with 95 % intervals over values that differ only by noise: seeds, random subsets.

For values :math:`v_1 .. v_n`, the interval is Student's,

.. math:: \bar v \pm t_{0.975, n-1} \, s / \sqrt{n}, \qquad s^2 = \tfrac{1}{n-1} \sum_i (v_i - \bar v)^2 .

A single value has no interval: its `half_width` is None, never zero.

The interval covers the noise of what the values are a sample of, and nothing else: over seeds, it does not cover the choice
of the test images that all runs share. Two models are compared by `crossed_effects`, which covers both. `paired_difference`
takes the differences a_i - b_i of runs with the same seed i, for runs that differ in too little for training to tell them
apart at once; between different models, pairing gains nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and its uncertainty."""

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


def estimate(values: Sequence[float]) -> Estimate:
    """Returns the mean and 95 % interval of one or more finite values."""
    from scipy.special import stdtrit

    n = len(values)
    # The mean of equal values must be that value exactly, without rounding error.
    mean = values[0] if len(set(values)) == 1 else math.fsum(values) / n
    if n == 1:
        return Estimate(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    t = float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2))
    return Estimate(mean, t * math.sqrt(variance / n), n)


@dataclass(frozen=True)
class Difference:
    """Left minus right, by seed."""

    by_seed: Mapping[int, float]
    estimate: Estimate


def paired_difference(left: Mapping[int, float], right: Mapping[int, float]) -> Difference | None:
    """Returns `left` minus `right`, both given as values by seed; None if they share no seed."""
    shared = sorted(left.keys() & right.keys())
    if not shared:
        return None
    by_seed = {seed: left[seed] - right[seed] for seed in shared}
    return Difference(by_seed, estimate(list(by_seed.values())))
