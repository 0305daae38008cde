"""The first screen of a report: what was asked, what was found, and how far to trust it.

The sentences compare `mae` with `vlae`, the same model without the two terms of MAE; a study that lacks one of them says only
how many claims hold. Every number stands in the tables, too, where it has its noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mpdvae.errors import listed
from mpdvae.report.collect import Study, Variant
from mpdvae.report.metrics import metric, over_seeds, resolve, values
from mpdvae.report.numbers import number, percent, plural, with_interval
from mpdvae.report.outcomes import Word
from mpdvae.report.pictures import Picture, of_variants
from mpdvae.report.verdicts import Verdict

QUESTION = (
    "Do the two terms of MAE, which make the posteriors of different images diverge and diverge evenly, keep the code of a "
    "variational autoencoder informative beside a powerful decoder, and at what cost in density?"
)
SHOWN = ("vae-pixelcnn", "vlae", "mae")
"""Models whose samples stand side by side: with neither remedy, with the flow prior, and with both."""
TOLERATED_SHARE = 0.05
"""Fraction of images with an unreliable likelihood from which a sentence says so."""
WORDS: tuple[tuple[Word, str, str], ...] = (
    ("holds", "holds", "hold"),
    ("does not hold", "does not hold", "do not hold"),
    ("cannot tell", "is open", "are open"),
)


@dataclass(frozen=True)
class Opening:
    """The answer in three lines, as sentences, with one picture."""

    asked: str
    found: str
    trust: str
    samples: tuple[Picture, ...]

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """The three lines, each with its heading."""
        return ("Asked", self.asked), ("Found", self.found), ("How far to trust it", self.trust)


def opening(study: Study, verdicts: Sequence[Verdict]) -> Opening:
    """Returns the first screen of one study."""
    shown = [variant for model in SHOWN for variant in study.of_model(model)[:1]]
    return Opening(
        asked=_asked(study),
        found=" ".join([*_comparison(study), *_tally(verdicts)]),
        trust=" ".join([*_likelihoods(study), *_stability(study, verdicts)]),
        samples=tuple(of_variants(shown, "samples")),
    )


def unreliable(verdict: Verdict, study: Study) -> str:
    """Returns a sentence about the likelihoods on which a verdict rests; empty if they are reliable, or it rests on none."""
    models = {m for item in verdict.evidence if item.metric == "nll_nats" for m in item.condition.models}
    shares = _shares([variant for variant in study.variants if variant.model in models])
    return f"Rests on likelihoods of which {listed(shares)} are unreliable." if shares else ""


def _asked(study: Study) -> str:
    others = [variant.label for variant in study.variants if variant.label not in ("mae", "vlae")]
    if _pair(study) is None:
        labels = [variant.label for variant in study.variants]
        return f"{plural(len(labels), 'model')} on {study.setting.title}: {listed(labels)}."
    beside = f", beside {listed(others)}" if others else ""
    return f"On {study.setting.title}: mae against vlae, the same model without the two terms{beside}."


def _comparison(study: Study) -> list[str]:
    pair = _pair(study)
    if pair is None:
        return []
    sentences = []
    carried = [_bracket(variant) for variant in pair]
    if all(carried):
        sentences.append(f"The code of mae carries {carried[0]} nats about an image, that of vlae {carried[1]}.")
    numbers = [_both("NLL (lower is better)", "nll_nats", pair, " nats")]
    for measure in ("knn10_accuracy/largest", "kmeans_accuracy/10"):
        name = resolve(measure, pair)
        numbers.append("" if name is None else _both(metric(name).label, name, pair))
    told = [text for text in numbers if text]
    return [*sentences, f"mae against vlae – {'; '.join(told)}."] if told else sentences


def _bracket(variant: Variant) -> str:
    ends = [over_seeds(variant, f"mutual_information{end}_nats") for end in ("", "_upper")]
    return " to ".join(number(end.mean, 1) for end in ends if end is not None) if None not in ends else ""


def _both(label: str, name: str, pair: Sequence[Variant], unit: str = "") -> str:
    found = [over_seeds(variant, name) for variant in pair]
    if any(estimate is None for estimate in found):
        return ""
    digits = metric(name).digits
    return f"{label}: {' against '.join(with_interval(estimate, digits) for estimate in found)}{unit}"


def _tally(verdicts: Sequence[Verdict]) -> list[str]:
    tested = [verdict for verdict in verdicts if verdict.word != "not tested"]
    if not tested:
        return ["None of the claims can be tested with these runs."]
    parts = []
    for word, one, many in WORDS:
        named = [verdict.claim.id for verdict in tested if verdict.word == word]
        if named:
            parts.append(f"{listed(named)} {one if len(named) == 1 else many}")
    doubts = [v.claim.id for v in tested if v.claim.whose == "a reviewer's doubt" and v.word == "does not hold"]
    told = [f"Of {plural(len(tested), 'claim')} tested, {'; '.join(parts)}."]
    return [*told, *(f"{doubt} is a reviewer's doubt: refuting it speaks for the paper." for doubt in doubts)]


def _likelihoods(study: Study) -> list[str]:
    setting = study.setting
    told = f"Likelihoods are of {setting.images:,} {setting.split} images with {setting.samples:,} importance samples each."
    shares = _shares(study.variants)
    if not shares:
        return [told]
    return [told, f"The weights of {listed(shares)} of the images are too heavy-tailed for a reliable estimate."]


def _stability(study: Study, verdicts: Sequence[Verdict]) -> list[str]:
    if max(len(variant.seeds) for variant in study.variants) == 1:
        return ["With one seed there are no intervals, and no claim is decided."]
    known = [(verdict.stability, verdict.claim.id) for verdict in verdicts if verdict.stability is not None]
    seeds = sorted({len(variant.seeds) for variant in study.variants})
    counted = plural(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    told = [f"There are {counted} per model; what holds here holds for these networks, this data and this training."]
    if known:
        least, which = min(known)
        told.append(
            f"Another matrix of this size would give each verdict again in at least {percent(least)} of cases (the least "
            f"certain: {which})."
        )
    return told


def _shares(variants: Sequence[Variant]) -> list[str]:
    """Returns the share of images with an unreliable likelihood for each variant in which it is not small."""
    told = []
    for variant in variants:
        shares = list(values(variant, "pareto_share").values())
        mean = sum(shares) / len(shares) if shares else 0.0
        if mean > TOLERATED_SHARE:
            told.append(f"{mean:.0%} ({variant.label})")
    return told


def _pair(study: Study) -> tuple[Variant, Variant] | None:
    found = [study.of_model(model) for model in ("mae", "vlae")]
    return (found[0][0], found[1][0]) if all(len(variants) == 1 for variants in found) else None
