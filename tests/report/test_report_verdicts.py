"""The rule that turns differences into words, and the claims on made-up runs."""

import itertools
import math
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from report_folders import MODELS, add_per_image, edit, make_run
from report_folders import make_matrix as make_full_matrix

from mpdvae.report.claims import CLAIMS, COLOUR_NLL_NATS, NAMES, SMALLEST, Condition
from mpdvae.report.collect import Study, collect
from mpdvae.report.looks import ALPHA, Look
from mpdvae.report.outcomes import conjunction, decide, repeated_word
from mpdvae.report.verdicts import Verdict, judge_all, rule

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
    condition = Condition(relation, "nll_nats", "mae", "vlae", 0.5)
    assert condition.margin == margin
    interval = None if half_width is None else (mean - half_width, mean + half_width)
    assert decide(interval, interval, condition.region) == word


@pytest.mark.parametrize(
    ("confirming", "refuting", "word"),
    [
        ((0.1, 0.9), (-0.1, 1.1), "cannot tell"),  # refuted alone, not among several
        ((0.1, 0.9), (0.0, 1.1), "does not hold"),
        ((-0.9, -0.1), (-1.1, 0.1), "holds"),  # confirming needs no correction
    ],
)
def test_refuting_takes_the_wider_interval(confirming, refuting, word: str) -> None:
    assert decide(confirming, refuting, Condition("lower", "nll_nats", "mae", "vlae").region) == word


def test_the_rule_for_many_repeats_is_the_rule_for_one() -> None:
    random = np.random.default_rng(0)
    middle, half = random.normal(size=(2, 300)), random.exponential(size=(2, 300))
    regions = [(-math.inf, 0.0), (-0.5, 0.5)]
    intervals = [[(m - h, m + h), (m - 1.3 * h, m + 1.3 * h)] for m, h in zip(middle, half, strict=True)]
    found = repeated_word(intervals, regions)
    assert len(set(found)) == 3
    for place, word in enumerate(found):
        words = [
            decide(*((float(low[place]), float(high[place])) for low, high in pair), region)
            for pair, region in zip(intervals, regions, strict=True)
        ]
        assert conjunction(words) == word


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
    said = r"mae minus vlae is \+3\.\d\d to \+6\.\d\d nats by the bounds on both on average over 3 seeds"
    assert re.search(said, first.sentence)
    assert "95% interval" in first.sentence
    assert "which covers seeds and test images" in first.sentence


@pytest.mark.parametrize(("nll", "word"), [(80.0, "holds"), (95.0, "does not hold")])
def test_c2_follows_the_likelihood(tmp_path: Path, nll: float, word: str) -> None:
    folders = make_matrix(tmp_path, ["vlae"]) + make_matrix(tmp_path, ["mae"], numbers={"nll": nll})
    assert words(judge_all(study(folders)))["C2"] == word


@pytest.mark.parametrize(
    ("claim", "dataset", "applies"),
    [
        ("C1", "anything", True),
        ("C2", "MNIST", True),
        ("C2", "omniglot", True),
        ("C2", "omniglot-burda", True),
        ("C2", "omniglot-burda-lying", True),
        ("C2", "cifar10", False),
        ("C3", "cifar10", True),
        ("C3", "mnist", False),
    ],
)
def test_a_claim_knows_its_data_sets(tmp_path: Path, claim: str, dataset: str, applies: bool) -> None:
    found = next(
        v for v in judge_all(study(make_matrix(tmp_path, ["mae", "vlae"], dataset=dataset))) if v.claim.id == claim
    )
    assert found.claim.applies_to(dataset) == applies
    assert (found.word == "not tested") == ("the claim is about" in found.reason) == (not applies)
    assert found.claim.unseen([dataset]) == [
        title for title in found.claim.about if dataset.lower() not in NAMES[title]
    ]


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


def test_saturated_mutual_informations_are_compared_by_their_bounds(tmp_path: Path) -> None:
    """Lower bounds near the ceiling say that both are at least that large, and nothing about which is larger."""
    for upper, word in ((30.0, "cannot tell"), (8.0, "holds")):
        folders = make_matrix(tmp_path / f"{upper:g}", ["vae", "vae-pixelcnn"])
        for folder in (f for f in folders if "pixelcnn" in f.name):
            edit(folder / "diagnostics.json", mutual_information_nats=7.9)
            bounds = {"lower_bound": {"nats": 7.9}, "upper_bound": {"nats": upper}}
            edit(folder / "information.json", mutual_information=bounds)
        verdict = next(v for v in judge_all(study(folders)) if v.claim.id == "V2")
        assert verdict.evidence[1].word == word


def test_an_information_without_its_upper_bound_is_not_compared(tmp_path: Path) -> None:
    folders = make_matrix(tmp_path, ["vae", "vae-pixelcnn"])
    for folder in folders:
        (folder / "information.json").unlink()
    verdict = next(v for v in judge_all(study(folders)) if v.claim.id == "V2")
    assert verdict.word == "not tested"
    assert "upper bound" in verdict.reason


