"""The first screen of a report on several data sets: each claim across them.

A claim is judged on each data set by itself, because numbers of different data sets are not comparable. Nothing is tested
anew here: the sentences say on which data sets a claim holds, and which of those that it is about were not run. So there is
no verdict across data sets with a level of its own, and verdicts are not corrected for their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mpdvae.errors import listed
from mpdvae.report.claims import Claim, Condition, Relation
from mpdvae.report.collect import Study
from mpdvae.report.numbers import percent, plural
from mpdvae.report.opening import (
    UNTESTED,
    WORDS,
    compared,
    half_seen,
    is_refuted_doubt,
    joined,
    shares_unreliable,
    speaks_for_the_paper,
    three_lines,
    unreliable,
    was_not_run,
)
from mpdvae.report.outcomes import Word
from mpdvae.report.titles import titles
from mpdvae.report.verdicts import Verdict, rule

QUESTIONS: tuple[tuple[Relation, str, str], ...] = (
    ("higher", "mutual_information_nats", "The code of mae carries more about an image than that of vlae"),
    ("not worse", "nll_nats", "Its density is comparable or better"),
)
"""Relation and metric of conditions on `mae` and `vlae`, with what they ask: what the code gains, and at what cost."""
OUTCOMES: dict[Word, str] = {"holds": "confirmed", "does not hold": "refuted", "cannot tell": "open"}
CAUTION = "rests on unreliable likelihoods"
NOT_ABOUT = "not its data set"
"""Stands where a claim is about other data sets."""
Places = tuple[tuple[Word, tuple[str, ...]], ...]
"""The titles of the data sets on which a verdict has each word."""
NUMERALS = {3: "three", 4: "four", 5: "five", 6: "six"}


@dataclass(frozen=True)
class Judged:
    """One study with its title and the verdicts on it."""

    title: str
    study: Study
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Cell:
    """The verdict on one claim on one data set."""

    verdict: Verdict
    caution: str
    """Whether it rests on unreliable likelihoods, in words; empty if it does not."""


@dataclass(frozen=True)
class Line:
    """One claim across the data sets."""

    claim: Claim
    note: str
    """On data sets that the claim is about and that were not run; may be empty."""
    cells: tuple[Cell | None, ...]
    """By study; None where the claim is about other data sets."""

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts on the data sets that the claim is about."""
        return [cell.verdict for cell in self.cells if cell is not None]


@dataclass(frozen=True)
class Overview:
    """The answer in three lines, and a table of claims by data sets."""

    asked: str
    found: str
    trust: str
    titles: tuple[str, ...]
    claims: tuple[Line, ...]
    rules: tuple[str, ...]
    """How a verdict is reached; several texts, each with its data sets, if these were judged a different number of times."""

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """The answer in three lines, each with its heading."""
        return three_lines(self.asked, self.found, self.trust)


def overview(studies: Sequence[Study], verdicts: Sequence[Sequence[Verdict]]) -> Overview | None:
    """Returns the judgement across the studies of a report; None if there are fewer than two."""
    if len(studies) < 2:
        return None
    named = titles([study.setting for study in studies])
    judged = [Judged(title, study, tuple(v)) for title, study, v in zip(named, studies, verdicts, strict=True)]
    claims = tuple(_line(column, studies) for column in zip(*verdicts, strict=True))
    return Overview(
        asked=joined(*_asked(judged)),
        found=joined(*_answers(judged), *_words(claims, named), *_doubts(claims)),
        trust=joined(*_likelihoods(judged), *_seeds(judged), *_stability(judged)),
        titles=tuple(named),
        claims=claims,
        rules=_rules(judged),
    )


def _line(column: Sequence[Verdict], studies: Sequence[Study]) -> Line:
    claim = column[0].claim
    cells = []
    for verdict, study in zip(column, studies, strict=True):
        caution = CAUTION if unreliable(verdict, study) else ""
        cells.append(Cell(verdict, caution) if claim.applies_to(study.setting.dataset) else None)
    return Line(claim, _note(column, [study.setting.dataset for study in studies]), tuple(cells))


def _note(column: Sequence[Verdict], datasets: Sequence[str]) -> str:
    claim = column[0].claim
    if claim.about and len(claim.unseen(datasets)) == len(claim.about):
        return f"{claim.id} is about {listed(claim.about)}, which {was_not_run(claim.about)}."
    return next(filter(None, (half_seen(verdict, datasets) for verdict in column)), "")


def _rules(judged: Sequence[Judged]) -> tuple[str, ...]:
    by_text: dict[str, list[str]] = {}
    for one in judged:
        by_text.setdefault(rule(one.verdicts[0].look), []).append(one.title)
    if len(by_text) == 1:
        return tuple(by_text)
    return tuple(f"On {listed(here)}: {text}" for text, here in by_text.items())


