"""Intervals and paired differences of the report, against scipy."""

import numpy as np
import pytest
from scipy import stats

from mpdvae.measures.intervals import Estimate, estimate, paired_difference
from mpdvae.report.numbers import duration, number, with_interval


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_interval_is_students(n: int) -> None:
    values = np.random.default_rng(n).normal(87, 2, n)
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert estimate(values.tolist()).interval == pytest.approx((low, high), rel=1e-12)


def test_one_seed_has_no_interval() -> None:
    found = estimate([3.0])
    assert (found.mean, found.half_width, found.interval) == (3.0, None, None)


def test_equal_values_have_no_width() -> None:
    assert estimate([0.1, 0.1, 0.1]) == Estimate(0.1, 0.0, 3)


def test_paired_difference_agrees_with_the_paired_t_test() -> None:
    generator = np.random.default_rng(0)
    left, right = generator.normal(size=(2, 6))
    found = paired_difference(dict(enumerate(left.tolist())), dict(enumerate(right.tolist())))
    oracle = stats.ttest_rel(left, right).confidence_interval(0.95)
    assert found is not None
    assert found.estimate.interval == pytest.approx((oracle.low, oracle.high), rel=1e-12)


def test_pairs_are_matched_by_seed_not_by_place() -> None:
    found = paired_difference({2: 5.0, 0: 1.0, 7: 0.0}, {0: 0.5, 1: 9.0, 2: 3.0})
    assert found is not None
    assert found.by_seed == {0: 0.5, 2: 2.0}
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [(-0.001, 2, False, "0.00"), (-1.5, 1, False, "−1.5"), (1234.5, 1, True, "+1,234.5"), (None, 1, False, "–")],
)
def test_numbers(value: float | None, digits: int, signed: bool, text: str) -> None:
    assert number(value, digits, signed) == text


def test_intervals_and_durations_as_text() -> None:
    assert with_interval(Estimate(84.213, 0.331, 3), 2) == "84.21 ± 0.33"
    assert with_interval(Estimate(84.213, None, 1), 2) == "84.21"
    assert [duration(s) for s in (12.0, 90.0, 7200.0, None)] == ["12 s", "2 min", "2.0 h", "–"]
