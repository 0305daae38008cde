r"""Differences of means over seeds and over images: both are samples, and the error of a difference comes from both.

Model. Run s of model m measures image j as

.. math:: y_{msj} = \mu_m + a_{ms} + b_{mj} + e_{msj},

with independent random effects of the run (a seed on a machine), of the image, and a remainder: the interaction and the
Monte-Carlo error. All runs measure the same J images, so what an image does to both models cancels, and only
:math:`d_j = b_{1j} - b_{2j}` matters. Runs of two models share nothing else: training enlarges the smallest difference, so
that a run of another model with the same seed number is as good as one with another seed. (At scale `minutes`, differences
by seed have the standard deviation 0.234 nats of NLL; between other seeds, 0.229.) The difference of the means has

.. math:: \operatorname{Var} = \sum_m \frac{\sigma_{am}^2}{n_m} + \frac{\sigma_d^2}{J} + \sum_m \frac{\sigma_{em}^2}{n_m J} .

Estimate. Mean squares of the two-way layout (Scheffe 1959, "The analysis of variance", chapter 7):

    seeds        sum over m of the sample variance of run means / n_m         expects  s_a^2 / n + s_e^2 / (n J)
    units        sample variance over j of the difference of image means / J  expects  s_d^2 / J + s_e^2 / (n J)
    interaction  sum over m of MS_e / (n_m J)                                 expects  s_e^2 / (n J)

The first two contain the third twice: seeds + max(0, units - interaction) is unbiased but for the bound at 0, as in two-way
clustering (Cameron, Gelbach & Miller 2011, https://doi.org/10.1198/jbes.2010.07136). Owen (2007, "The pigeonhole bootstrap",
https://doi.org/10.1214/07-AOAS122) shows that no bootstrap of such data is exact either. The interval is Student's, with the
degrees of freedom of Satterthwaite (1946, https://doi.org/10.2307/3002019): V^2 / sum of V_i^2 / df_i over the terms.

Assumptions: runs are independent, images are a random sample of all possible ones (no correction for a finite test set), and
both means are nearly normal. Not covered: a bias that all runs of a model share, such as that of a loose bound.
tests/measures/test_crossed_effects.py measures the coverage. Other units take the place of images: subsets of labels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpdvae.measures.intervals import CONFIDENCE, estimate

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Term:
    """One term of the variance of a difference."""

    source: str
    """The sampled things: "seeds", "test images", "label subsets"."""
    variance: float
    degrees: float
    """Degrees of freedom of `variance`; infinite: known."""


@dataclass(frozen=True)
class Difference:
    """Left minus right, with the terms of its variance."""

    mean: float
    terms: tuple[Term, ...] | None
    """None: the noise of training is unknown, because a model has a single run."""
    seeds: tuple[int, ...]
    """Number of runs of each model."""
    by_seed: Mapping[int, float] = field(default_factory=dict)
    """Differences of runs with the same seed. For display: they are not the sample behind the interval."""
    directions: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """The deviation that each run, and each unit, adds to the mean. Their squares add up to the variance of the terms that
    are not known beforehand, and their products with those of another difference to the covariance of both."""

    rests: tuple[float, ...] = ()
    """Standard deviation over units of what a single run of each model adds, s_e; empty without units."""

    @property
    def covers(self) -> list[str]:
        """The sources of noise that the interval covers."""
        return list(dict.fromkeys(term.source for term in self.terms or ()))

    @property
    def variance(self) -> float:
        """Variance of the mean; nan if it is unknown."""
        return math.nan if self.terms is None else math.fsum(term.variance for term in self.terms)

    @property
    def standard_error(self) -> float | None:
        return None if self.terms is None else math.sqrt(self.variance)

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the variance."""
        if self.terms is None:
            return 0.0
        squares = math.fsum(t.variance**2 / t.degrees for t in self.terms)
        return self.variance**2 / squares if squares > 0 else min(t.degrees for t in self.terms)

    def interval(self, level: float = CONFIDENCE) -> tuple[float, float] | None:
        """Returns the interval at a confidence level; None if the noise is unknown."""
        if self.terms is None:
            return None
        half = student_quantile(level, self.degrees) * math.sqrt(self.variance)
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Sample:
    """The runs of one model."""

    model: str
    by_seed: Mapping[int, float]
    """The number that is compared, by seed."""
    units: Values | None = None
    """Its value on each unit [runs, units], runs by ascending seed; the units are those of the other model. None: not
    known, the interval covers the seeds only."""


