"""The leaderboard: which remedies are on the front, what is advised, and where it stands in a report."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_folders import MODELS, make_run

from mpdvae import report
from mpdvae.report.collect import Study, collect
from mpdvae.report.leaderboard import advice, places

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
    assert [(place.variant.label, place.mark) for place in found] == [
        ("mae", "●"),
        ("beta-vae", "●"),
        ("lagging", ""),
        ("vae-pixelcnn", ""),
        ("free-bits", ""),
        ("delta-vae", ""),
    ]


def test_the_advice_names_the_best_for_each_aim(tmp_path):
    likelihood, code, free, caution = advice(places(study(tmp_path)))
    assert caution.startswith("With one seed there are no intervals")
    assert likelihood == (
        "For the likelihood, try mae (a flow prior, and posteriors that diverge evenly) first: NLL 88.00 nats (90.00 "
        "without a remedy)."
    )
    assert code == (
        "For the code, try beta-vae (the KL with weight 0.5) first: 10-NN 0.960 (0.920 without a remedy), at NLL 92.00 "
        "nats."
    )
    assert free == (
        "Better codes than vae-pixelcnn without a measurable loss of likelihood: mae (a flow prior, and posteriors "
        "that diverge evenly) and lagging (an encoder that catches up first)."
    )


def test_what_the_seeds_do_not_tell_apart_is_not_beaten(tmp_path):
    """NLL with a noise of 3 nats over three seeds: half of the interval is wider than the differences."""
    found = places(study(tmp_path, seeds=3, noise=3.0))
    marks = {place.variant.label: place.mark for place in found}
    assert marks["mae"] == marks["beta-vae"] == "●"
    assert marks["lagging"] == "○"
    assert "Not told apart from it: " in advice(found)[0]
    assert len(advice(found)) == 3


def test_a_study_without_remedies_has_no_leaderboard(tmp_path):
    found = study(tmp_path, {name: NUMBERS[name] for name in ("vae-pixelcnn", "mae", "beta-vae", "lagging")})
    assert places(found) == ()
    assert advice(()) == ()


@given(st.lists(st.tuples(st.sampled_from(range(4)), st.sampled_from(range(4))), min_size=3, max_size=6))
def test_a_mark_is_a_law_of_the_means_with_one_seed(numbers):
    """The front is Pareto's: brute force over all pairs."""
    names = ["vae-pixelcnn", "free-bits", "beta-vae", "lagging", "delta-vae", "mae"]
    with tempfile.TemporaryDirectory() as folder:
        given_numbers = {name: (80.0 + nll, 0.9 + knn / 100) for name, (nll, knn) in zip(names, numbers, strict=False)}
        found = places(study(Path(folder), given_numbers))
    for place in found:
        nll, knn = given_numbers[place.variant.label]
        beaten = any(a < nll and b > knn for a, b in given_numbers.values())
        assert place.mark == ("" if beaten else "●")


def test_a_terminal_shows_it_in_place_of_the_tables(tmp_path):
    study(tmp_path / "runs")
    folders = sorted((tmp_path / "runs").iterdir())
    made = report.write(folders, html=tmp_path / "report.html", command="mpdvae report")
    lines = report.console(made, 120).splitlines()
    assert max(map(len, lines)) <= 120
    rows = [line.split()[0] for line in lines if line.split()[:1] in [[name] for name in NUMBERS]]
    assert rows == ["mae", "beta-vae", "lagging", "vae-pixelcnn", "free-bits", "delta-vae"]
    assert any(line.startswith("For the code, try beta-vae") for line in lines)
    assert not any("Reconstruction (distortion)" in line for line in lines)


def test_page_and_text_show_it_before_the_claims(tmp_path):
    study(tmp_path / "runs")
    report.write(sorted((tmp_path / "runs").iterdir()), html=tmp_path / "report.html", command="mpdvae report")
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert page.index("Leaderboard of remedies</h2>") < page.index("Do the claims hold?</h2>")
    assert "| mae | ● | 88.00 | " in text
    assert "For the code, try beta-vae (the KL with weight 0.5) first: " in text
    assert page.count("●") == 3  # two rows and the caption


@pytest.mark.parametrize("name", ["Leaderboard"])
def test_other_reports_do_not_mention_it(tmp_path, name):
    for model in ("vae", "vlae", "mae"):
        make_run(tmp_path / "runs" / model, model)
    report.write(sorted((tmp_path / "runs").iterdir()), html=tmp_path / "report.html", command="mpdvae report")
    assert name not in (tmp_path / "report.md").read_text()
