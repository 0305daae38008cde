"""Remedies: recipes that are options on the model that collapses, and each of them trained at scale smoke."""

import math

import pytest
import torch
from command_line import asked_for, call
from small_runs import TINY, TINY_OPTIONS, files, initial_weights, interrupted, trained

from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.experiments.recipes import COLLAPSING, matrix, recipe
from mpdvae.experiments.remedies import REMEDIES, as_options, committed_nats, expansion, scale_of_rate
from mpdvae.runs.model_folder import load
from mpdvae.runs.run_folder import Run

remedies = pytest.mark.parametrize("name", REMEDIES)
SMALLER = {"training__inference": {"kind": "lagging", "encoder_steps": 2, "check_every": 1, "patience": 1}}


@pytest.mark.parametrize(("dataset", "scale"), [("digits", "smoke"), ("mnist", "minutes")])
@remedies
def test_a_recipe_is_the_collapsing_model_with_options(name, dataset, scale, tmp_path, monkeypatch):
    """Every remedy can be reached from the command line of another recipe."""
    base = recipe(f"{COLLAPSING}-{dataset}-{scale}")
    options = as_options(REMEDIES[name].changes(base))
    made = asked_for(monkeypatch, base.name, "--out", tmp_path / "run", *options)
    expected = recipe(f"{name}-{dataset}-{scale}")
    labels = {field: getattr(base, field) for field in ("name", "model", "reproduces")}
    assert made == with_changes(expected, **labels)
    assert expected.decoder.kind.endswith("pixelcnn")
    assert expected not in matrix(scale, (dataset,))


def small(name: str) -> Experiment:
    base = with_changes(recipe(f"{COLLAPSING}-digits-smoke"), **TINY)
    return with_changes(base, **REMEDIES[name].changes(base) | (SMALLER if name == "lagging" else {}))


@remedies
def test_every_remedy_trains(name, tmp_path):
    run = trained(tmp_path / "run", small(name))
    assert [entry["step"] for entry in run.history] == [3, 6]
    assert all(math.isfinite(value) for entry in run.history for value in entry["terms_nats"].values())
    weights = initial_weights(small(name))
    moved = [not torch.equal(p, weights[n]) for n, p in load(run.path).named_parameters()]
    assert sum(moved) / len(moved) > 0.9


@pytest.mark.parametrize("name", ["vampprior", "semi-amortised", "inverse-lipschitz", "latent-reconstruction"])
def test_a_remedy_resumes_with_the_same_bytes(name, tmp_path):
    """Of those whose parts know each other, or have a basis that is not saved; for those with a state, see
    test_step_rules.py."""
    whole, again = trained(tmp_path / "whole", small(name)), interrupted(tmp_path / "run", small(name), 4)
    for file in ("model/model.safetensors", "history.jsonl", "checkpoints/step-00000006.safetensors"):
        assert (whole.path / file).read_bytes() == (again.path / file).read_bytes(), file


@pytest.mark.parametrize("name", ["vampprior", "semi-amortised", "lidvae"])
def test_a_remedy_is_measured_like_any_model(name, tmp_path, capsys):
    """Those whose q(z|x) or p(z) is made of other parts, through density, diagnostics, representation and pictures."""
    options = [*TINY_OPTIONS, "--threads", "1"]
    code, _, err = call(capsys, "train", f"{name}-digits-smoke", "--out", tmp_path / "run", *options)
    assert (code, err) == (0, "")
    assert Run(tmp_path / "run").status == "finished"
    assert {"density.json", "diagnostics.json", "representation.json", "figures/samples.png"} <= files(
        tmp_path / "run"
    ).keys()


def test_strengths_are_set_for_the_same_rate():
    e = recipe(f"{COLLAPSING}-mnist-minutes")
    assert committed_nats(e) == pytest.approx(9.6)
    assert e.latent_dim * scale_of_rate() ** 2 / 2 == pytest.approx(9.6, rel=2e-3)
    assert math.log1p((expansion() / 2) ** 2) / 2 == pytest.approx(0.3, rel=2e-3)
    ar1 = recipe("ar1-mnist-minutes").build((1, 28, 28)).prior()
    assert ar1.least_rate_nats == pytest.approx(9.6, rel=0.02)


def test_a_goal_of_the_reconstruction_is_known_for_some_data_only():
    with pytest.raises(InputError, match=r"known only for digits, mnist, got 'omniglot'; set objective\.kl_weight"):
        REMEDIES["geco"].changes(with_changes(recipe(f"{COLLAPSING}-mnist-minutes"), data__dataset="omniglot"))


def test_changes_as_options():
    changes = {
        "prior": {"kind": "vamp", "components": 3},
        "decoder__skip_connections": True,
        "prior__mean_only": False,
        "encoder__channels": (4, 5),
        "seed": 2,
    }
    assert " ".join(as_options(changes)) == (
        "--prior.kind vamp --prior.components 3 --decoder.skip-connections --prior.no-mean-only "
        "--encoder.channels 4 5 --seed 2"
    )
