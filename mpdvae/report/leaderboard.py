"""The leaderboard of remedies: every remedy of a study, on the same network, data, budget and seeds, by what it costs and
what it brings.

Two things count: the likelihood (NLL, lower is better), and the use of the code (accuracy of 10-NN on codes, at the largest
number of labels, higher is better; the lower bound on the mutual information where there are no labels). A rate is no use: it
can be paid for nothing, and information can be noise.

A remedy is on the *front* if no other is better in both. "Better" means by more than the intervals over seeds allow: the
difference of the means exceeds the root of the summed squares of both half-widths. With one seed there are no intervals, and
means decide. The front is therefore those of which the study cannot say that another is better, not a ranking.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mpdvae.experiments.recipes import COLLAPSING
from mpdvae.experiments.remedies import REMEDIES
from mpdvae.measures.intervals import Estimate
from mpdvae.report.collect import Study, Variant
from mpdvae.report.metrics import over_seeds, resolve
from mpdvae.report.numbers import MISSING, duration, number, with_interval

TITLE = "Leaderboard of remedies"
FEWEST_REMEDIES = 3
"""Remedies that a study must have for a leaderboard."""
ACCURACY, INFORMATION = "knn10_accuracy/largest", "mutual_information_nats"
DENSITY = {"NLL": "nll_nats", "rate": "kl_nats", "distortion": "reconstruction_nats"}
"""Head of a column, and name of the number."""
HEADING = ("", "front", *DENSITY, "10-NN", "information", "training")
CAPTION = (
    "One network, data set, budget and set of seeds; only the remedy differs. Means over seeds, half of the 95% interval; "
    "NLL, rate, distortion and information in nats. Information: lower to upper bound on the mutual information of image and "
    "code. Front (●): no other remedy is better both in likelihood and in the accuracy of its codes, beyond the intervals."
)


@dataclass(frozen=True)
class Place:
    """One row."""

    variant: Variant
    likelihood: Estimate
    """NLL in nats."""
    accuracy: Estimate | None
    """Of 10-NN on codes; None without labels."""
    information: Estimate
    """Lower bound on the mutual information, in nats."""
    front: bool = False

    @property
    def use(self) -> Estimate:
        """What the code is good for: its accuracy or, without labels, its information."""
        return self.information if self.accuracy is None else self.accuracy

    def beats(self, other: "Place") -> bool:
        """Returns whether this is better than another in both, beyond the intervals."""
        return less(self.likelihood, other.likelihood) and less(other.use, self.use)

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells as formatted text, in the order of `HEADING`."""
        density = (with_interval(over_seeds(self.variant, name), 2) for name in DENSITY.values())
        upper = over_seeds(self.variant, "mutual_information_upper_nats")
        bracket = f"{number(self.information.mean, 2)} to {MISSING if upper is None else number(upper.mean, 2)}"
        seconds = [run.manifest.training_seconds or 0.0 for run in self.variant.runs]
        mark, time = "●" if self.front else "", duration(sum(seconds) / len(seconds))
        return (self.variant.label, mark, *density, with_interval(self.accuracy, 3), bracket, time)


def places(study: Study) -> tuple[Place, ...]:
    """Returns the rows, those on the front first, each by NLL; empty if the study has no `FEWEST_REMEDIES` remedies."""
    if sum(variant.model in REMEDIES for variant in study.variants) < FEWEST_REMEDIES:
        return ()
    accuracy = resolve(ACCURACY, study.variants)
    found = [
        Place(variant, likelihood, None if accuracy is None else over_seeds(variant, accuracy), information)
        for variant in study.variants
        if (likelihood := over_seeds(variant, "nll_nats")) is not None
        and (information := over_seeds(variant, INFORMATION)) is not None
    ]
    judged = [replace(place, front=not any(other.beats(place) for other in found)) for place in found]
    return tuple(sorted(judged, key=lambda place: (not place.front, place.likelihood.mean)))


def less(one: Estimate, other: Estimate) -> bool:
    """Returns whether one mean is less than another by more than their intervals allow."""
    return other.mean - one.mean > math.hypot(one.half_width or 0.0, other.half_width or 0.0)


def advice(found: Sequence[Place]) -> tuple[str, ...]:
    """Returns what to try first, for each aim, in sentences; empty without rows."""
    if not found:
        return ()
    base = next((place for place in found if place.variant.model == COLLAPSING), None)
    best = min(found, key=lambda place: place.likelihood.mean)
    coded = max(found, key=lambda place: place.use.mean)
    sentences = [
        f"For the likelihood: {_all(best, [p for p in found if not less(best.likelihood, p.likelihood)])}.",
        f"For the code: {_all(coded, [p for p in found if not less(p.use, coded.use)])}.",
    ]
    if base is not None:
        free = [p for p in found if p is not base and less(base.use, p.use) and not less(base.likelihood, p.likelihood)]
        named = ", ".join(p.variant.label for p in sorted(free, key=lambda place: -place.use.mean))
        sentences.append(f"At no cost in likelihood, with better codes than {base.variant.label}: {named or 'none'}.")
    if any(place.likelihood.half_width is None for place in found):
        sentences.append("With one seed there are no intervals: small differences may be chance; add seeds.")
    return tuple(sentences)


def _all(first: Place, alike: Sequence[Place]) -> str:
    """Names the best, and those that the intervals do not tell from it."""
    others = ", ".join(place.variant.label for place in alike if place is not first)
    return first.variant.label + (f" (not told apart from it: {others})" if others else "")
