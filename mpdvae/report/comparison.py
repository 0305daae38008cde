r"""Compares two results.json of one matrix: do the verdicts agree, and which numbers differ by more than their errors allow?

A claim agrees if both reports give the same word, or one of them cannot tell or did not test it. Numbers are compared only if
they were measured in the same way (data set, protocol, scale, images and samples): for a model, the means over seeds of every
metric; for a condition, the differences between two models. With the standard errors s of both numbers, each from its 95%
interval and its degrees of freedom,

.. math:: z = \frac{a - b}{\sqrt{s_a^2 + s_b^2}}

is compared with Student's t, with the degrees of freedom of Satterthwaite (1946) for the sum. Of equal matrices, one number
in twenty lies beyond the 5% limit. Therefore a number differs only if its p-value is below 5% divided by the number of
comparisons (Bonferroni); those between are counted beside the number that chance explains. Means over seeds of models are
compared on the same test images; their intervals cover the seeds only.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from mpdvae.errors import InputError
from mpdvae.measures.crossed_effects import student_quantile
from mpdvae.measures.intervals import CONFIDENCE
from mpdvae.report.looks import ALPHA
from mpdvae.report.schema import Number, Part, Real, read

NAME = "results.json"
UNDECIDED = ("cannot tell", "not tested")
"""Words that contradict no other."""
ADVICE = "give a results.json of `mpdvae reproduce`, or its folder"


class Place(Part):
    """Where and how the numbers of an entry were measured."""

    dataset: str
    protocol: str
    measured: str
    scale: str

    @property
    def key(self) -> tuple[str, ...]:
        return self.dataset, self.protocol, self.measured, self.scale


class Metric(Part):
    mean: Number = None
    half_width_95: Number = None
    values: dict[str, Number] = Field(default_factory=dict)


class Row(Place):
    label: str
    metrics: dict[str, Metric] = Field(default_factory=dict)


class Evidence(Part):
    metric: str
    left: str
    right: Annotated[str, BeforeValidator(str)]
    verdict: str = ""
    mean: Number = None
    interval_95: tuple[Real, Real] | None = None
    differences: dict[str, Number] = Field(default_factory=dict)
    degrees_of_freedom: Number = None
    """Absent from earlier versions, whose intervals are of paired differences."""


class Claim(Place):
    id: str
    verdict: str
    stability: Number = None
    evidence: list[Evidence] = Field(default_factory=list)


class ResultsFile(Part):
    """results.json, as far as a comparison needs it."""

    generator: str = ""
    command: str = ""
    rows: list[Row]
    claims: list[Claim]


@dataclass(frozen=True)
class Mean:
    """A number with its standard error."""

    value: float
    error: float
    degrees: float


@dataclass(frozen=True)
class Numbers:
    """One number in both reports."""

    name: str
    one: Mean
    other: Mean

    @property
    def z(self) -> float:
        """The difference in its standard errors; infinite if neither number has noise and they differ."""
        error = math.hypot(self.one.error, self.other.error)
        difference = self.one.value - self.other.value
        return difference / error if error > 0 else math.copysign(math.inf, difference) if difference else 0.0

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the error of the difference."""
        squares = [m.error**2 for m in (self.one, self.other)]
        total = sum(s**2 / m.degrees for s, m in zip(squares, (self.one, self.other), strict=True))
        return sum(squares) ** 2 / total if total > 0 else math.inf

    @property
    def p(self) -> float:
        """Probability of a |z| at least as large between two equal matrices."""
        from scipy.special import ndtr, stdtr

        tail = ndtr(-abs(self.z)) if math.isinf(self.degrees) else stdtr(self.degrees, -abs(self.z))
        return 2 * float(tail)


@dataclass(frozen=True)
class Words:
    """The verdicts of both reports on one claim."""

    claim: str
    dataset: str
    scale: str
    one: Claim
    other: Claim

    @property
    def agree(self) -> bool:
        words = self.one.verdict, self.other.verdict
        return words[0] == words[1] or any(word in UNDECIDED for word in words)


