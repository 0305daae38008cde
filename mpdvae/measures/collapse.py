r"""The collapse verdict in words, and the step since which it has held.

A code is judged as a whole first, by two measures in nats, and by its units only then:

- the **information** I that it carries about the image: the lower bound on the mutual information
  (`mpdvae.measures.information_bracket`), which N images can show up to log N;
- the **use** D that the decoder makes of it: the loss of log p(x|z) if z is the code of another image
  (`mpdvae.measures.code_use`). For a decoder that is the exact inverse of the encoder, p(x|z) = q(x|z), D = I + L with the
  lautum information L >= 0, so that a decoder that loses D nats uses at most about D nats of the code;
- the **units** (latent dimensions) that are *idle*: they carry less than `COLLAPSE_NATS` nats, by an upper bound
  (`mpdvae.measures.code_diagnostics.information_per_dimension`).

==================  ==================================================================================================
verdict             condition, the first that holds
==================  ==================================================================================================
collapsed           I or D is below `NOTHING_NATS`
weak code           I or D is below `WEAK_NATS` (for I: below half of log N, if that is less, since so few images
                    cannot show more)
partly collapsed    some units are idle, and I is below 0.9 log N: what is missing may be what idle units could carry
no collapse         otherwise: no unit is idle, or the code tells the images apart so well that these images cannot show
                    what is missing
==================  ==================================================================================================

**Thresholds.** With 0.1 nats, the answer to a yes-or-no question about the image, asked without the code at even odds, is
guessed right from the code in at most half + sqrt(0.1 / 2) = 72% of cases (Pinsker's inequality): next to nothing. 2 bits
(1.39 nats) tell four equally frequent kinds of images apart; by Fano's inequality, a classifier of ten equally frequent
classes then errs in at least 19% of cases. A unit with less than 0.01 nats carries less than a tenth of next to nothing. Idle
units alone are no fault: a code with more units than it needs leaves some idle, and the information of maps is spread over
many units.

A verdict *became true* at the first evaluation point from which every point up to the latest one had the same verdict or a
worse one; "no collapse" at the first from which all had it; "partly collapsed" also requires that at least as many units
were idle. The step is known to within the distance between evaluation points.

Posterior collapse: Bowman et al. 2016, https://arxiv.org/abs/1511.06349; He et al., ICLR 2019,
https://arxiv.org/abs/1901.05534; harmless idle units: Dai, Wang & Wipf, ICML 2020, https://arxiv.org/abs/1912.10702.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Word = Literal["no collapse", "partly collapsed", "weak code", "collapsed"]
WORDS: tuple[Word, ...] = ("no collapse", "partly collapsed", "weak code", "collapsed")
"""Verdicts, from the best to the worst."""
Reason = Literal["information", "decoder", "units"]

COLLAPSE_NATS = 0.01
"""Information in nats below which a unit counts as idle."""
NOTHING_NATS = 0.1
"""Information, or use by the decoder, below which a code has collapsed."""
WEAK_NATS = 2 * math.log(2)
"""Information, or use by the decoder, below which a code is weak: 2 bits."""
LEAST_NATS: Mapping[Word, float] = {"collapsed": NOTHING_NATS, "weak code": WEAK_NATS}
"""What a code carries and a decoder uses at least, if it does not deserve the verdict; the worst first."""
SHOWN_SHARE = 0.9
"""Fraction of log N above which N images cannot show whether the code lacks information."""


@dataclass(frozen=True)
class Judgement:
    """The verdict on a code."""

    word: Word
    reason: Reason | None
    """What it follows from: the information of the whole code, its use by the decoder, or its units; None: no collapse."""
    details: str

    @property
    def sentence(self) -> str:
        """The verdict in words, which begin with `word` and a colon."""
        return f"{self.word}: {self.details}"


def judge(
    idle: int, units: int, information_nats: float, ceiling_nats: float, code_use_nats: float | None = None
) -> Judgement:
    """Returns the verdict on a code; see the module docstring.

    Arguments:
        idle: number of units that carry less than `COLLAPSE_NATS`.
        units: number of units.
        information_nats: lower bound on the mutual information between image and code.
        ceiling_nats: its largest possible value, log N.
        code_use_nats: what the decoder loses if the code is another image's; None: not measured.
    """
    carried, shown = (
        f"the code carries at least {information_nats:z.2f} nats",
        f"{ceiling_nats:z.2f} that so many images show",
    )
    use = math.inf if code_use_nats is None else code_use_nats
    used = "" if code_use_nats is None else f", and the decoder loses {use:z.2f} nats without it"
    silent = f"{idle} of {units} units carry less than {COLLAPSE_NATS:g} nats"
    heard = silent if idle else f"{units} of {units} units carry at least {COLLAPSE_NATS:g} nats"
    half = ceiling_nats / 2
    for word, least in LEAST_NATS.items():
        short = f"less than {_bound(least)}" if least < half else f"less than half of the {shown}"
        if information_nats < min(least, half):
            return Judgement(word, "information", f"{carried}, {short}{used}; {heard}")
        if use < least:
            lost = f"the decoder loses {use:z.2f} nats without the code, less than {_bound(least)}"
            return Judgement(word, "decoder", f"{lost}, although {carried}; {heard}")
    if idle and information_nats < SHOWN_SHARE * ceiling_nats:
        return Judgement("partly collapsed", "units", f"{silent}; {carried} of the {shown}")
    return Judgement("no collapse", None, f"{carried} of the {shown}; {heard}")


def _bound(least: float) -> str:
    return "2 bits (1.39)" if least == WEAK_NATS else f"{least:g}"


def word_of(verdict: str) -> Word | None:
    """Returns the word with which a recorded verdict begins; None for any other text."""
    return next((word for word in WORDS if verdict.partition(":")[0] == word), None)


def since(history: Sequence[Mapping[str, Any]]) -> int | None:
    """Returns the step at which the latest verdict of a run became true; see the module docstring.

    Arguments:
        history: entries with `step`, `verdict` and `idle_units`, in order of steps.

    Returns:
        the step, or None if the latest entry lacks one of them (it was written before they were recorded).
    """
    if not history or _severity(history[-1]) is None:
        return None
    newest, first = history[-1], history[-1]["step"]
    for entry in reversed(history):
        if not _as_bad(entry, newest):
            break
        first = entry["step"]
    return first


def _severity(entry: Mapping[str, Any]) -> int | None:
    word = word_of(entry.get("verdict", ""))
    return None if word is None or entry.get("idle_units") is None else WORDS.index(word)


def _as_bad(entry: Mapping[str, Any], newest: Mapping[str, Any]) -> bool:
    """Whether the newest verdict was true of an earlier entry."""
    severity, least = _severity(entry), _severity(newest)
    if severity is None or least is None:
        return False
    if WORDS[least] == "no collapse":
        return severity == least
    if severity == least and WORDS[least] == "partly collapsed":
        return entry["idle_units"] >= newest["idle_units"]
    return severity >= least


def sentence(verdict: str, step: int | None, first: bool = False) -> str:
    """Returns the verdict with the step at which it became true.

    Arguments:
        verdict: the sentence of a `Judgement`.
        step: as returned by `since`; None: unknown.
        first: whether that step is the first one measured, so that the verdict may have been true before.
    """
    if step is None:
        return f"{verdict} (since which step is not known)"
    return f"since step {step}{' (the first measured)' if first else ''}: {verdict}"
