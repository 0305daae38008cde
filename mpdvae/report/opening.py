"""The first screen of a report: what was asked, what was found, and how far to trust it.

The sentences compare `mae` with `vlae`, the same model without the two terms of MAE; a study that lacks one of them says only
how many claims hold. A study of remedies asks which of them helps, and its answer is the advice of the leaderboard. Every
number stands in the tables, too, where it has its noise.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mpdvae.errors import listed
from mpdvae.report.collect import Study, Variant
from mpdvae.report.leaderboard import advice, compares_remedies, places
from mpdvae.report.metrics import metric, over_seeds, resolve, values
from mpdvae.report.numbers import number, percent, plural, with_interval
from mpdvae.report.outcomes import Word
from mpdvae.report.pictures import Picture, of_variants
from mpdvae.report.verdicts import Verdict

QUESTION = (
    "Do the two terms of MAE, which make the posteriors of different images diverge and diverge evenly, keep the code of a "
    "variational autoencoder informative beside a powerful decoder, and at what cost in density?"
)
REMEDIES_QUESTION = (
    "Which remedy keeps the code of a variational autoencoder informative beside a powerful decoder, and at what cost in "
    "density?"
)
SHOWN = ("vae-pixelcnn", "vlae", "mae")
"""Models whose samples stand side by side: with neither remedy, with the flow prior, and with both."""
TOLERATED_SHARE = 0.05
"""Fraction of images with an unreliable likelihood from which a sentence says so."""
UNTESTED = "None of the claims can be tested with these runs."
WORDS: tuple[tuple[Word, str, str], ...] = (
    ("holds", "holds", "hold"),
    ("does not hold", "does not hold", "do not hold"),
    ("cannot tell", "is open", "are open"),
)


@dataclass(frozen=True)
class Opening:
    """What there is to say first about one study, as sentences, with one picture. A part may be empty."""

    asked: str
    comparison: str
    """`mae` against `vlae`, in numbers, or what to try first."""
    tally: str
    """How many claims hold."""
    likelihoods: str
    """How likelihoods were measured, and whether they are reliable."""
    stability: str
    samples: tuple[Picture, ...]

    @property
    def found(self) -> str:
        """The second line of the answer."""
        return joined(self.comparison, self.tally)

    @property
    def trust(self) -> str:
        """The third line of the answer."""
        return joined(self.likelihoods, self.stability)

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """The answer in three lines, each with its heading."""
        return three_lines(self.asked, self.found, self.trust)

    @property
    def glance(self) -> str:
        """What a report on several data sets says about this one, beside its judgement across them."""
        return joined(self.comparison, self.likelihoods)


def opening(study: Study, verdicts: Sequence[Verdict]) -> Opening:
    """Returns the first screen of one study."""
    shown = [variant for model in SHOWN for variant in study.of_model(model)[:1]]
    return Opening(
        asked=_asked(study),
        comparison=joined(*(advice(places(study)) or _comparison(study))),
        tally=joined(*_tally(study, verdicts)),
        likelihoods=joined(*_likelihoods(study)),
        stability=joined(*_stability(study, verdicts)),
        samples=tuple(of_variants(shown, "samples")),
    )


def question(studies: Sequence[Study]) -> str:
    """Returns what a report on these studies asks."""
    return REMEDIES_QUESTION if studies and all(map(compares_remedies, studies)) else QUESTION


def three_lines(asked: str, found: str, trust: str) -> tuple[tuple[str, str], ...]:
    """Returns the three lines of an answer, each with its heading."""
    return ("Asked", asked), ("Found", found), ("How far to trust it", trust)


def joined(*sentences: str) -> str:
    """Returns the sentences that are not empty as one text."""
    return " ".join(filter(None, sentences))


def compared(study: Study) -> tuple[Variant, Variant] | None:
    """Returns `mae` and `vlae`; None if one of them is missing, or there in several configurations."""
    found = [study.of_model(model) for model in ("mae", "vlae")]
    return (found[0][0], found[1][0]) if all(len(variants) == 1 for variants in found) else None


def speaks_for_the_paper(ids: Sequence[str]) -> list[str]:
    """Returns a sentence on each of these doubts, which do not hold."""
    return [f"{doubt} is a reviewer's doubt: refuting it speaks for the paper." for doubt in ids]


def is_refuted_doubt(verdict: Verdict) -> bool:
    """Returns whether the verdict refutes a doubt about the paper."""
    return verdict.claim.whose == "a reviewer's doubt" and verdict.word == "does not hold"


def unreliable(verdict: Verdict, study: Study) -> str:
    """Returns a sentence about the likelihoods on which a verdict rests; empty if they are reliable, or it rests on none."""
    models = {m for item in verdict.evidence if item.metric == "nll_nats" for m in item.condition.models}
    shares = shares_unreliable([variant for variant in study.variants if variant.model in models])
    return f"Rests on likelihoods of which {listed(shares)} are unreliable." if shares else ""


def half_seen(verdict: Verdict, datasets: Iterable[str]) -> str:
    """Returns a sentence on what a tested claim is about beside these data sets; empty if there is nothing else."""
    unseen = verdict.claim.unseen(datasets)
    if verdict.word == "not tested" or not unseen:
        return ""
    return f"{verdict.claim.id} is about {listed(unseen)}, too, which {was_not_run(unseen)}."


def was_not_run(datasets: Sequence[str]) -> str:
    """Returns a predicate of these data sets."""
    return f"{'was' if len(datasets) == 1 else 'were'} not run"


def shares_unreliable(variants: Sequence[Variant]) -> list[str]:
    """Returns the share of images with an unreliable likelihood for each variant in which it is not small."""
    told = []
    for variant in variants:
        shares = list(values(variant, "pareto_share").values())
        mean = sum(shares) / len(shares) if shares else 0.0
        if mean > TOLERATED_SHARE:
            told.append(f"{mean:.0%} ({variant.label})")
    return told


def _asked(study: Study) -> str:
    others = [variant.label for variant in study.variants if variant.label not in ("mae", "vlae")]
    if compares_remedies(study):
        return (
            f"{plural(len(study.variants), 'model')} on {study.setting.title}, each with another remedy for collapse."
        )
    if compared(study) is None:
        labels = [variant.label for variant in study.variants]
        return f"{plural(len(labels), 'model')} on {study.setting.title}: {listed(labels)}."
    beside = f", beside {listed(others)}" if others else ""
    return f"On {study.setting.title}: mae against vlae, the same model without the two terms{beside}."


def _comparison(study: Study) -> list[str]:
    pair = compared(study)
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
    told = dict.fromkeys(number(end.mean, 1) for end in ends if end is not None)
    return " to ".join(told) if None not in ends else ""


def _both(label: str, name: str, pair: Sequence[Variant], unit: str = "") -> str:
    found = [over_seeds(variant, name) for variant in pair]
    if any(estimate is None for estimate in found):
        return ""
    digits = metric(name).digits
    return f"{label}: {' against '.join(with_interval(estimate, digits) for estimate in found)}{unit}"


def _tally(study: Study, verdicts: Sequence[Verdict]) -> list[str]:
    tested = [verdict for verdict in verdicts if verdict.word != "not tested"]
    if not tested:
        return [UNTESTED]
    parts = []
    for word, one, many in WORDS:
        named = [verdict.claim.id for verdict in tested if verdict.word == word]
        if named:
            parts.append(f"{listed(named)} {one if len(named) == 1 else many}")
    told = [f"Of {plural(len(tested), 'claim')} tested, {'; '.join(parts)}."]
    told += [half_seen(verdict, [study.setting.dataset]) for verdict in tested]
    return [*told, *speaks_for_the_paper([v.claim.id for v in tested if is_refuted_doubt(v)])]


def _likelihoods(study: Study) -> list[str]:
    setting = study.setting
    told = f"Likelihoods are of {setting.images:,} {setting.split} images with {setting.samples:,} importance samples each."
    shares = shares_unreliable(study.variants)
    if not shares:
        return [told]
    return [
        told,
        f"The weights of {listed(shares)} of the images are too heavy-tailed for a reliable estimate{_on_average(study)}.",
    ]


def _on_average(study: Study) -> str:
    return ", on average over seeds" if max(len(variant.seeds) for variant in study.variants) > 1 else ""


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
