"""The words of a verdict, and the rule that gives them, for one matrix and for many predicted ones at once."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Word = Literal["holds", "does not hold", "cannot tell", "not tested"]
Interval = tuple[float, float]
Intervals = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Lower and upper ends, one of each per repeat."""


def conjunction(words: Sequence[Word]) -> Word:
    """Returns the verdict on a claim from the verdicts on its conditions."""
    for decisive in ("does not hold", "not tested", "cannot tell"):
        if decisive in words:
            return decisive
    return "holds"


def decide(confirming: Interval | None, refuting: Interval | None, region: Interval) -> Word:
    """Applies the rule to the two intervals of one difference, which differ in their level. Equality with the region's end
    in every run counts as outside."""
    if confirming is None or refuting is None:
        return "cannot tell"
    if refuting[0] >= region[1] or refuting[1] <= region[0]:
        return "does not hold"
    return "holds" if region[0] < confirming[0] and confirming[1] < region[1] else "cannot tell"


def repeated_word(intervals: Sequence[Sequence[Intervals]], regions: Sequence[Interval]) -> NDArray[Any]:
    """Returns the verdict on a claim in each repeat, from the confirming and the refuting intervals of its conditions: the
    same rule as `decide` and `conjunction`."""
    confirmed, refuted = [], []
    for (confirming, refuting), (start, end) in zip(intervals, regions, strict=True):
        confirmed.append((start < confirming[0]) & (confirming[1] < end))
        refuted.append((refuting[0] >= end) | (refuting[1] <= start))
    words = np.where(np.all(confirmed, axis=0), "holds", "cannot tell")
    return np.where(np.any(refuted, axis=0), "does not hold", words)
