"""The collapse verdict over constructed cases: what the whole code carries, what the decoder loses, which units are idle."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch.distributions import Independent, Normal

from mpdvae.measures import collapse
from mpdvae.measures.code_diagnostics import of_posteriors
from mpdvae.measures.collapse import NOTHING_NATS, WEAK_NATS, WORDS, judge, word_of
from mpdvae.models.priors import standard_normal
from mpdvae.seeding import seeded


@dataclass(frozen=True)
class Case:
    word: str
    reason: str | None
    idle: int
    units: int
    information: float
    images: int
    code_use: float | None = None


CASES = {
    "mae without diversity: little in all units": Case("weak code", "information", 0, 32, 0.87, 500, 2.24),
    "the same on the test images": Case("weak code", "information", 0, 32, 0.90, 10_000, 2.24),
    "colour maps, most units idle, saturated": Case("no collapse", None, 701, 1024, 3.8, 60, 60.0),
    "colour maps, every unit below the threshold": Case("no collapse", None, 1024, 1024, 4.0, 60, 60.0),
    "few units carry a modest code": Case("partly collapsed", "units", 28, 32, 3.2, 500, 14.5),
    "a good code with idle units, not saturated": Case("partly collapsed", "units", 1, 32, 5.0, 10_000, 40.0),
    "a good code": Case("no collapse", None, 0, 32, 7.8, 10_000, 48.0),
    "nothing": Case("collapsed", "information", 32, 32, 0.0, 500, 0.0),
    "noise below zero": Case("collapsed", "information", 32, 32, -0.01, 500, -0.1),
    "written, never read": Case("collapsed", "decoder", 0, 32, 5.0, 500, 0.02),
    "written, hardly read": Case("weak code", "decoder", 0, 32, 5.0, 500, 0.9),
    "use not measured": Case("no collapse", None, 0, 32, 5.0, 500, None),
    "so few images cannot show two bits": Case("no collapse", None, 0, 8, 1.05, 3, 30.0),
    "and these show less than half of what they could": Case("weak code", "information", 0, 8, 0.5, 3, 30.0),
    "two images that the code does not tell apart": Case("collapsed", "information", 0, 8, 0.05, 2, 30.0),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_verdicts_and_what_they_follow_from(case):
    found = judge(case.idle, case.units, case.information, math.log(case.images), case.code_use)
    assert (found.word, found.reason) == (case.word, case.reason)
    assert word_of(found.sentence) == case.word
    assert f"carries at least {case.information:.2f} nats" in found.sentence
    assert f"{case.idle or case.units} of {case.units} units carry" in found.sentence


def test_sentences():
    assert judge(0, 32, 0.87, math.log(500), 2.24).sentence == (
        "weak code: the code carries at least 0.87 nats, less than 2 bits (1.39), and the decoder loses 2.24 nats without "
        "it; 32 of 32 units carry at least 0.01 nats"
    )
    assert judge(701, 1024, 3.8, math.log(60), 60.0).sentence == (
        "no collapse: the code carries at least 3.80 nats of the 4.09 that so many images show; 701 of 1024 units carry less "
        "than 0.01 nats"
    )
    assert judge(0, 32, 5.0, math.log(500), 0.02).sentence == (
        "collapsed: the decoder loses 0.02 nats without the code, less than 0.1, although the code carries at least 5.00 "
        "nats; 32 of 32 units carry at least 0.01 nats"
    )


@pytest.mark.parametrize("idle", [0, 3, 8])
def test_more_information_or_use_never_makes_a_verdict_worse(idle):
    nats = [-0.1, 0.0, 0.05, 0.2, 1.0, 1.38, 1.39, 3.0, 5.5, 6.2]
    severity = [[WORDS.index(judge(idle, 8, i, math.log(500), d).word) for d in nats] for i in nats]
    table = torch.tensor(severity)
    assert (table.diff(dim=0) <= 0).all()
    assert (table.diff(dim=1) <= 0).all()
    assert table[0, 0] == len(WORDS) - 1


def test_the_thresholds_mean_what_the_module_says():
    """Accuracy of a yes-or-no guess by Pinsker's inequality, and errors of a ten-class classifier by Fano's."""
    assert 0.5 + math.sqrt(NOTHING_NATS / 2) == pytest.approx(0.72, abs=0.005)
    assert pytest.approx(math.log(4)) == WEAK_NATS

    def left(error: float) -> float:
        return -error * math.log(error) - (1 - error) * math.log(1 - error) + error * math.log(9)

    assert left(0.19) < math.log(10) - WEAK_NATS < left(0.20)


@pytest.mark.parametrize(
    ("signal", "word"), [(0.0, "collapsed"), (0.3, "weak code"), (5.0, "no collapse"), (100.0, "no collapse")]
)
def test_codes_of_known_information(signal, word):
    """Four units of z = m + noise with 1/2 log(1 + signal^2) nats each."""
    with seeded("codes of known information"):
        mean = signal * torch.randn(400, 4, dtype=torch.float64)
    found = of_posteriors(Independent(Normal(mean, torch.ones_like(mean)), 1), standard_normal((4,), torch.zeros(())))
    assert found.judged().word == word


def test_recorded_verdicts_of_any_version_have_a_word():
    assert word_of("collapsed: 28 of 32 units carry less than 0.01 nats") == "collapsed"
    assert word_of("no collapse") == "no collapse"
    assert word_of("not known") is word_of("") is None
    old = {"step": 1, "idle_units": 0, "verdict": "no collapse: 8 of 8 units carry at least 0.01 nats"}
    new = {"step": 2, "idle_units": 0, "verdict": judge(0, 8, 4.0, 6.0).sentence}
    assert collapse.since([old, new]) == 1
