"""The leaderboard: which remedies are on the front, what is advised, and where it stands in a report."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_folders import MODELS, make_run

from mpdvae import report
from mpdvae.measures.intervals import Estimate
from mpdvae.report.collect import Study, collect
from mpdvae.report.leaderboard import advice, less, places

NUMBERS = {  # model: NLL, accuracy
    "vae-pixelcnn": (90.0, 0.92),
    "free-bits": (90.2, 0.95),
    "beta-vae": (92.0, 0.96),
    "lagging": (89.5, 0.94),
    "delta-vae": (96.0, 0.83),
    "mae": (88.0, 0.955),
}


def study(root: Path, numbers=NUMBERS, seeds: int = 1, noise: float = 0.0) -> Study:
    for model, (nll, knn) in numbers.items():
        own = MODELS["mae"] | {"nll": nll, "knn": knn}
        for seed in range(seeds):
            make_run(root / f"{model}-{seed}", model, seed, numbers=own, noise=noise)
    (found,) = collect(sorted(root.iterdir())).studies
    return found


def test_the_front_is_what_nothing_beats_in_both(tmp_path):
    found = places(study(tmp_path))
    assert [(place.variant.label, place.front) for place in found] == [
        ("mae", True),
        ("beta-vae", True),
        ("lagging", False),
        ("vae-pixelcnn", False),
        ("free-bits", False),
        ("delta-vae", False),
    ]


def test_the_advice_names_the_best_for_each_aim(tmp_path):
    likelihood, code, free, caution = advice(places(study(tmp_path)))
    assert caution.startswith("With one seed there are no intervals")
    assert likelihood == "For the likelihood: mae."
    assert code == "For the code: beta-vae."
    assert free == "At no cost in likelihood, with better codes than vae-pixelcnn: mae, lagging."


def test_what_the_seeds_do_not_tell_apart_is_not_beaten(tmp_path):
    """NLL with a noise of 3 nats over three seeds: half of the interval is wider than the differences."""
    found = places(study(tmp_path, seeds=3, noise=3.0))
    front = {place.variant.label for place in found if place.front}
    assert {"mae", "beta-vae", "lagging"} <= front
    assert "(not told apart from it: " in advice(found)[0]
    assert len(advice(found)) == 3


def test_a_study_without_remedies_has_no_leaderboard(tmp_path):
    found = study(tmp_path, {name: NUMBERS[name] for name in ("vae-pixelcnn", "mae", "beta-vae", "lagging")})
    assert places(found) == ()
    assert advice(()) == ()


ESTIMATES = st.builds(Estimate, st.floats(-100, 100), st.one_of(st.none(), st.floats(0, 50)), st.integers(1, 5))


@given(ESTIMATES, ESTIMATES)
def test_less_is_an_order_that_intervals_only_loosen(one, other):
    assert not (less(one, other) and less(other, one))
    assert not less(one, one)
    exact = less(Estimate(one.mean, None, 1), Estimate(other.mean, None, 1))
    assert exact == (one.mean < other.mean)
    assert exact or not less(one, other)
    if less(one, other):
        assert other.mean - one.mean > math.hypot(one.half_width or 0, other.half_width or 0)


def test_page_and_text_show_it_before_the_claims(tmp_path):
    study(tmp_path / "runs")
    report.write(sorted((tmp_path / "runs").iterdir()), html=tmp_path / "report.html", command="mpdvae report")
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert page.index("Leaderboard of remedies</h2>") < page.index("Do the claims hold?</h2>")
    assert "| mae | ● | 88.00 | " in text
    assert "- For the code: beta-vae." in text
    assert page.count("●") == 3  # two rows and the caption


@pytest.mark.parametrize("name", ["Leaderboard"])
def test_other_reports_do_not_mention_it(tmp_path, name):
    for model in ("vae", "vlae", "mae"):
        make_run(tmp_path / "runs" / model, model)
    report.write(sorted((tmp_path / "runs").iterdir()), html=tmp_path / "report.html", command="mpdvae report")
    assert name not in (tmp_path / "report.md").read_text()
