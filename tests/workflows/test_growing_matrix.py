"""`mpdvae reproduce --until-decided`: seeds are added until the claims are decided, and each look costs confidence."""

import json
from pathlib import Path

import pytest
from command_line import call
from report_folders import make_run

from mpdvae.workflows import matrix


@pytest.fixture
def made_up(monkeypatch):
    """Runs with made-up numbers instead of trained ones; the noise of a run is `noise`."""
    settings = {"noise": 0.01, "calls": []}

    def run_all(jobs, *_):
        settings["calls"].append([job.name for job in jobs])
        for job in jobs:
            if not job.folder.exists():
                e = job.experiment
                make_run(job.folder, e.model, e.seed, noise=settings["noise"], pictures=False, explored=False)
        return []

    monkeypatch.setattr(matrix, "run_all", run_all)
    return settings


def reproduce(capsys, out: Path, *options: str) -> tuple[int, str, str]:
    return call(capsys, "reproduce", "--out", out, "--until-decided", *options)


def verdicts(out: Path) -> dict[str, dict]:
    return {claim["id"]: claim for claim in json.loads((out / "results.json").read_text())["claims"]}


def test_a_matrix_that_decides_every_claim_does_not_grow(tmp_path, capsys, made_up):
    code, _, err = reproduce(capsys, tmp_path, "--seeds", "5")
    assert (code, err) == (0, "")
    assert len(made_up["calls"]) == 1
    assert json.loads((tmp_path / "looks.json").read_text()) == {"first_seed": 0, "seeds": {"mnist": [5]}}
    assert verdicts(tmp_path)["V1"]["levels"]["confirming"] == pytest.approx(1 - 0.025)
    assert verdicts(tmp_path)["V1"]["look"] == {"number": 1, "seeds": [5], "error": pytest.approx(0.025)}


def test_an_undecided_matrix_grows_to_the_cap_and_goes_on_later(tmp_path, capsys, made_up):
    made_up["noise"] = 0.6
    code, out, _ = reproduce(capsys, tmp_path, "--seeds", "2", "--at-most", "4")
    assert code == 0
    assert "undecided: " in out
    assert [len(names) for names in made_up["calls"]] == [12, 18]
    assert verdicts(tmp_path)["C2"]["look"]["seeds"] == [2, 3]
    assert "judged 2 times while seeds were added (2, 3 seeds)" in (tmp_path / "report.md").read_text()
    reproduce(capsys, tmp_path, "--seeds", "2", "--at-most", "5")
    assert [len(names) for names in made_up["calls"][2:]] == [18, 30]
    assert verdicts(tmp_path)["C2"]["look"] == {"number": 3, "seeds": [2, 3, 5], "error": pytest.approx(0.05 / 12)}


def test_a_report_on_the_same_runs_has_the_level_of_the_look(tmp_path, capsys, made_up):
    made_up["noise"] = 0.6
    reproduce(capsys, tmp_path, "--seeds", "2", "--at-most", "3")
    folders = sorted((tmp_path / "runs").iterdir())
    assert call(capsys, "report", *folders, "--out", tmp_path / "own.html")[0] == 0
    claims = json.loads((tmp_path / "own.json").read_text())["claims"]
    assert {claim["look"]["number"] for claim in claims if claim["verdict"] != "not tested"} == {2}


def test_other_seeds_are_another_matrix(tmp_path, capsys, made_up):
    code, _, _ = call(capsys, "reproduce", "--out", tmp_path, "--seeds", "2", "--first-seed", "100")
    assert code == 0
    assert {name.rpartition("seed")[2] for name in made_up["calls"][0]} == {"100", "101"}
    assert not (tmp_path / "looks.json").exists()
    assert verdicts(tmp_path)["V1"]["look"]["number"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--at-most", "3"], "--at-most: expected together with --until-decided"),
        (["--until-decided", "--at-most", "4"], "--at-most: expected at least 5 seeds, the first number, got 4"),
        (["--until-decided", "--figure", "rate-distortion"], "--until-decided: expected without --figure"),
        (["--first-seed", "-1"], "--first-seed: expected a number >= 0, got -1"),
    ],
)
def test_what_cannot_be_grown_is_refused(tmp_path, capsys, made_up, options, message):
    code, _, err = call(capsys, "reproduce", "--out", tmp_path / "new", *options)
    assert code == 2
    assert message in err
    assert not (tmp_path / "new").exists()


def test_a_folder_that_was_looked_at_with_other_seeds_is_refused(tmp_path, capsys, made_up):
    reproduce(capsys, tmp_path, "--seeds", "5")
    for options in (["--seeds", "3"], ["--seeds", "5", "--first-seed", "7"]):
        code, _, err = reproduce(capsys, tmp_path, *options)
        assert code == 2
        assert "was first looked at with 5 seeds from 0 on" in err


def test_a_dry_run_prints_the_power_and_takes_its_own_runs_as_a_pilot(tmp_path, capsys, made_up):
    code, out, _ = call(capsys, "reproduce", "--dry-run", "--out", tmp_path)
    assert code == 0
    assert "Power on mnist with 5 seeds" in out
    assert "Noise: of a pilot" in out
    assert "smallest difference" in out
    call(capsys, "reproduce", "--out", tmp_path, "--seeds", "3")
    _, out, _ = call(capsys, "reproduce", "--dry-run", "--out", tmp_path)
    assert f"Noise: of the 18 finished runs in {tmp_path}" in " ".join(out.split())
    _, out, _ = call(capsys, "reproduce", "--scale", "smoke", "--dry-run", "--out", tmp_path / "none")
    assert "unknown, because there is no pilot at scale smoke" in out
