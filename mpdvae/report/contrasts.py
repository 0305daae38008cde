"""The difference of a metric between two models, with all noise that the files of their runs tell of.

    metric                          noise besides the seeds
    NLL, ELBO, KL, distortion       test images, image by image, from density.csv; with the Monte-Carlo error of each run
    mutual information              test images: the standard errors in information.json, taken as independent
    accuracy of classifiers         label subsets, subset by subset; test images by the binomial bound
    accuracy of k-means             test images by the binomial bound; restarts are part of the noise of a run
    all others                      none: the interval covers the seeds only

Binomial bound: the test images of a score are not stored one by one. The sum of p (1 - p) / N over both models is the
variance if their errors are independent; models err on the same images rather than on different ones, so it is at most that.

The mutual information is known as a bracket: its difference lies between (lower bound of the left - upper bound of the right)
and (upper bound of the left - lower bound of the right), and so does the interval, from the lower end of the first to the
upper end of the second.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpdvae.measures.crossed_effects import Difference, Sample, Term, difference
from mpdvae.measures.intervals import CONFIDENCE
from mpdvae.report.claims import Condition
from mpdvae.report.collect import Run, Variant
from mpdvae.report.metrics import MEASURES, values
from mpdvae.report.per_image import COLUMNS

IMAGES, SUBSETS = "test images", "label subsets"
UPPER = {"mutual_information_nats": "mutual_information_upper_nats"}
"""Metrics that are lower bounds, and their upper bounds."""
COUNTED = (
    "knn10_accuracy",
    "linear_accuracy",
    "linear_svm_accuracy",
    "rbf_svm_accuracy",
    "kmeans_accuracy",
    "kmeans_hungarian_accuracy",
)
"""Measures that are the fraction of test images that are classified correctly."""


@dataclass(frozen=True)
class Contrast:
    """A difference of two models, known exactly (`low` is `high`) or as a bracket."""

    low: Difference
    high: Difference

    @property
    def is_bracket(self) -> bool:
        return self.low is not self.high

    @property
    def differences(self) -> list[Difference]:
        return [self.low, self.high] if self.is_bracket else [self.low]

    @property
    def mean(self) -> float:
        """The difference; of a bracket, its middle."""
        return (self.low.mean + self.high.mean) / 2

    @property
    def covers(self) -> list[str]:
        return self.low.covers

    def interval(self, level: float = CONFIDENCE) -> tuple[float, float] | None:
        """Returns the interval at a confidence level; None if a model has a single run."""
        below, above = self.low.interval(level), self.high.interval(level)
        return None if below is None or above is None else (below[0], above[1])


def metrics_of(name: str) -> list[str]:
    """Returns the metrics that a comparison of `name` reads."""
    return [name, UPPER[name]] if name in UPPER else [name]


def contrast(condition: Condition, name: str, sides: Sequence[Variant]) -> Contrast | None:
    """Returns the difference of metric `name` between the models of a condition; None if one has no finite value."""
    if any(not values(side, metric) for side in sides for metric in metrics_of(name)):
        return None
    if name not in UPPER or len(sides) == 1:
        found = _difference(condition, sides, [name] * len(sides))
        return Contrast(found, found)
    upper = UPPER[name]
    return Contrast(_difference(condition, sides, [name, upper]), _difference(condition, sides, [upper, name]))


def _difference(condition: Condition, sides: Sequence[Variant], names: Sequence[str]) -> Difference:
    tables, unit = _tables(sides, names)
    samples = [
        Sample(side.model, values(side, name), table) for side, name, table in zip(sides, names, tables, strict=True)
    ]
    right = samples[1] if len(samples) > 1 else float(condition.right)
    known = [variance for side, name in zip(sides, names, strict=True) if (variance := _of_images(side, name))]
    return difference(samples[0], right, unit, [Term(IMAGES, math.fsum(known), math.inf)] if known else [])


def _tables(sides: Sequence[Variant], names: Sequence[str]) -> tuple[list[NDArray[np.float64] | None], str]:
    """Returns the values of each side on common units, one row a run, and the name of the units; None if there are none."""
    found = [
        [_units(run, name) for run in side.runs if run.seed in values(side, name)]
        for side, name in zip(sides, names, strict=True)
    ]
    rows = [row for side in found for row in side]
    known = [row for row in rows if row is not None]
    if len(known) < len(rows) or len({keys for keys, _ in known}) != 1:
        return [None] * len(sides), ""
    tables: list[NDArray[np.float64] | None] = [np.stack([row[1] for row in side if row]) for side in found]
    return tables, IMAGES if names[0] in COLUMNS else SUBSETS


def _units(run: Run, name: str) -> tuple[tuple[int, ...], NDArray[np.float64]] | None:
    """Returns the units on which a metric of a run was measured, and its values there; None if it has no units."""
    if name in COLUMNS:
        found = run.per_image
        return None if found is None or name not in found.values else (found.images, found.values[name])
    measure, _, count = name.partition("/")
    if not count or MEASURES[measure][1] != "labels" or run.representation is None:
        return None
    score = getattr(run.representation, measure).get(count)
    return None if score is None or not score.subsets else (tuple(range(len(score.subsets))), np.array(score.subsets))


def _of_images(side: Variant, name: str) -> float | None:
    """Returns the variance of a model's mean from the choice of test images, if it is known without units."""
    measure = name.partition("/")[0]
    if measure in COUNTED:
        p = float(np.mean(list(values(side, name).values())))
        return p * (1 - p) / side.runs[0].diagnostics.images
    if name in UPPER or name in UPPER.values():
        errors = [_information_error(run, name in UPPER) for run in side.runs]
        return float(np.mean([error**2 for error in errors if error is not None])) if any(errors) else None
    return None


def _information_error(run: Run, lower: bool) -> float | None:
    if run.information is None:
        return None
    found = run.information.mutual_information
    return (found.lower_bound if lower else found.upper_bound).standard_error_nats
