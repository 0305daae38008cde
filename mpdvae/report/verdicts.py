"""Derives verdicts from the differences between models, by one stated rule.

For each condition, take the interval of the difference of its metric between its two models (`contrasts`: noise of seeds and,
where known, of test images and label subsets), and compare it with the region in which the condition is true:

    the whole 95% interval lies inside       holds             (confirmed)
    the whole widened interval lies outside  does not hold     (refuted)
    otherwise, or with one seed              cannot tell       (open)

A claim is a conjunction of m conditions. It holds if all conditions hold: an intersection-union test (Berger 1982,
https://doi.org/10.1080/00401706.1982.10487790), in which no level needs a correction, because a false claim has a false
condition, which would have to be confirmed. It does not hold if any condition does not: a true claim is refuted if any of
its m true conditions is, so that each is refuted at the level 5% / m only (Bonferroni), which widens the interval. Otherwise
it is not tested if any condition was not tested, and otherwise the verdict is `cannot tell`. So a verdict on a claim is
wrong with a probability of at most 5%, whether the claim is true or false. If claims are judged repeatedly while seeds are
added, 5% is the sum over all looks (`looks`). Claims are not corrected for their number.

If a run of the two models has no finite value, the interval is misleading and the verdict is `cannot tell`.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mpdvae.errors import listed
from mpdvae.measures.crossed_effects import Difference
from mpdvae.report.claims import CLAIMS, Claim, Condition
from mpdvae.report.collect import Study, Variant
from mpdvae.report.contrasts import UPPER, Contrast, contrast, metrics_of
from mpdvae.report.looks import ALPHA, FIXED, Look
from mpdvae.report.metrics import metric, resolve, values
from mpdvae.report.numbers import interval_in_words, number, percent, plural
from mpdvae.report.outcomes import Word, conjunction, decide, repeated_word
from mpdvae.report.stability import Repeats

RULE = (
    "Each condition compares two models by the difference of their means over seeds. It is confirmed if the whole 95% "
    "interval of the difference lies on the claimed side, refuted if the whole interval lies on the other side, and open "
    "otherwise. "
    "Each interval states the noise that it covers. A claim holds if all its conditions are confirmed. It does not hold if "
    "any is refuted; with m conditions, refuting one takes the interval at 95% for all m together (100% - 5% / m), so that a "
    "verdict on a claim is wrong in at most 5% of matrices. Claims are not corrected for their number. The percentage of "
    "repeats is the probability that another matrix of the same size, with other seeds and other images, gives the same "
    "verdict. A verdict applies to this scale, these networks and this data."
)


@dataclass(frozen=True)
class Evidence:
    """One condition, its outcome, and the sentence that explains it."""

    condition: Condition
    metric: str
    """The compared metric, with `largest` resolved."""
    word: Word
    sentence: str
    contrast: Contrast | None
    broken: int = 0
    """Number of runs without a finite value: the interval of the others does not count."""

    @property
    def difference(self) -> Difference | None:
        """The difference; of a bracket, its lower end."""
        return None if self.contrast is None else self.contrast.low

    @property
    def short(self) -> str:
        """The condition in a few words."""
        c, label = self.condition, _label(self.metric)
        other = c.right if isinstance(c.right, str) else f"{c.right:g}"
        relation = {
            "lower": f"below {other}",
            "higher": f"above {other}",
            "below": f"below {other}",
            "not worse": f"at most {c.margin:g} above {other}",
            "equivalent": f"within {c.margin:g} of {other}",
        }[c.relation]
        return f"{label}, {c.left} {relation}"

    def is_negligible(self, look: Look) -> bool:
        """Whether the difference from the bound of the region is known to be smaller than the smallest that matters: an
        undecided condition is then as good as decided, and more seeds are not needed."""
        found = None if self.contrast is None or self.broken else self.contrast.interval(1 - look.alpha)
        return found is not None and -self.condition.smallest < found[0] and found[1] < self.condition.smallest


@dataclass(frozen=True)
class Verdict:
    """One claim with its verdict and the evidence."""

    claim: Claim
    word: Word
    reason: str
    """Why the claim was not tested; empty if it was."""
    evidence: tuple[Evidence, ...]
    look: Look = FIXED
    stability: float | None = None
    """Probability that a repeat of the whole matrix gives the same word; None if it is unknown."""

    def with_word(self, word: Word) -> list[Evidence]:
        """Returns the conditions with this outcome."""
        return [item for item in self.evidence if item.word == word]

    @property
    def repeats(self) -> str:
        """The stability in words; empty if it is unknown."""
        return "" if self.stability is None else f"{percent(self.stability)} of repeats"

    @property
    def conditions(self) -> str:
        """The conditions by outcome, in one sentence; empty if there is only one."""
        if len(self.evidence) < 2:
            return ""
        named: dict[Word, str] = {
            "holds": "Confirmed",
            "does not hold": "Refuted",
            "cannot tell": "Open",
            "not tested": "Not tested",
        }
        found = {name: [item.short for item in self.with_word(word)] for word, name in named.items()}
        return " ".join(f"{name}: {'; '.join(shorts)}." for name, shorts in found.items() if shorts)

    @property
    def is_settled(self) -> bool:
        """Whether more seeds are not needed: the claim is decided, was not tested, or only differences are open that are
        smaller than the smallest that matters."""
        return self.word != "cannot tell" or all(e.is_negligible(self.look) for e in self.with_word("cannot tell"))


def judge_all(study: Study, claims: Sequence[Claim] = CLAIMS, look: Look = FIXED) -> list[Verdict]:
    """Returns a verdict on each claim, from the runs of one study, at the level of a look."""
    return [judge(claim, study, look) for claim in claims]


def judge(claim: Claim, study: Study, look: Look = FIXED) -> Verdict:
    """Returns the verdict on one claim."""
    if not claim.applies_to(study.setting.dataset):
        return Verdict(claim, "not tested", f"not tested here: the claim is about {listed(claim.about)}.", ())
    present = {variant.model for variant in study.variants}
    absent = sorted({model for c in claim.conditions for model in c.models} - present)
    if absent:
        return Verdict(claim, "not tested", f"not tested here: needs {' and '.join(absent)}.", ())
    of = len(claim.conditions)
    evidence = tuple(weigh(condition.on(study.setting.dataset), study, look, of) for condition in claim.conditions)
    word = conjunction([item.word for item in evidence])
    reason = next((e.sentence for e in evidence if e.word == "not tested"), "") if word == "not tested" else ""
    return Verdict(claim, word, reason, evidence, look, stability(evidence, word, look))


def stability(evidence: Sequence[Evidence], word: Word, look: Look = FIXED) -> float | None:
    """Returns the probability that a repeat gives the same word; None if it is unknown."""
    contrasts = [item.contrast for item in evidence if item.contrast is not None and not item.broken]
    differences = [d for found in contrasts for d in found.differences]
    if len(contrasts) < len(evidence) or any(d.terms is None for d in differences):
        return None
    repeats, place, intervals = Repeats(differences), 0, []
    for found in contrasts:
        last = place + len(found.differences) - 1
        levels = [1 - look.alpha, 1 - look.alpha / len(evidence)]
        intervals.append([(repeats.interval(place, level)[0], repeats.interval(last, level)[1]) for level in levels])
        place = last + 1
    regions = [item.condition.region for item in evidence]
    return float(np.mean(repeated_word(intervals, regions) == word))


def weigh(condition: Condition, study: Study, look: Look = FIXED, of: int = 1) -> Evidence:
    """Returns the evidence of a study's runs on one of a claim's `of` conditions, whose models are present."""
    sides: list[Variant] = []
    for model in condition.models:
        variants = study.of_model(model)
        if len(variants) > 1:
            sentence = (
                f"not tested here: {model} was run in {len(variants)} configurations; report each of them separately."
            )
            return Evidence(condition, condition.metric, "not tested", sentence, None)
        sides.append(variants[0])
    name = resolve(condition.metric, sides)
    found = None if name is None else contrast(condition, name, sides)
    if name is None or found is None:
        wanted = " and ".join(metric(m).label for m in metrics_of(name or condition.metric))
        sentence = f"not tested here: needs {wanted} of {' and '.join(condition.models)}."
        return Evidence(condition, condition.metric, "not tested", sentence, None)
    missing = len(
        {(s.model, seed) for s in sides for m in metrics_of(name) for seed in s.seeds if seed not in values(s, m)}
    )
    word = decide(found.interval(1 - look.alpha), found.interval(1 - look.alpha / of), condition.region)
    word = "cannot tell" if missing else word
    made = Evidence(condition, name, word, "", found, missing)
    return replace(made, sentence=_sentence(made, look, of))


def _sentence(item: Evidence, look: Look, of: int) -> str:
    """Explains one condition; `item` has all but its sentence."""
    assert item.contrast is not None
    condition, found, shown = item.condition, item.contrast, metric(item.metric)
    digits, unit = max(shown.digits, 2), f" {shown.unit}" if shown.unit else ""
    ends = [number(d.mean, digits, signed=True) for d in found.differences]
    other = condition.right if isinstance(condition.right, str) else f"the bound {condition.right:g}"
    seeds = plural(max(found.low.seeds), "seed")
    if len(set(found.low.seeds)) > 1:
        seeds = f"{' and '.join(map(str, found.low.seeds))} seeds"
    said = f"{_label(item.metric)}: {condition.left} minus {other} is {' to '.join(ends)}{unit}"
    said += " by the bounds on both" if found.is_bracket else ""
    said += f" on average over {seeds} ({interval_in_words(found.interval(1 - look.alpha), digits, 1 - look.alpha)}"
    said += f", which covers {listed(found.covers)})" if found.covers else ")"
    caveat = ""
    if item.broken:
        caveat = f" No finite value for {plural(item.broken, 'seed')}, left out of the comparison."
    elif item.word == "cannot tell" and item.is_negligible(look):
        caveat = f" The difference is smaller than {condition.smallest:.3g}{unit}, the smallest that matters."
    elif item.word == "does not hold" and of > 1:
        caveat = f" Refuted at the level of {of} conditions: {_refuting(found, look, of, digits)}."
    return f"{said}; claim: {_claimed(condition, unit)}; {item.word}.{caveat}"


def _label(name: str) -> str:
    """Returns the label of a metric; of a bracket, without the name of the bound."""
    label = metric(name).label
    return label.removesuffix(", lower bound") if name in UPPER else label


def _refuting(found: Contrast, look: Look, of: int, digits: int) -> str:
    level = 1 - look.alpha / of
    return interval_in_words(found.interval(level), digits, level)


def _claimed(condition: Condition, unit: str) -> str:
    if condition.relation == "not worse":
        return f"at most {condition.margin:.3g}{unit}"
    if condition.relation == "equivalent":
        return f"at most {condition.margin:.3g}{unit} in either direction"
    return "above zero" if condition.relation == "higher" else "below zero"


def rule(look: Look = FIXED) -> str:
    """Returns the rule in words, with the level of a repeated look."""
    if look.number == 0:
        return RULE
    counts = ", ".join(map(str, look.seeds))
    return (
        f"{RULE} The claims were judged {plural(look.number, 'time')} while seeds were added ({counts} seeds): this look has "
        f"{look.alpha:.2%} of the {ALPHA:.0%}, which all looks together do not exceed."
    )


def console_verdicts(verdicts: Sequence[Verdict], width: int = 124) -> str:
    """Returns a few lines of text for each claim."""
    lines = []
    for verdict in verdicts:
        stable = f" ({verdict.repeats})" if verdict.repeats else ""
        text = f"{verdict.word.ljust(14)} {verdict.claim.id}{stable}  {verdict.claim.statement}"
        lines.append(textwrap.fill(text, width, subsequent_indent=" " * 19))
        if verdict.conditions:
            lines.append(textwrap.fill(verdict.conditions, width, initial_indent=" " * 19, subsequent_indent=" " * 19))
    return "\n".join(lines)
