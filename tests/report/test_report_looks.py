"""Repeated looks while seeds are added: their levels, their record, and how often a verdict is wrong."""

import math
from pathlib import Path

import numpy as np
import pytest
from report_folders import edit, make_run

from mpdvae.errors import InputError
from mpdvae.measures.crossed_effects import student_quantile
from mpdvae.report import collect
from mpdvae.report.looks import ALPHA, FILE, FIXED, Look, looks_of, read_looks, recorded, schedule, to_json


def test_all_looks_together_spend_no_more_than_one() -> None:
    spent = [Look(number).alpha for number in range(1, 2000)]
    assert sum(spent) < ALPHA
    assert sum(spent) == pytest.approx(ALPHA, rel=1e-3)
    assert spent == sorted(spent, reverse=True)
    assert FIXED.alpha == ALPHA


@pytest.mark.parametrize(
    ("first", "at_most", "counts"),
    [(5, 20, [5, 8, 12, 18]), (5, 5, [5]), (5, 7, [5]), (2, 8, [2, 3, 5, 8]), (1, 4, [1, 2, 3])],
)
def test_the_schedule_is_fixed_by_its_first_number(first: int, at_most: int, counts: list[int]) -> None:
    assert schedule(first, at_most) == counts
    assert schedule(first, at_most + 50)[: len(counts)] == counts


def test_looks_are_recorded_and_found_again(tmp_path: Path) -> None:
    looks = {"mnist": Look(2, (5, 8)), "omniglot": Look(1, (5,))}
    (tmp_path / "looks.json").write_text(to_json(looks))
    assert read_looks(tmp_path) == looks
    assert looks_of([tmp_path / "runs" / name for name in ("a", "b")]) == looks
    assert looks_of([tmp_path / "runs" / "a", tmp_path / "other" / "runs" / "b"]) == {}
    assert read_looks(tmp_path / "runs") == {}
    (tmp_path / "looks.json").write_text('{"seeds": {"mnist": "many"}}')
    with pytest.raises(InputError, match=r"looks\.json is broken \(seeds\.mnist: .*\): restore it"):
        read_looks(tmp_path)


def wrong_verdicts(first: int, at_most: int, relation: str, repeats: int) -> float:
    """Share of matrices that decide a condition, at any look, whose true difference is at the border of its region."""
    random = np.random.default_rng([first, at_most])
    counts = schedule(first, at_most)
    runs = random.normal(size=(2, repeats, counts[-1]))
    images = random.normal(size=repeats)  # error of the image means, relative to that of three seeds
    wrong = np.zeros(repeats, bool)
    for number, n in enumerate(counts, start=1):
        y = runs[..., :n]
        of_seeds = y.var(-1, ddof=1) / n
        variance = of_seeds.sum(0) + 0.2
        degrees = variance**2 / ((of_seeds**2).sum(0) / (n - 1) + 0.2**2 / 199)
        half = np.array([student_quantile(1 - Look(number).alpha, float(d)) for d in degrees]) * np.sqrt(variance)
        mean = y[0].mean(-1) - y[1].mean(-1) + math.sqrt(0.2) * images
        # "lower": both words are counted, though only "holds" is wrong at 0; "not worse" at its margin is the same.
        wrong |= (mean + half < 0) | ((mean - half >= 0) if relation == "any" else False)
    return float(wrong.mean())


@pytest.mark.parametrize(("first", "at_most"), [(2, 30), (5, 20), (5, 60)])
def test_at_most_one_verdict_in_twenty_is_wrong_however_often_one_looks(first: int, at_most: int) -> None:
    """Where the difference is at the border of the region; standard error 0.004."""
    assert wrong_verdicts(first, at_most, "any", 3000) <= ALPHA + 0.004
    assert wrong_verdicts(first, at_most, "holds", 3000) <= ALPHA / 2 + 0.004


def test_without_spending_looks_would_inflate_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Look, "alpha", property(lambda self: ALPHA))
    assert wrong_verdicts(5, 60, "any", 1500) > 0.08


@pytest.mark.parametrize("seed", [0, 2**53 + 1, 2**63 - 1])
def test_any_seed_of_an_experiment_can_be_recorded_and_reported(tmp_path: Path, seed: int) -> None:
    (tmp_path / FILE).write_text(to_json({"mnist": Look(1, (3,))}, seed))
    found = recorded(tmp_path)
    assert found is not None
    assert found.first_seed == seed
    folder = make_run(tmp_path / "run")
    edit(folder / "experiment.json", seed=seed)
    (run,) = collect([folder]).runs
    assert run.seed == seed
