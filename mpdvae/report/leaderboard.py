"""The leaderboard of remedies: every remedy of a study, on the same data, budget and seeds, by what it costs and brings.

Two things count: the likelihood (NLL, lower is better), and the use of the code (accuracy of 10-NN on codes, at the largest
number of labels, higher is better; the lower bound on the mutual information where there are no labels). A rate is no use: it
can be paid for nothing, and information can be noise.

A remedy is on the *front* if no other has better means in both. That another is better in both is *established* if the 95%
intervals of both differences say so; these cover the noise of seeds and of test images (`contrasts`). With one seed there are
no intervals, and means decide. So there are three kinds of rows:

    front      ●    nothing has better means in both
    perhaps    ○    something has, but that is not established
    behind          something is better in both, as far as this study can tell
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mpdvae.errors import listed
from mpdvae.experiments.recipes import COLLAPSING
from mpdvae.experiments.remedies import REMEDIES
from mpdvae.measures.intervals import Estimate
from mpdvae.report.claims import Condition, Relation
from mpdvae.report.collect import Study, Variant
from mpdvae.report.contrasts import contrast
from mpdvae.report.metrics import over_seeds, resolve
from mpdvae.report.numbers import MISSING, duration, number, with_interval

TITLE = "Leaderboard of remedies"
FEWEST_REMEDIES = 3
"""Remedies that a study must have for a leaderboard."""
NLL = "nll_nats"
ACCURACY, INFORMATION = "knn10_accuracy/largest", "mutual_information_nats"
DENSITY = {"NLL": NLL, "rate": "kl_nats", "distortion": "reconstruction_nats"}
"""Head of a column, and name of the number."""
HEADING = ("", "front", *DENSITY, "10-NN", "information", "parameters", "training")
DISTORTION = HEADING.index("distortion")
CAPTION = (
    "One data set, budget and set of seeds; a remedy changes nothing but what it is, which may add to the network (see "
    "parameters). Means, with half of the 95% interval over seeds; NLL, rate, distortion and information in nats. "
    "Information: lower to upper bound on the mutual information of image and code. Front: ● no other has both a better "
    "likelihood and better codes on average; ○ one has, but seeds and test images leave that open; no mark: one is better in "
    "both."
)
WHAT = {name: remedy.title for name, remedy in REMEDIES.items()} | {
    COLLAPSING: "no remedy",
    "vlae": "an autoregressive-flow prior",
    "mae": "a flow prior, and posteriors that diverge evenly",
}
"""What a model does against collapse."""
MARKS = ("●", "○", "")
"""Of the front, of what may belong to it, and of the others."""
NAMED = 4
"""Names in a sentence."""


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
    measure: str
    """The metric of the use of the code."""
    mark: str = ""
    """As in `CAPTION`."""

    @property
    def use(self) -> Estimate:
        """What the code is good for: its accuracy or, without labels, its information."""
        return self.information if self.accuracy is None else self.accuracy

    @property
    def name(self) -> str:
        """The label, with what it does."""
        what = WHAT.get(self.variant.model)
        return f"{self.variant.label} ({what})" if what else self.variant.label

    def leads(self, other: "Place") -> bool:
        """Returns whether the means are better than those of another in both."""
        return self.likelihood.mean < other.likelihood.mean and self.use.mean > other.use.mean

    def beats(self, other: "Place") -> bool:
        """Returns whether it is established that this is better than another in both."""
        return self.leads(other) and likelier(self, other) and more_useful(self, other)

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells as formatted text, in the order of `HEADING`."""
        density = (with_interval(over_seeds(self.variant, name), 2) for name in DENSITY.values())
        upper = over_seeds(self.variant, "mutual_information_upper_nats")
        bracket = f"{number(self.information.mean, 2)} to {MISSING if upper is None else number(upper.mean, 2)}"
        manifests = [run.manifest for run in self.variant.runs]
        count = sum(manifests[0].parameters.values())
        seconds = sum(manifest.training_seconds or 0.0 for manifest in manifests) / len(manifests)
        return (
            self.variant.label,
            self.mark,
            *density,
            with_interval(self.accuracy, 3),
            bracket,
            f"{count:,}" if count else MISSING,
            duration(seconds),
        )


def compares_remedies(study: Study) -> bool:
    """Returns whether a study has enough remedies for a leaderboard."""
    return sum(variant.model in REMEDIES for variant in study.variants) >= FEWEST_REMEDIES


