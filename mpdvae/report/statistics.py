r"""Differences between models, paired by seed.

Two models are compared by Student's interval (mpdvae/measures/intervals.py) of the differences a_i - b_i of runs with the
same seed i. The seed fixes the order and the binarisation of the data, so the noise that a pair shares cancels. An interval
over seeds does not cover the noise of a single evaluation (Monte-Carlo error, choice of test images), which is reported
separately.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mpdvae.measures.intervals import Estimate, estimate


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
