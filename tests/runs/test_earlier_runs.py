"""A run folder that version 0.1 wrote before the modules moved into packages (tests/formats/run-0.1) is still a run."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from command_line import call

import mpdvae
from mpdvae import report
from mpdvae.runs.checksums import run_files
from mpdvae.runs.run_folder import Run

EARLIER = Path(__file__).parents[1] / "formats" / "run-0.1"


@pytest.fixture
def earlier(tmp_path) -> Path:
    """A copy to work on."""
    return Path(shutil.copytree(EARLIER, tmp_path / "run"))


def test_its_files_are_read(earlier):
    run = Run(earlier)
    assert (run.status, run.experiment.training.steps) == ("finished", 6)
    assert [entry["step"] for entry in run.history] == [3, 6]
    assert {"model/model.safetensors", "density.json"} <= set(run_files(earlier))
    assert run.load_checkpoint() is not None


def test_its_model_draws_and_encodes(earlier):
    vae = mpdvae.load(earlier)
    assert vae.sample(2).shape == (2, 1, 8, 8)
    assert torch.isfinite(vae.elbo(vae.sample(2))).all()


def test_its_numbers_are_measured_again(earlier, capsys):
    """By the same commands, to rounding: it may have been made on another processor."""
    before = json.loads((earlier / "density.json").read_text())
    code, _, err = call(capsys, "evaluate", earlier)
    assert (code, err) == (0, "")
    after = json.loads((earlier / "density.json").read_text())
    assert after["nll_nats"]["mean"] == pytest.approx(before["nll_nats"]["mean"], rel=1e-4)
    measured_only_since = {
        "proposal",
        "decoder_evaluations_per_image",
        "nll_bias_nats",
        "nll_monte_carlo_interval_95_nats",
        "open_intervals",
        "likelihood",
    }
    assert after.keys() == before.keys() | measured_only_since
    assert after["proposal"] == "encoder"


def test_it_is_diagnosed_verified_and_reported(earlier, tmp_path, capsys):
    for command in ("diagnose", "verify"):
        code, out, err = call(capsys, command, earlier)
        assert (code, err) == (0, ""), out
    assert (
        "but diagnostics.json, information.json and representation.json were measured by another method: not compared."
        in out
    )
    assert re.search(r"density\.json +\d+ +\d+ +agrees", out)
    results = report.write([earlier], html=tmp_path / "report.html", command="mpdvae report")
    assert [run.folder for study in results.collection.studies for run in study.runs] == [earlier]


def test_it_resumes_from_its_checkpoint(earlier, capsys):
    """With the last checkpoint and all results gone, it is trained and measured to its end."""
    for name in ("step-00000006.json", "step-00000006.safetensors"):
        (earlier / "checkpoints" / name).unlink()
    Run(earlier).note(status="training")
    code, _, err = call(capsys, "resume", earlier)
    assert (code, err) == (0, "")
    assert (Run(earlier).status, Run(earlier).history[-1]["step"]) == ("finished", 6)
    assert Run(earlier).history[-1]["loss_nats"] == pytest.approx(Run(EARLIER).history[-1]["loss_nats"], rel=1e-3)
