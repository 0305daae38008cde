"""A folder from a stranger in which one thing leads elsewhere: no command reads, changes or removes anything outside, and
each ends with a result or with one sentence."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import call
from report_folders import make_run
from small_runs import files

from mpdvae import load
from mpdvae.errors import InputError, RunError
from mpdvae.evaluation.result_cache import shared
from mpdvae.runs.run_folder import FAILURE_LOG, Run
from mpdvae.workflows.matrix import run_all
from mpdvae.workflows.matrix_jobs import jobs
from mpdvae.workflows.packing import pack

SECRET = b"the user's secret"
OF_A_RUN = [
    *(
        "checkpoints",
        "model",
        "figures",
        "manifest.json",
        "history.jsonl",
        "experiment.json",
        "density.json",
        "density.csv",
    ),
    *(
        "diagnostics.json",
        "codes.json",
        "explore.json",
        FAILURE_LOG,
        "model/model.safetensors",
        "model/experiment.json",
    ),
    *("checkpoints/step-00000006.json", "checkpoints/step-00000006.safetensors", "figures/samples.png"),
    *("partial", "trackers", "owner.json", "progress.json", "images.json", "images.png", "results.json"),
]
"""What is in a run folder, or may be."""
COMMANDS: dict[str, Callable[[Path], list[str | Path]]] = {
    "resume": lambda run: ["resume", run],
    "report": lambda run: ["report", run, "--out", run.parent / "report.html"],
    "verify": lambda run: ["verify", run, "--quick"],
    "diagnose": lambda run: ["diagnose", run],
    "sample": lambda run: ["sample", run, "--count", "1", "--out", run.parent / "x.png"],
}
WRITTEN = [
    *(
        "figures",
        "partial",
        "density.json",
        "density.csv",
        "manifest.json",
        "progress.json",
        "owner.json",
        "explore.json",
    ),
    *("figures/samples.png", "codes.json", "representation.json", "history.jsonl", "checkpoints", "trackers"),
]
"""What a command that goes on with a run may write."""


@pytest.fixture(scope="module")
def place(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the user's, with a run of theirs."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(finished, folder / "outside")
    (folder / "outside" / "secret.txt").write_bytes(SECRET)
    return folder


def linked(place: Path, finished: Path, entry: str, target: str = "") -> Path:
    """Returns a copy of the finished run in which `entry` is a link to `target` outside; by default the same of another run,
    or a text if it has none."""
    to = place / "outside" / (target or (entry if (place / "outside" / entry).exists() else "secret.txt"))
    run = place / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(finished, run)
    if (run / entry).is_dir():
        shutil.rmtree(run / entry)
    (run / entry).unlink(missing_ok=True)
    (run / entry).parent.mkdir(exist_ok=True)
    (run / entry).symlink_to(os.path.relpath(to, (run / entry).parent))
    return run


def check_outside(place: Path, capsys: pytest.CaptureFixture[str], *command: str | Path) -> None:
    """Calls a command; checks that nothing outside changed and nothing of it is shown, and that an error is one sentence."""
    outside = files(place / "outside")
    code, out, err = call(capsys, *command)
    assert code == 0 or (code in (1, 2) and len(err.strip().splitlines()) == 1), err
    assert files(place / "outside") == outside
    shown = [out, err, *(path.read_text() for path in place.glob("report.*"))]
    assert not [text for text in shown if SECRET.decode() in text]
    (place / "report.html").unlink(missing_ok=True)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("entry", OF_A_RUN)
def test_no_command_follows_a_link_in_a_run_folder(place, finished, capsys, command, entry):
    check_outside(place, capsys, *COMMANDS[command](linked(place, finished, entry)))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["", "new"])
@pytest.mark.parametrize("entry", WRITTEN)
def test_no_result_is_written_through_a_link(place, finished, capsys, entry, target):
    run = linked(place, finished, entry, target)
    if entry != "manifest.json":
        edit_manifest(run, status="trained")
    check_outside(place, capsys, "resume", run, "--threads", "1")


def edit_manifest(run: Path, **entries: object) -> None:
    manifest = json.loads((run / "manifest.json").read_text()) | entries
    (run / "manifest.json").write_text(json.dumps(manifest))


def test_a_link_is_named_and_so_is_what_to_do(place, finished, capsys):
    run = linked(place, finished, "checkpoints")
    code, _, err = call(capsys, "resume", run)
    assert code == 2
    assert f"mpdvae: {run}/checkpoints: is a link, which is neither followed nor replaced there" in err
    assert "delete the link." in err


@pytest.mark.parametrize("link", ["runs", "runs/mae-digits-smoke-seed0", "runs/.choice.lock"])
def test_a_matrix_does_not_leave_its_folder(tmp_path, link):
    from small_runs import tiny

    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_bytes(SECRET)
    path = tmp_path / "out" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(outside / "secret.txt" if link.endswith("lock") else outside)
    experiment = tiny(training__precision="auto") if link.endswith("lock") else tiny()
    with pytest.raises(InputError, match="is a link"):
        run_all(jobs([experiment], 1, tmp_path / "out"), None, workers=1)
    assert files(outside) == {"secret.txt": SECRET}


def test_what_runs_share_is_not_taken_from_a_link(tmp_path):
    folder = tmp_path / "cache"
    shared(folder, {"it": ({}, lambda: {"x": 1})})
    (made,) = folder.glob("*.json")
    made.rename(tmp_path / "a.json")
    made.symlink_to("../a.json")
    with pytest.raises(InputError, match="is a link"):
        shared(folder, {"it": ({}, lambda: {"x": 2})})
    assert json.loads((tmp_path / "a.json").read_text())["result"] == {"x": 1}


def test_a_packed_model_is_not_written_through_a_link(finished, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "mae-tiny").symlink_to("outside")
    (tmp_path / "to" / "mae-tiny").mkdir(parents=True)
    (tmp_path / "to" / "mae-tiny" / "model.safetensors").symlink_to("../../outside/new")
    with pytest.raises(InputError, match="is a link"):
        pack(finished, "mae-tiny", into=tmp_path / "to")
    assert files(tmp_path / "outside") == {}


def test_only_what_a_run_wrote_is_removed(own_copy):
    """Files beside those of the run, by names that look like its own."""
    mine = {
        *("checkpoints/notes.json", "checkpoints/notes.safetensors", "checkpoints/best.safetensors", ".notes.2024"),
        *("partial/notes.txt", "partial/0123/notes.txt", "figures/notes.png", "model/notes.json"),
    }
    for name in mine:
        (own_copy / name).parent.mkdir(parents=True, exist_ok=True)
        (own_copy / name).write_text("mine")
    run = Run(own_copy)
    run.tidy()
    run.save_checkpoint(7, {}, {"learning_rate": 0.1})
    assert {name for name in mine if (own_copy / name).read_text() == "mine"} == mine


def test_a_report_of_a_stranger_shows_no_file_of_the_user(tmp_path, capsys):
    run = make_run(tmp_path / "run", "mae")
    (tmp_path / "secret.txt").write_bytes(b"Traceback\n" + SECRET)
    (run / FAILURE_LOG).symlink_to("../secret.txt")
    code, out, err = call(capsys, "report", run, "--out", tmp_path / "r.html")
    assert code == 2
    assert "failure.log: is a link" in err
    assert SECRET.decode() not in out + err


# -- the hub's cache, which is made of links ---------------------------------------------------------------------------


@pytest.fixture
def snapshot(finished: Path, tmp_path: Path) -> Path:
    """The model in the layout of the hub's cache."""
    repo = tmp_path / "models--owner--name"
    folder = repo / "snapshots" / ("c" * 40)
    folder.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for digit, name in enumerate(("model.safetensors", "experiment.json", "README.md")):
        blob = str(digit) * (64 if name == "model.safetensors" else 40)
        shutil.copy(finished / "model" / name, repo / "blobs" / blob)
        (folder / name).symlink_to(f"../../blobs/{blob}")
    return folder


def test_the_cache_of_the_hub_is_read_through_its_own_links(finished, snapshot, tmp_path):
    (tmp_path / "models").symlink_to(snapshot.parent)
    expected = load(finished).state_dict()
    for folder in (snapshot, tmp_path / "models" / snapshot.name):
        found = load(folder).state_dict()
        assert all(found[name].equal(tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("to", ["../../../secret", "/etc/passwd", "../../blobs/../../secret"])
def test_no_other_link_there_is_followed(snapshot, tmp_path, to):
    (tmp_path / "secret").write_bytes(SECRET)
    (snapshot / "experiment.json").unlink()
    (snapshot / "experiment.json").symlink_to(to)
    with pytest.raises((InputError, RunError), match="is a link"):
        load(snapshot)


def test_a_blob_that_is_a_link_is_not_followed(snapshot, tmp_path):
    (tmp_path / "secret").write_bytes(SECRET)
    blob = snapshot.parents[1] / "blobs" / ("1" * 40)
    blob.unlink()
    blob.symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="is a link"):
        load(snapshot)