def difference(left: Sample, right: Sample | float, unit: str = "", known: Sequence[Term] = ()) -> Difference:
    """Returns `left` minus `right`; a number on the right has no noise.

    Arguments:
        unit: the name of the units, if both samples have their values.
        known: further independent terms of the variance.
    """
    samples = [left, right] if isinstance(right, Sample) else [left]
    runs = [[s.by_seed[seed] for seed in sorted(s.by_seed)] for s in samples]
    other = estimate(runs[1]).mean if isinstance(right, Sample) else float(right)
    mean = estimate(runs[0]).mean - other
    theirs = right.by_seed if isinstance(right, Sample) else dict.fromkeys(left.by_seed, right)
    by_seed = {seed: left.by_seed[seed] - theirs[seed] for seed in sorted(left.by_seed.keys() & theirs.keys())}
    counts = tuple(map(len, runs))
    if min(counts) < 2:
        return Difference(mean, None, counts, by_seed)
    terms, directions = [*known], {}
    for sample, values, sign in zip(samples, runs, (1, -1), strict=False):
        terms.append(Term("seeds", estimate_variance(values) / len(values), float(len(values) - 1)))
        moved = sign * (np.array(values) - estimate(values).mean) / math.sqrt(len(values) * (len(values) - 1))
        directions[f"seeds of {sample.model}"] = dict(zip(sorted(sample.by_seed), moved.tolist(), strict=True))
    tables, rests = [s.units for s in samples if s.units is not None], ()
    if tables and len(tables) == len(samples) and tables[0].shape[-1] > 1:
        found = unit_variance(tables)
        terms.append(Term(unit, float(found.net), found.degrees))
        moved = unit_deviations(tables) * math.sqrt(found.net / found.gross if found.gross > 0 else 0.0)
        directions[unit] = dict(enumerate(moved.tolist()))
        rests = tuple(math.sqrt(mean_square_of_interaction(table)) for table in tables)
    ordered = tuple(sorted(terms, key=lambda term: term.source != "seeds"))
    return Difference(mean, ordered, counts, by_seed, directions, rests)


@dataclass(frozen=True)
class UnitVariance:
    """Variance that the choice of the units adds; arrays if the tables have leading axes."""

    gross: Any
    """With the interaction, which the variance over seeds also contains."""
    net: Any
    """Without it; at least 0."""
    degrees: float


def unit_variance(tables: Sequence[Values]) -> UnitVariance:
    """Returns the variance from the choice of units of the mean of the first table [*, runs, units], less that of the second
    if there is one."""
    gross = np.square(unit_deviations(tables)).sum(-1)
    interaction = sum(mean_square_of_interaction(t) / (t.shape[-2] * t.shape[-1]) for t in tables)
    return UnitVariance(gross, np.maximum(0.0, gross - interaction), float(tables[0].shape[-1] - 1))


def unit_deviations(tables: Sequence[Values]) -> Values:
    """Returns the deviations over units [*, units] whose sum of squares estimates the variance of the mean difference."""
    means = [table.mean(-2) for table in tables]
    d = means[0] - means[1] if len(means) > 1 else means[0]
    count = d.shape[-1]
    return (d - d.mean(-1, keepdims=True)) / math.sqrt(count * (count - 1))


def mean_square_of_interaction(y: Values) -> Any:
    """Returns MS_e of a table [*, runs, units] of at least two runs and units: an unbiased estimate of s_e^2."""
    rest = y - y.mean(-1, keepdims=True) - y.mean(-2, keepdims=True) + y.mean((-2, -1), keepdims=True)
    return np.square(rest).sum((-2, -1)) / ((y.shape[-2] - 1) * (y.shape[-1] - 1))


def estimate_variance(values: Sequence[float]) -> float:
    """Returns the sample variance; exactly 0 for equal values."""
    mean = estimate(values).mean
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def student_quantile(level: float, degrees: float) -> float:
    """Returns the factor of a two-sided interval at `level`; of the normal distribution for infinite `degrees`."""
    from scipy.special import ndtri, stdtrit

    upper = 0.5 + level / 2
    return float(ndtri(upper) if math.isinf(degrees) else stdtrit(degrees, upper))
