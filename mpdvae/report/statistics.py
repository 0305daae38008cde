r"""Differences between models that are paired by seed.

Two models are compared by Student's interval (mpdvae/measures/intervals.py) of the differences a_i - b_i of runs with the
same seed i. The seed fixes the order of the data and their binarisation, so what is common to a pair cancels. An interval
over seeds says nothing about the noise of one evaluation (Monte-Carlo error, choice of test images); that is reported on
its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mpdvae.measures.intervals import Estimate, estimate


@dataclass(frozen=True)
class Difference:
    """Left minus right, seed by seed."""

    by_seed: Mapping[int, float]
    estimate: Estimate


def paired_difference(left: Mapping[int, float], right: Mapping[int, float]) -> Difference | None:
    """`left` minus `right`, both from seed to value; None where they share no seed."""
    shared = sorted(left.keys() & right.keys())
    if not shared:
        return None
    by_seed = {seed: left[seed] - right[seed] for seed in shared}
    return Difference(by_seed, estimate(list(by_seed.values())))
