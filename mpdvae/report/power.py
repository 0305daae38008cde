r"""The power of a matrix: with which probability does it confirm a condition whose difference is as large as matters?

A pilot gives the noise of each condition, as in `crossed_effects`: the standard deviations over seeds of both models'
numbers, that over test images of the difference of the models, those over images of what a single run adds, and an error that
neither more seeds nor more images reduce (label subsets, test images of a score). With n seeds and J images, the difference
has

.. math:: s^2 = \frac1n \sum_m \left( s_{am}^2 + \frac{s_{em}^2}{J} \right) + \frac{s_d^2}{J} + s_0^2

and Satterthwaite's degrees of freedom nu. The matrix estimates s by s u, where nu u^2 is distributed as chi^2_nu, and its
interval reaches t s u to either side. With the normal distribution Phi and the smallest difference that matters, Delta, the
condition is confirmed with the probability

.. math:: E_u \, \Phi(\Delta / s - t u), \qquad \text{equivalent:} \quad E_u \max(0, 2 \Phi(\Delta / s - t u) - 1),

if the true difference is Delta (conditions on its sign) or 0 ("not worse" and "equivalent" with the margin Delta; Schuirmann
1987, https://doi.org/10.1007/BF01068419).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mpdvae.measures.crossed_effects import Difference, student_quantile
from mpdvae.report.claims import CLAIMS, Condition
from mpdvae.report.collect import Study
from mpdvae.report.contrasts import IMAGES
from mpdvae.report.looks import ALPHA
from mpdvae.report.per_image import COLUMNS
from mpdvae.report.verdicts import judge_all

TARGET = 0.8
POINTS = 500
"""Quantiles of the chi-square distribution over which the power is averaged."""
MOST_SEEDS = 50
"""Seeds beyond which a claim is called out of reach."""


@dataclass(frozen=True)
class Noise:
    """The noise of the difference of one condition, in the unit of its metric."""

    seeds: tuple[float, ...]
    """Standard deviation over seeds of each model's number."""
    images: float = 0.0
    """Standard deviation over test images of the difference of image means; 0 for metrics without values per image."""
    fixed: float = 0.0
    """Standard error that neither seeds nor images reduce."""
    rest: float = 0.0
    """Standard deviation over test images of what a single run adds, of either model."""

    def error(self, seeds: int, images: int) -> tuple[float, float]:
        """Returns the standard error of the difference and its degrees of freedom."""
        of_seeds = [(s**2 + self.rest**2 / images) / seeds for s in self.seeds]
        of_images = self.images**2 / images
        variance = math.fsum([*of_seeds, of_images, self.fixed**2])
        squares = math.fsum(v**2 for v in of_seeds) / (seeds - 1) + of_images**2 / max(1, images - 1)
        return math.sqrt(variance), variance**2 / squares if squares > 0 else math.inf


Key = tuple[str, str, str]
"""Metric, left model and right model (or bound, as text) of a condition."""


def key_of(condition: Condition) -> Key:
    return condition.metric, condition.left, str(condition.right)


def power(condition: Condition, noise: Noise, seeds: int, images: int, alpha: float = ALPHA) -> float:
    """Returns the probability that the condition is confirmed; 0 for one seed."""
    from scipy.special import chdtri, ndtr

    if seeds < 2:
        return 0.0
    error, degrees = noise.error(seeds, images)
    degrees = min(degrees, 1e6)
    if error == 0:
        return 1.0
    u = np.sqrt(chdtri(degrees, (np.arange(POINTS) + 0.5) / POINTS) / degrees)
    within = ndtr(condition.smallest / error - student_quantile(1 - alpha, degrees) * u)
    return float(np.mean(np.maximum(0.0, 2 * within - 1) if condition.relation == "equivalent" else within))


def seeds_needed(condition: Condition, noise: Noise, images: int, target: float = TARGET) -> int | None:
    """Returns the fewest seeds that reach the target; None if `MOST_SEEDS` do not."""
    return next((n for n in range(2, MOST_SEEDS + 1) if power(condition, noise, n, images) >= target), None)


@dataclass(frozen=True)
class Planned:
    """One condition of a planned matrix."""

    claim: str
    condition: Condition
    power: float
    seeds_needed: int | None


def plan(noises: Mapping[Key, Noise], dataset: str, seeds: int, images: int) -> list[Planned]:
    """Returns the power of a matrix for each condition whose noise is known."""
    planned = []
    for claim in CLAIMS:
        if not claim.applies_to(dataset):
            continue
        for condition in (c.on(dataset) for c in claim.conditions):
            if (noise := noises.get(key_of(condition))) is not None:
                needed = seeds_needed(condition, noise, images)
                planned.append(Planned(claim.id, condition, power(condition, noise, seeds, images), needed))
    return planned


def noises_of(study: Study) -> dict[Key, Noise]:
    """Returns the noise of every condition whose models have at least two runs each: a pilot."""
    found = {}
    for evidence in (e for verdict in judge_all(study) for e in verdict.evidence):
        if evidence.contrast is not None and evidence.contrast.low.terms is not None:
            # Of a bracket, the noisier end.
            noisiest = max(evidence.contrast.differences, key=lambda d: d.variance)
            found[key_of(evidence.condition)] = _noise(noisiest, evidence.metric, study.setting.images)
    return found


def _noise(difference: Difference, metric: str, images: int) -> Noise:
    terms = difference.terms or ()
    seeds = [t.variance for t in terms if t.source == "seeds"]
    of_images = math.fsum(t.variance for t in terms if t.source == IMAGES and metric in COLUMNS)
    fixed = math.fsum(t.variance for t in terms if t.source != "seeds") - of_images
    rest = (
        math.sqrt(sum(s**2 for s in difference.rests) / len(difference.rests))
        if of_images and difference.rests
        else 0.0
    )
    squares = [v * n - rest**2 / images for v, n in zip(seeds, difference.seeds, strict=True)]
    deviations = tuple(math.sqrt(max(0.0, square)) for square in squares)
    return Noise(deviations, math.sqrt(of_images * images), math.sqrt(max(0.0, fixed)), rest)