def test_test_images_widen_an_interval_and_are_named(tmp_path: Path) -> None:
    widths = {}
    for name, spread in (("none", None), ("small", 0.1), ("large", 3.0)):
        folders = make_matrix(tmp_path / name, ["vlae", "vae-pixelcnn"])
        for folder in folders if spread is not None else ():
            add_per_image(folder, spread)
        evidence = next(v for v in judge_all(study(folders)) if v.claim.id == "V1").evidence[0]
        assert evidence.contrast is not None
        interval = evidence.contrast.interval()
        assert interval is not None
        widths[name] = interval[1] - interval[0]
        assert evidence.contrast.covers == (["seeds"] if spread is None else ["seeds", "test images"])
    assert widths["none"] <= widths["small"] * 1.2 < widths["large"]
    # 60 images, two models, 59 degrees of freedom: what dominates is known.
    assert widths["large"] == pytest.approx(2 * 2.0 * 3.0 * math.sqrt(2 / 60), rel=0.35)


def test_runs_that_measured_different_images_are_compared_by_seeds_only(tmp_path: Path) -> None:
    folders = make_matrix(tmp_path, ["vlae", "vae-pixelcnn"])
    for folder in folders:
        add_per_image(folder, 1.0, first=0 if "vlae" in folder.name else 5)
    evidence = next(v for v in judge_all(study(folders)) if v.claim.id == "V1").evidence[0]
    assert evidence.contrast is not None
    assert evidence.contrast.covers == ["seeds"]


def test_accuracies_cover_label_subsets_and_test_images(tmp_path: Path) -> None:
    evidence = next(v for v in judge_all(study(make_matrix(tmp_path))) if v.claim.id == "C5").evidence
    assert [sorted(e.contrast.covers) for e in evidence[1:] if e.contrast] == [
        ["label subsets", "seeds", "test images"],
        ["seeds", "test images"],
    ]


def test_outcomes_of_conditions_are_listed(tmp_path: Path) -> None:
    found = next(v for v in judge_all(study(make_matrix(tmp_path))) if v.claim.id == "C4")
    assert found.word == "does not hold"
    assert [e.condition.metric for e in found.with_word("does not hold")] == ["diversity_share"]
    assert found.conditions.startswith("Confirmed: MPD, spread over pairs, mae-no-smoothness above mae; NLL")
    assert "Refuted: Diversity penalty (1: collapsed), mae-no-smoothness below 0.05." in found.conditions


def test_a_verdict_states_how_often_a_repeat_gives_it(tmp_path: Path) -> None:
    verdicts = judge_all(study(make_matrix(tmp_path)))
    for verdict in verdicts:
        assert (verdict.stability is None) == (verdict.word == "not tested")
        assert verdict.stability is None or 0 <= verdict.stability <= 1
    assert next(v for v in verdicts if v.claim.id == "V1").stability == pytest.approx(1.0, abs=0.05)
    single = judge_all(study(make_matrix(tmp_path / "single", seeds=1)))
    assert {verdict.stability for verdict in single} == {None}


def test_a_repeated_look_is_stricter_and_says_so(tmp_path: Path) -> None:
    found = study(make_matrix(tmp_path, ["vlae", "vae-pixelcnn"]))
    fixed, third = (
        next(v for v in judge_all(found, look=look) if v.claim.id == "V1") for look in (Look(0), Look(3, (2, 3, 5)))
    )
    assert fixed.look.alpha == ALPHA
    assert third.look.alpha == pytest.approx(ALPHA / 12)
    assert "99.58% interval" in third.evidence[0].sentence
    assert "judged 3 times while seeds were added (2, 3, 5 seeds)" in rule(third.look)
    assert "judged 3 times" not in rule(fixed.look)


def test_a_negligible_difference_needs_no_more_seeds(tmp_path: Path) -> None:
    def second(noise: float, root: Path) -> Verdict:
        models = {"vlae": 87.0, "mae": 87.0}
        folders = [f for m, nll in models.items() for f in make_matrix(root, [m], numbers={"nll": nll}, noise=noise)]
        return next(v for v in judge_all(study(folders)) if v.claim.id == "C2")

    found = second(0.01, tmp_path / "narrow")
    assert found.word == "cannot tell"
    assert found.is_settled
    assert "smaller than 0.4 nats, the smallest that matters" in found.evidence[0].sentence
    assert not second(0.5, tmp_path / "wide").is_settled


def test_every_condition_has_a_smallest_difference_that_matters() -> None:
    for condition in (c for claim in CLAIMS for c in claim.conditions):
        assert condition.smallest >= SMALLEST[condition.metric] > 0
    assert Condition("lower", "nll_nats", "mae", "vlae").on("cifar10").smallest == COLOUR_NLL_NATS
    assert Condition("lower", "nll_nats", "mae", "vlae").on("mnist").smallest == SMALLEST["nll_nats"]


def test_two_configurations_of_a_model_are_not_mixed(tmp_path: Path) -> None:
    folders = make_matrix(tmp_path, ["vlae", "mae"])
    other = {"diversity_weight": 2.0, "smoothness_weight": 0.5, "mpd_form": "released"}
    folders.append(make_run(tmp_path / "other", "mae", 0, objective=other))
    found = study(folders)
    assert [v.label for v in found.variants] == ["mae (diversity_weight 1.0)", "mae (diversity_weight 2.0)", "vlae"]
    assert words(judge_all(found))["C2"] == "not tested"


def test_claims_name_their_source_and_no_number_of_the_paper() -> None:
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert all(claim.source and claim.conditions for claim in CLAIMS)