def places(study: Study) -> tuple[Place, ...]:
    """Returns the rows, the front first, then what may belong to it, each by NLL; empty if the study has no
    `FEWEST_REMEDIES` remedies."""
    if not compares_remedies(study):
        return ()
    accuracy = resolve(ACCURACY, study.variants)
    found = [
        Place(
            variant,
            likelihood,
            over_seeds(variant, accuracy) if accuracy else None,
            information,
            accuracy or INFORMATION,
        )
        for variant in study.variants
        if (likelihood := over_seeds(variant, NLL)) is not None
        and (information := over_seeds(variant, INFORMATION)) is not None
    ]
    marked = [replace(place, mark=_mark(place, found)) for place in found]
    return tuple(sorted(marked, key=lambda place: (MARKS.index(place.mark), place.likelihood.mean)))


def console_leaderboard(study: Study, width: int = 124) -> str:
    """Returns the leaderboard as text for a terminal, with the advice above and without the distortion."""
    found = places(study)
    rows = [[text for i, text in enumerate(row) if i != DISTORTION] for row in (HEADING, *(p.cells for p in found))]
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            text.ljust(size) if i < 2 else text.rjust(size)
            for i, (text, size) in enumerate(zip(row, sizes, strict=True))
        )
        for row in rows
    ]
    told = "\n".join(textwrap.fill(sentence, width) for sentence in (study.setting.title + ".", *advice(found)))
    return "\n\n".join([told, "\n".join([lines[0], "─" * len(lines[1]), *lines[1:]]), textwrap.fill(CAPTION, width)])


def _mark(place: Place, found: Sequence[Place]) -> str:
    leaders = [other for other in found if other.leads(place)]
    if not leaders:
        return MARKS[0]
    return MARKS[2] if any(other.beats(place) for other in leaders) else MARKS[1]


def likelier(one: Place, other: Place) -> bool:
    """Returns whether it is established that one has a lower NLL than another."""
    return _established("lower", NLL, one, other)


def more_useful(one: Place, other: Place) -> bool:
    """Returns whether it is established that the code of one is of more use than that of another."""
    return _established("higher", INFORMATION if one.accuracy is None else ACCURACY, one, other)


def _established(relation: Relation, metric: str, one: Place, other: Place) -> bool:
    left, right = one.variant, other.variant
    name = one.measure if metric == ACCURACY else metric
    sign = -1 if relation == "lower" else 1
    found = contrast(Condition(relation, metric, left.model, right.model), name, (left, right))
    if found is None:
        return False
    interval = found.interval() or (found.mean, found.mean)
    return min(sign * end for end in interval) > 0


def advice(found: Sequence[Place]) -> tuple[str, ...]:
    """Returns what to try first for each aim, and why, in sentences; empty without rows."""
    if not found:
        return ()
    base = next((place for place in found if place.variant.model == COLLAPSING), None)
    best = min(found, key=lambda place: place.likelihood.mean)
    coded = max(found, key=lambda place: place.use.mean)
    sentences = [
        f"For the likelihood, try {best.name} first: {_likelihood(best, base)}."
        + _alike(best, [p for p in found if not likelier(best, p)]),
        f"For the code, try {coded.name} first: {_use(coded, base)}, at {_likelihood(coded)}."
        + _alike(coded, [p for p in found if not more_useful(coded, p)]),
    ]
    if base is not None:
        free = [p for p in found if p is not base and more_useful(p, base) and not likelier(base, p)]
        named = [p.name for p in sorted(free, key=lambda place: -place.use.mean)]
        sentences.append(
            f"Better codes than {base.variant.label} without a measurable loss of likelihood: "
            f"{listed(named, NAMED) if named else 'none'}."
        )
    if any(place.likelihood.half_width is None for place in found):
        sentences.append("With one seed there are no intervals: small differences may be chance; add seeds.")
    return tuple(sentences)


def _likelihood(place: Place, base: Place | None = None) -> str:
    without = "" if base is None or base is place else f" ({number(base.likelihood.mean, 2)} without a remedy)"
    return f"NLL {number(place.likelihood.mean, 2)} nats{without}"


def _use(place: Place, base: Place | None) -> str:
    head, digits, unit = ("information", 2, " nats") if place.accuracy is None else ("10-NN", 3, "")
    without = "" if base is None or base is place else f" ({number(base.use.mean, digits)} without a remedy)"
    return f"{head} {number(place.use.mean, digits)}{unit}{without}"


def _alike(first: Place, alike: Sequence[Place]) -> str:
    """Names those that seeds and test images do not tell from the best."""
    others = [place.variant.label for place in alike if place is not first]
    return f" Not told apart from it: {listed(others, NAMED)}." if others else ""
