"""The rule that turns paired differences into words, and the claims on made-up runs."""

import itertools
from functools import partial
from pathlib import Path

import pytest
from report_folders import MODELS, edit, make_run
from report_folders import make_matrix as make_full_matrix

from mpdvae.measures.intervals import Estimate
from mpdvae.report.claims import CLAIMS, Condition
from mpdvae.report.collect import Study, collect
from mpdvae.report.verdicts import Verdict, conjunction, decide, judge_all

make_matrix = partial(make_full_matrix, pictures=False)

TABLE = [  # relation, margin, mean, half width, word
    ("lower", 0.0, -1.0, 0.5, "holds"),
    ("lower", 0.0, 1.0, 0.5, "does not hold"),
    ("lower", 0.0, -0.1, 0.5, "cannot tell"),
    ("lower", 0.0, -9.0, None, "cannot tell"),
    ("lower", 0.0, 0.0, 0.0, "does not hold"),
    ("higher", 0.0, 1.0, 0.5, "holds"),
    ("higher", 0.0, -1.0, 0.5, "does not hold"),
    ("higher", 0.0, 0.4, 0.5, "cannot tell"),
    ("not worse", 0.5, 0.2, 0.2, "holds"),
    ("not worse", 0.5, -9.0, 5.0, "holds"),
    ("not worse", 0.5, 0.4, 0.2, "cannot tell"),
    ("not worse", 0.5, 1.0, 0.2, "does not hold"),
    ("equivalent", 0.5, 0.1, 0.2, "holds"),
    ("equivalent", 0.5, 0.4, 0.2, "cannot tell"),
    ("equivalent", 0.5, 0.0, 3.0, "cannot tell"),
    ("equivalent", 0.5, -1.0, 0.2, "does not hold"),
    ("equivalent", 0.5, 1.0, 0.2, "does not hold"),
]


def study(folders: list[Path]) -> Study:
    studies = collect(folders).studies
    assert len(studies) == 1
    return studies[0]


def words(verdicts: list[Verdict]) -> dict[str, str]:
    return {verdict.claim.id: verdict.word for verdict in verdicts}


@pytest.mark.parametrize(("relation", "margin", "mean", "half_width", "word"), TABLE)
def test_rule(relation, margin: float, mean: float, half_width: float | None, word: str) -> None:
    condition = Condition(relation, "nll_nats", "mae", "vlae", margin)
    assert decide(Estimate(mean, half_width, 3), condition.region) == word


def test_conjunction_is_as_weak_as_its_weakest_part() -> None:
    order = ["does not hold", "not tested", "cannot tell", "holds"]
    for pair in itertools.product(order, repeat=2):
        assert conjunction(pair) == min(pair, key=order.index)


def test_claims_on_runs_that_show_the_effects(tmp_path: Path) -> None:
    verdicts = judge_all(study(make_matrix(tmp_path)))
    expected = {"C1": "holds", "C3": "not tested", "C5": "does not hold", "C6": "holds", "V1": "holds", "V2": "holds"}
    assert words(verdicts).items() >= expected.items()
    first = next(verdict for verdict in verdicts if verdict.claim.id == "C1").evidence[1]
    assert first.difference is not None
    assert list(first.difference.by_seed) == [0, 1, 2]
    assert "mae minus vlae is +10.85 nats" in first.sentence
    assert "3 seeds" in first.sentence
    assert "95% interval" in first.sentence


@pytest.mark.parametrize(("nll", "word"), [(80.0, "holds"), (95.0, "does not hold")])
def test_c2_follows_the_likelihood(tmp_path: Path, nll: float, word: str) -> None:
    folders = make_matrix(tmp_path, ["vlae"]) + make_matrix(tmp_path, ["mae"], numbers={"nll": nll})
    assert words(judge_all(study(folders)))["C2"] == word


def test_c4_holds_only_when_the_diversity_penalty_is_near_zero(tmp_path: Path) -> None:
    models = ["vlae", "mae", "mae-no-smoothness"]
    assert words(judge_all(study(make_matrix(tmp_path / "a", models))))["C4"] == "does not hold"
    folders = make_matrix(tmp_path / "b", models)
    for folder in folders:
        if "no-smoothness" in folder.name:
            edit(folder / "diagnostics.json", mpd_per_dimension_nats=[6.0] * 32)
    assert words(judge_all(study(folders)))["C4"] == "holds"


def test_one_seed_cannot_tell(tmp_path: Path) -> None:
    found = set(words(judge_all(study(make_matrix(tmp_path, seeds=1)))).values())
    assert found == {"cannot tell", "not tested"}


@pytest.mark.parametrize("absent", list(MODELS))
def test_a_missing_model_is_named(tmp_path: Path, absent: str) -> None:
    verdicts = judge_all(study(make_matrix(tmp_path, [model for model in MODELS if model != absent], seeds=2)))
    for verdict in verdicts:
        if any(absent in condition.models for condition in verdict.claim.conditions) and verdict.claim.id != "C3":
            assert verdict.word == "not tested"
            assert verdict.reason == f"not tested here: needs {absent}."


def test_without_labels_the_density_is_still_judged(tmp_path: Path) -> None:
    found = words(judge_all(study(make_matrix(tmp_path, labels=False))))
    assert (found["C1"], found["C6"], found["V1"]) == ("not tested", "not tested", "holds")


def test_a_number_that_is_not_finite_forbids_a_verdict(tmp_path: Path) -> None:
    folders = make_matrix(tmp_path, ["vae-pixelcnn", "vlae"], seeds=4)
    edit(folders[1] / "density.json", nll_nats={"mean": float("nan")})
    verdict = next(v for v in judge_all(study(folders)) if v.claim.id == "V1")
    assert verdict.word == "cannot tell"
    assert "No finite value for 1 seed" in verdict.evidence[0].sentence


def test_saturated_mutual_informations_are_not_compared(tmp_path: Path) -> None:
    folders = make_matrix(tmp_path, ["vae", "vae-pixelcnn"])
    for folder in folders:
        edit(folder / "diagnostics.json", mutual_information_saturated=True)
    verdict = next(v for v in judge_all(study(folders)) if v.claim.id == "V2")
    assert verdict.word == "cannot tell"
    assert "ceiling" in verdict.evidence[1].sentence


def test_two_configurations_of_a_model_are_not_mixed(tmp_path: Path) -> None:
    folders = make_matrix(tmp_path, ["vlae", "mae"])
    other = {"diversity_weight": 2.0, "smoothness_weight": 0.5, "mpd_form": "released"}
    folders.append(make_run(tmp_path / "other", "mae", 0, objective=other))
    found = study(folders)
    assert [v.label for v in found.variants] == ["vlae", "mae (diversity_weight 1.0)", "mae (diversity_weight 2.0)"]
    assert words(judge_all(found))["C2"] == "not tested"


def test_claims_name_their_source_and_no_number_of_the_paper() -> None:
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert all(claim.source and claim.conditions for claim in CLAIMS)