def _asked(judged: Sequence[Judged]) -> list[str]:
    by_scale: dict[str, list[str]] = {}
    for one in judged:
        by_scale.setdefault(one.study.setting.scale, []).append(one.title)
    where = listed([f"{listed(here)} at scale {scale}" for scale, here in by_scale.items()])
    models = list(dict.fromkeys(variant.label for one in judged for variant in one.study.variants))
    paired = [one.title for one in judged if compared(one.study)]
    if paired:
        others = [label for label in models if label not in ("mae", "vlae")]
        beside = f", beside {listed(others)}" if others else ""
        told = [f"On {where}: mae against vlae, the same model without the two terms{beside}."]
    else:
        told = [f"{plural(len(models), 'model')} on {where}: {listed(models)}."]
    partial = any(len(one.study.variants) < len(models) for one in judged)
    return [*told, "Not every model was run on every data set."] if partial else told


def _answers(judged: Sequence[Judged]) -> list[str]:
    """Returns the conditions on which the question hangs, by outcome."""
    told = []
    for relation, metric, asked in QUESTIONS:
        wanted = Condition(relation, metric, "mae", "vlae")
        by_word: dict[Word, list[str]] = {}
        for one in judged:
            for item in (item for verdict in one.verdicts for item in verdict.evidence):
                if item.condition == wanted.on(one.study.setting.dataset):
                    by_word.setdefault(item.word, []).append(one.title)
        parts = [f"{said} on {_on(by_word[word], len(judged))}" for word, said in OUTCOMES.items() if word in by_word]
        told += [f"{asked}: {', '.join(parts)}."] if parts else []
    return told


def _words(claims: Sequence[Line], named: Sequence[str]) -> list[str]:
    """Returns a sentence for all claims with the same verdicts on the same data sets, and what was not tested."""
    alike: dict[Places, list[str]] = {}
    for line in claims:
        if places := _places(line, named):
            alike.setdefault(places, []).append(line.claim.id)
    if not alike:
        return [UNTESTED]
    untested = [line.claim.id for line in claims if line.verdicts and not _places(line, named)]
    told = [_sentence(ids, dict(places), len(named)) for places, ids in alike.items()]
    told += [f"{listed(untested)} could not be tested."] if untested else []
    return [*told, *(line.note for line in claims)]


def _places(line: Line, named: Sequence[str]) -> Places:
    """Returns the data sets with each word, without those on which the claim was not tested."""
    by_word: dict[Word, list[str]] = {}
    for title, cell in zip(named, line.cells, strict=True):
        if cell is not None:
            by_word.setdefault(cell.verdict.word, []).append(title)
    return tuple((word, tuple(by_word[word])) for word, _, _ in WORDS if word in by_word)


def _sentence(ids: Sequence[str], places: dict[Word, tuple[str, ...]], count: int) -> str:
    parts = []
    for word, one, many in WORDS:
        if word in places:
            where = _on(places[word], count, denied=word == "does not hold")
            parts.append(f"{one if len(ids) == 1 else many} on {where}")
    return f"{listed(ids)} {', and '.join(parts) if len(parts) < 3 else listed(parts)}."


def _on(where: Sequence[str], count: int, denied: bool = False) -> str:
    """Names data sets after "on"; all of them by their number. What is denied of all holds on none."""
    if len(where) < count:
        return listed(where, last="or" if denied else "and")
    if count == 2:
        return "either data set" if denied else "both data sets"
    return f"{'any of the' if denied else 'all'} {NUMERALS.get(count, count)} data sets"


def _doubts(claims: Sequence[Line]) -> list[str]:
    refuted = [line.claim.id for line in claims if any(map(is_refuted_doubt, line.verdicts))]
    return speaks_for_the_paper(refuted)


def _likelihoods(judged: Sequence[Judged]) -> list[str]:
    heavy = [one.title for one in judged if shares_unreliable(one.study.variants)]
    if not heavy:
        return []
    return [f"Some likelihoods on {listed(heavy)} are not reliable; the shares are below."]


def _seeds(judged: Sequence[Judged]) -> list[str]:
    counts = sorted({len(variant.seeds) for one in judged for variant in one.study.variants})
    counted = plural(counts[0], "seed") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    if counts == [1]:
        return ["With one seed there are no intervals, and no claim is decided."]
    single = [one.title for one in judged if max(len(variant.seeds) for variant in one.study.variants) == 1]
    told = [f"There are {counted} per model; what holds here holds for these networks, this data and this training."]
    return [*told, f"With one seed, as on {listed(single)}, no claim is decided."] if single else told


def _stability(judged: Sequence[Judged]) -> list[str]:
    known = [(v.stability, v.claim.id, one.title) for one in judged for v in one.verdicts if v.stability is not None]
    if not known:
        return []
    least, which, where = min(known)
    return [
        f"Another matrix of this size would give each verdict again in at least {percent(least)} of cases (the least "
        f"certain: {which} on {where}).",
        "Each verdict is judged by itself: of twenty that are borderline, expect one to be wrong.",
    ]
