"""Two reports of one matrix side by side: verdicts, numbers, and files that are none."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from report_folders import make_matrix

from mpdvae import report
from mpdvae.errors import InputError
from mpdvae.report.comparison import Mean, Numbers, compare, read_results

MODELS = ["vae-pixelcnn", "vlae", "mae"]


def made(root: Path, models: list[str] = MODELS, **options) -> Path:
    """A folder like that of `mpdvae reproduce`."""
    folders = [f for m in models for f in make_matrix(root / "runs", [m], pictures=False, explored=False, **options)]
    report.write(folders, html=root / "report.html", results=root / "results.json", command="x")
    return root


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("first"))


def test_a_report_agrees_with_itself(first: Path, capsys) -> None:
    found = compare(read_results(first), read_results(first / "results.json"))
    assert found.agrees
    assert not found.differing
    assert not found.doubtful
    assert not found.unmatched
    assert {words.claim for words in found.words} >= {"C1", "C2", "V1"}
    code, out, err = call(capsys, "compare", str(first), str(first / "results.json"))
    assert (code, err) == (0, "")
    assert "no verdict contradicts another" in out
    assert "0 differ by more than both errors allow" in out


def test_contradicting_verdicts_and_differing_numbers_are_told(first: Path, tmp_path: Path, capsys) -> None:
    folders = make_matrix(tmp_path / "runs", MODELS[:2], pictures=False)
    folders += make_matrix(tmp_path / "runs", MODELS[2:], pictures=False, numbers={"nll": 95.0})
    report.write(folders, html=tmp_path / "report.html", results=tmp_path / "results.json", command="x")
    found = compare(read_results(first), read_results(tmp_path))
    assert "C1" in [words.claim for words in found.words if not words.agree]
    assert any(n.name.startswith("C2: nll_nats, mae - vlae") for n in found.differing)
    code, out, err = call(capsys, "compare", str(first), str(tmp_path))
    assert code == 1
    assert "the verdicts on C1" in err
    assert "Traceback" not in err
    assert "differs" in out
    assert "NO" in out


def test_an_undecided_verdict_contradicts_none(first: Path, tmp_path: Path) -> None:
    content = json.loads((first / "results.json").read_text())
    for claim in content["claims"]:
        claim["verdict"] = "cannot tell"
    (tmp_path / "other.json").write_text(json.dumps(content))
    assert compare(read_results(first), read_results(tmp_path / "other.json")).agrees


def test_results_of_earlier_versions_are_read(first: Path, tmp_path: Path) -> None:
    """Without intervals of crossed effects, their degrees of freedom, stability and coverage."""
    content = json.loads((first / "results.json").read_text())
    new = {"covers", "standard_error", "degrees_of_freedom", "variance", "bracket", "smallest", "interval_confirming"}
    for claim in content["claims"]:
        for name in ("stability", "conditions", "levels", "look"):
            del claim[name]
        claim["evidence"] = [{k: v for k, v in e.items() if k not in new} for e in claim["evidence"]]
    (tmp_path / "old.json").write_text(json.dumps(content))
    found = compare(read_results(tmp_path / "old.json"), read_results(first))
    assert found.agrees
    assert any(n.name.startswith("C2") for n in found.numbers)


def test_numbers_measured_differently_are_not_compared(first: Path, tmp_path: Path) -> None:
    found = compare(read_results(first), read_results(made(tmp_path, samples=64)))
    assert found.words
    assert not found.numbers
    assert any("mae on mnist" in name for name in found.unmatched)


def test_equal_matrices_differ_by_chance_only() -> None:
    """Differences beyond the 5% limit come in 5% of numbers."""
    random = np.random.default_rng(0)
    y = random.normal(size=(2, 4000, 5))
    means, errors = y.mean(2), y.std(2, ddof=1) / np.sqrt(5)
    p = [Numbers("", *(Mean(float(m), float(s), 4.0) for m, s in zip(a, b, strict=True))).p
         for a, b in zip(means.T, errors.T, strict=True)]  # fmt: skip
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.045, abs=0.012)


def test_numbers_without_noise_differ_or_do_not() -> None:
    same, other = Mean(1.0, 0.0, 4.0), Mean(2.0, 0.0, 4.0)
    assert (Numbers("", same, same).z, Numbers("", same, same).p) == (0.0, 1.0)
    assert Numbers("", same, other).p == 0.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"results\.json is missing: give a results\.json of `mpdvae reproduce`"),
        ("{", r"results\.json is broken"),
        ("[]", r"results\.json is broken"),
        ('{"rows": []}', r"results\.json is broken \(claims: "),
        ('{"rows": [], "claims": []}', r"holds no results of finished runs"),
        ('{"rows": [], "claims": [{"id": 1}]}', r"results\.json is broken \(claims\.0\."),
        ("\x00\xff", r"results\.json (is broken|cannot be read)"),
    ],
)
def test_what_is_no_report_is_refused(first: Path, tmp_path: Path, text: str | None, message: str, capsys) -> None:
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_results(tmp_path)
    code, _, err = call(capsys, "compare", str(first), str(tmp_path))
    assert code == 2
    assert "Traceback" not in err


def test_reports_without_a_common_claim_are_refused(first: Path, tmp_path: Path) -> None:
    other = made(tmp_path, dataset="omniglot")
    with pytest.raises(InputError, match="without a common claim"):
        compare(read_results(first), read_results(other))


def test_hostile_names_are_shown_harmlessly(first: Path, tmp_path: Path, capsys) -> None:
    content = json.loads((first / "results.json").read_text())
    for claim in content["claims"]:
        claim["verdict"] = "\x1b[2Jholds [bold]"
    (tmp_path / "evil.json").write_text(json.dumps(content))
    _, out, err = call(capsys, "compare", str(tmp_path / "evil.json"), str(tmp_path / "evil.json"))
    assert "\x1b[2J" not in out + err


def test_every_claim_states_its_noise_and_its_stability(first: Path) -> None:
    content = json.loads((first / "results.json").read_text())
    tested = [claim for claim in content["claims"] if claim["verdict"] != "not tested"]
    assert tested
    for claim in tested:
        assert 0 <= claim["stability"] <= 1
        assert claim["levels"]["confirming"] == 0.95
        assert claim["levels"]["refuting"] == pytest.approx(1 - 0.05 / len(claim["evidence"]))
        assert sum(map(len, claim["conditions"].values())) == len(claim["evidence"])
        for evidence in claim["evidence"]:
            assert evidence["covers"][0] == "seeds"
            assert evidence["variance"][0]["source"] == "seeds"
            assert evidence["interval_refuting"][0] <= evidence["interval_confirming"][0]
    assert all(m["covers"] == ["seeds"] for row in content["rows"] for m in row["metrics"].values())


def test_broken_likelihoods_by_image_are_named(tmp_path: Path) -> None:
    folders = make_matrix(tmp_path, MODELS[:1], seeds=2, pictures=False)
    for text in ("image,draw\nx,0\n", "image,log_prob_nats\n1,many\n", "nothing\n1\n", "\xff"):
        (folders[0] / "density.csv").write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError, match=r"density\.csv is broken \(.*\): run `mpdvae evaluate"):
            report.collect(folders)
    (folders[0] / "density.csv").write_text("image,draw,log_prob_nats\n3,0,\n3,1,-2\n1,0,1e300\n")
    run = report.collect(folders).runs[0]
    assert run.per_image is not None
    assert run.per_image.images == (1, 3)
    assert not run.per_image.values