@dataclass(frozen=True)
class Comparison:
    """Two reports, side by side."""

    words: tuple[Words, ...]
    numbers: tuple[Numbers, ...]
    """All numbers that can be compared, the most different first."""
    unmatched: tuple[str, ...]
    """Claims and models that only one report has, or that were measured differently."""

    @property
    def agrees(self) -> bool:
        """Whether no verdict contradicts the other report's."""
        return all(words.agree for words in self.words)

    @property
    def limit(self) -> float:
        """The p-value below which a number differs."""
        return ALPHA / max(1, len(self.numbers))

    @property
    def differing(self) -> list[Numbers]:
        """The numbers that differ by more than both errors allow."""
        return [n for n in self.numbers if n.p < self.limit]

    @property
    def doubtful(self) -> list[Numbers]:
        """The numbers beyond the 5% limit that chance among so many may explain."""
        return [n for n in self.numbers if self.limit <= n.p < ALPHA]


def read_results(path: Path) -> ResultsFile:
    """Reads results.json, given the file or its folder. Raises `InputError` if it is missing or not a report's."""
    file = path / NAME if path.is_dir() else path
    found = read(ResultsFile, file, ADVICE)
    if not found.rows and not found.claims:
        raise InputError(f"{file} holds no results of finished runs: {ADVICE}.", topic="not-a-run")
    return found


def compare(one: ResultsFile, other: ResultsFile) -> Comparison:
    """Compares two reports. Raises `InputError` if they have no claim in common."""
    claims, rows = [_claims(r) for r in (one, other)], [_rows(r) for r in (one, other)]
    shared = [key for key in claims[0] if key in claims[1]]
    if not shared:
        raise InputError(
            "compare: expected two reports on one data set at one scale, got reports without a common claim; compare runs of "
            "the same matrix."
        )
    words = tuple(Words(*key, claims[0][key], claims[1][key]) for key in shared)
    pairs = [(f"{r.label}, {name}", m, rows[1][key].metrics[name]) for key, r in rows[0].items() if key in rows[1]
             for name, m in r.metrics.items() if name in rows[1][key].metrics]  # fmt: skip
    numbers = [Numbers(n, a, b) for n, x, y in pairs if (a := _of_metric(x)) and (b := _of_metric(y))]
    numbers += [n for pair in words for n in _of_conditions(pair)]
    unmatched = [f"claim {key[0]} on {key[1]}" for key in claims[0].keys() ^ claims[1].keys()]
    unmatched += [f"{key[0]} on {key[1]} ({key[3]})" for key in rows[0].keys() ^ rows[1].keys()]
    return Comparison(words, tuple(sorted(numbers, key=lambda n: n.p)), tuple(sorted(unmatched)))


def _claims(results: ResultsFile) -> dict[tuple[str, str, str], Claim]:
    return {(claim.id, claim.dataset, claim.scale): claim for claim in results.claims}


def _rows(results: ResultsFile) -> dict[tuple[str, ...], Row]:
    return {(row.label, *row.key): row for row in results.rows}


def _of_conditions(words: Words) -> Iterable[Numbers]:
    """Yields the differences behind one claim that were measured in the same way."""
    if words.one.key != words.other.key:
        return
    theirs: Mapping[tuple[str, str, str], Evidence] = {(e.metric, e.left, e.right): e for e in words.other.evidence}
    for mine in words.one.evidence:
        match = theirs.get((mine.metric, mine.left, mine.right))
        if match is not None and (a := _of_evidence(mine)) and (b := _of_evidence(match)):
            yield Numbers(f"{words.claim}: {mine.metric}, {mine.left} - {mine.right}", a, b)


def _of_metric(found: Metric) -> Mean | None:
    return _mean(found.mean, found.half_width_95, float(len(found.values) - 1))


def _of_evidence(found: Evidence) -> Mean | None:
    if found.interval_95 is None:
        return None
    degrees = found.degrees_of_freedom or float(len(found.differences) - 1)
    return _mean(found.mean, (found.interval_95[1] - found.interval_95[0]) / 2, degrees)


def _mean(value: float | None, half_width: float | None, degrees: float) -> Mean | None:
    """Returns a number with its standard error; None without an interval."""
    if value is None or half_width is None or degrees < 1:
        return None
    return Mean(value, abs(half_width) / student_quantile(CONFIDENCE, degrees), degrees)
