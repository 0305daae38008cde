"""Derives a verdict from seed-wise paired differences, by one stated rule.

For each condition, take the differences of its metric between its two models, seed by seed, and the Student-t 95 % interval
of their mean. Compare the interval with the region in which the condition is true:

    the whole interval lies inside      holds
    the whole interval lies outside     does not hold
    otherwise, or with one seed         cannot tell

A claim is a conjunction: it does not hold if any of its conditions does not hold; otherwise it is not tested if any
condition was not tested; otherwise it holds if all conditions hold; otherwise the verdict is `cannot tell`. If a seed of
the two models has no finite value, or both estimates of mutual information are at their ceiling, the interval is misleading
and the verdict is `cannot tell`.

The intervals are not corrected for the number of claims: of twenty borderline conditions, one is expected to be wrong.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mpdvae.measures.intervals import Difference, Estimate, paired_difference
from mpdvae.report.claims import CLAIMS, Claim, Condition
from mpdvae.report.collect import Study, Variant
from mpdvae.report.metrics import metric, resolve, values
from mpdvae.report.numbers import interval, number, plural

Word = Literal["holds", "does not hold", "cannot tell", "not tested"]

RULE = (
    "Each condition compares two models by their differences seed by seed (a seed fixes the order and the binarisation of "
    "the data for all models). It holds if the whole Student-t 95% interval of the mean difference lies on the claimed "
    "side, does not hold if the whole interval lies on the other side, and is undecided (cannot tell) otherwise. A claim "
    "holds if all its conditions hold, and does not hold if any condition does not. A verdict applies to this scale, these "
    "networks and this data; intervals are not corrected for the number of claims."
)


@dataclass(frozen=True)
class Evidence:
    """One condition, its outcome, and the sentence that explains it."""

    condition: Condition
    metric: str
    """The compared metric, with `largest` resolved."""
    word: Word
    sentence: str
    difference: Difference | None


@dataclass(frozen=True)
class Verdict:
    """One claim with its verdict and the evidence."""

    claim: Claim
    word: Word
    reason: str
    """Why the claim was not tested; empty if it was."""
    evidence: tuple[Evidence, ...]


def judge_all(study: Study, claims: Sequence[Claim] = CLAIMS) -> list[Verdict]:
    """Returns a verdict on each claim, from the runs of one study."""
    return [judge(claim, study) for claim in claims]


def judge(claim: Claim, study: Study) -> Verdict:
    """Returns the verdict on one claim."""
    if claim.datasets and study.setting.dataset.lower() not in claim.datasets:
        return Verdict(claim, "not tested", f"not tested here: needs runs on {claim.datasets[0]}.", ())
    present = {variant.model for variant in study.variants}
    absent = sorted({model for c in claim.conditions for model in c.models} - present)
    if absent:
        return Verdict(claim, "not tested", f"not tested here: needs {' and '.join(absent)}.", ())
    evidence = tuple(weigh(condition, study) for condition in claim.conditions)
    word = conjunction([item.word for item in evidence])
    reason = next((e.sentence for e in evidence if e.word == "not tested"), "") if word == "not tested" else ""
    return Verdict(claim, word, reason, evidence)


def conjunction(words: Sequence[Word]) -> Word:
    """Returns the verdict on a claim from the verdicts on its conditions."""
    for decisive in ("does not hold", "not tested", "cannot tell"):
        if decisive in words:
            return decisive
    return "holds"


def decide(estimate: Estimate, region: tuple[float, float]) -> Word:
    """Applies the rule to one interval and one region. Equality with the region's end in every run counts as outside."""
    if estimate.interval is None:
        return "cannot tell"
    (low, high), (start, end) = estimate.interval, region
    if low >= end or high <= start:
        return "does not hold"
    return "holds" if start < low and high < end else "cannot tell"


def weigh(condition: Condition, study: Study) -> Evidence:
    """Returns the evidence of a study's runs on one condition, whose models are present."""
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
    difference = None if name is None else _difference(condition, name, sides)
    if name is None or difference is None:
        wanted = metric(name or condition.metric).label
        sentence = f"not tested here: needs {wanted} of {' and '.join(condition.models)} for the same seeds."
        return Evidence(condition, condition.metric, "not tested", sentence, None)
    word, caveat = decide(difference.estimate, condition.region), ""
    broken = sorted(set.intersection(*(set(side.seeds) for side in sides)) - difference.by_seed.keys())
    if broken:
        word, caveat = (
            "cannot tell",
            f" No finite value for {plural(len(broken), 'seed')}, left out of the comparison.",
        )
    elif name == "mutual_information_nats" and all(_saturated(side) for side in sides):
        word, caveat = "cannot tell", " Both estimates are at their ceiling, which hides the difference."
    return Evidence(condition, name, word, _sentence(condition, name, difference, word) + caveat, difference)


def _difference(condition: Condition, name: str, sides: Sequence[Variant]) -> Difference | None:
    left = values(sides[0], name)
    if isinstance(condition.right, str):
        return paired_difference(left, values(sides[1], name))
    return paired_difference(left, dict.fromkeys(sides[0].seeds, condition.right))


def _saturated(variant: Variant) -> bool:
    return any(run.diagnostics.mutual_information_saturated for run in variant.runs)


def _sentence(condition: Condition, name: str, difference: Difference, word: Word) -> str:
    shown = metric(name)
    digits, unit = max(shown.digits, 2), f" {shown.unit}" if shown.unit else ""
    mean = number(difference.estimate.mean, digits, signed=True)
    other = condition.right if isinstance(condition.right, str) else f"the bound {condition.right:g}"
    return (
        f"{shown.label}: {condition.left} minus {other} is {mean}{unit} on average over "
        f"{plural(difference.estimate.count, 'seed')} ({interval(difference.estimate, digits)}); "
        f"claim: {_claimed(condition, unit)}; {word}."
    )


def _claimed(condition: Condition, unit: str) -> str:
    if condition.relation == "not worse":
        return f"at most {condition.margin:g}{unit}"
    if condition.relation == "equivalent":
        return f"at most {condition.margin:g}{unit} in either direction"
    return "above zero" if condition.relation == "higher" else "below zero"


def console_verdicts(verdicts: Sequence[Verdict], width: int = 124) -> str:
    """Returns one or two lines of text for each claim."""
    lines = []
    for verdict in verdicts:
        text = f"{verdict.word.ljust(14)} {verdict.claim.id}  {verdict.claim.statement}"
        lines.append(textwrap.fill(text, width, subsequent_indent=" " * 19))
    return "\n".join(lines)
