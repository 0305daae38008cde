"""The probability that a repeat gives the same verdict: calibrated over simulated matrices, and sensible at the extremes."""

import math

import numpy as np
import pytest

from mpdvae.measures.crossed_effects import Difference, Sample, difference
from mpdvae.report.claims import Condition
from mpdvae.report.contrasts import Contrast
from mpdvae.report.looks import FIXED
from mpdvae.report.outcomes import Word, conjunction, decide
from mpdvae.report.stability import Repeats, correlations
from mpdvae.report.verdicts import Evidence, stability

CONDITIONS = [
    Condition("lower", "nll_nats", "a", "b", 0.4),
    Condition("equivalent", "nll_nats", "a", "b", 0.4),
    Condition("higher", "kl_nats", "a", "b", 0.4),
]


def judged(conditions: list[Condition], differences: list[Difference]) -> tuple[Word, list[Evidence]]:
    evidence = []
    for condition, found in zip(conditions, differences, strict=True):
        contrast = Contrast(found, found)
        levels = (1 - FIXED.alpha, 1 - FIXED.alpha / len(conditions))
        word = decide(*(contrast.interval(level) for level in levels), condition.region)
        evidence.append(Evidence(condition, condition.metric, word, "", contrast))
    return conjunction([item.word for item in evidence]), evidence


def matrix(random: np.random.Generator, effects: list[float], runs: int, images: int) -> list[Difference]:
    """Differences of two metrics of the same runs, whose noise is correlated."""
    shared = 0.2 * random.normal(size=(2, runs, 1))
    found = []
    for effect in effects:
        y = shared + 0.2 * random.normal(size=(2, runs, 1)) + random.normal(size=(2, runs, images))
        y[0] += effect + random.normal(size=images)
        samples = [Sample(m, dict(enumerate(t.mean(1).tolist())), t) for m, t in zip("ab", y, strict=True)]
        found.append(difference(samples[0], samples[1], "test images"))
    return found


@pytest.mark.parametrize("conditions", [CONDITIONS[:1], CONDITIONS[1:2], [CONDITIONS[0], CONDITIONS[2]]])
@pytest.mark.parametrize("runs", [3, 5])
def test_the_stated_probability_is_the_frequency_of_agreement(conditions: list[Condition], runs: int) -> None:
    """Over worlds whose true differences have all sizes; a second matrix is drawn from each."""
    random = np.random.default_rng(runs)
    stated, agreed = [], []
    for _ in range(250):
        effects = random.normal(0, 0.8, len(conditions)).tolist()
        word, evidence = judged(conditions, matrix(random, effects, runs, 60))
        repeated, _ = judged(conditions, matrix(random, effects, runs, 60))
        stated.append(stability(evidence, word))
        agreed.append(word == repeated)
    # Standard error of the frequency: 0.03; of one half of the worlds: 0.04.
    assert np.mean(stated) == pytest.approx(np.mean(agreed), abs=0.07)
    sure = np.array(stated) > np.median(stated)
    for half in (sure, ~sure):
        assert np.array(stated)[half].mean() == pytest.approx(np.array(agreed)[half].mean(), abs=0.11)


def known(mean: float, error: float) -> Difference:
    random = np.random.default_rng(0).normal(size=6)
    random = (random - random.mean()) / random.std(ddof=1) * error * math.sqrt(6)
    return difference(Sample("a", dict(enumerate((random + mean).tolist()))), 0.0)


@pytest.mark.parametrize(
    ("mean", "word", "low", "high"),
    [
        (-9.0, "holds", 0.99, 1.0),
        (9.0, "does not hold", 0.99, 1.0),
        (-0.26, "holds", 0.35, 0.65),
        (0.0, "cannot tell", 0.6, 0.95),
    ],
)
def test_far_from_the_border_a_verdict_is_stable(mean: float, word: Word, low: float, high: float) -> None:
    found, evidence = judged(CONDITIONS[:1], [known(mean, 0.1)])
    assert found == word
    assert low <= (stability(evidence, found) or 0.0) <= high


def test_repeats_have_the_variance_of_two_matrices_and_their_correlation() -> None:
    random = np.random.default_rng(1)
    noise = random.normal(size=(400, 1))
    samples = [Sample("a", dict(enumerate((s * noise[:, 0] + random.normal(size=400) / 3).tolist()))) for s in (1, -1)]
    found = [difference(s, 0.0) for s in samples]
    repeats = Repeats(found, 20_000)
    for place, one in enumerate(found):
        assert repeats.means[:, place].var() == pytest.approx(2 * one.variance, rel=0.05)
    expected = np.corrcoef(*[list(s.by_seed.values()) for s in samples])[0, 1]
    assert correlations(found)[0, 1] == pytest.approx(expected)
    assert np.corrcoef(repeats.means.T)[0, 1] == pytest.approx(expected, abs=0.02)


def test_differences_without_noise_are_repeated_exactly() -> None:
    equal = difference(Sample("a", {0: 1.0, 1: 1.0}), Sample("b", {0: 1.5, 1: 1.5}))
    word, evidence = judged(CONDITIONS[:1], [equal])
    assert (word, stability(evidence, word)) == ("holds", 1.0)
