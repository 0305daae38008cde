r"""Means with 95 % intervals over values that differ only by noise: seeds, random subsets.

For values :math:`v_1 .. v_n`, the interval is Student's,

.. math:: \bar v \pm t_{0.975, n-1} \, s / \sqrt{n}, \qquad s^2 = \tfrac{1}{n-1} \sum_i (v_i - \bar v)^2 .

A single value has no interval: its `half_width` is None, never zero.
"""

import math
from collections.abc import Sequence
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
