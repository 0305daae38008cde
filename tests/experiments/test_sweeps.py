"""Sweeps: recipes that turn one dial, and the command that runs them."""

import json

import pytest
from command_line import call
from small_runs import TINY

from mpdvae.errors import InputError
from mpdvae.experiments import recipes, sweeps
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.experiments.recipes import figure_matrix, recipe
from mpdvae.experiments.remedies import REMEDIES
from mpdvae.experiments.scales import SCALES
from mpdvae.runs.run_folder import Run

STUDIES = [(scale.name, dataset) for scale in SCALES.values() for dataset in scale.sweeps]


@pytest.mark.parametrize(("scale", "dataset"), STUDIES)
def test_each_point_is_one_dial_away_from_its_base(scale, dataset):
    """Turned back, it is the base again."""
    experiments = {e.model: e for e in figure_matrix("rate-distortion", scale, (dataset,))}
    assert list(experiments) == list(sweeps.MODELS)
    assert len(experiments) == 2 + 9 + 3 + 3 + 3
    back = {
        "mae": ("vlae", {"objective__diversity_weight": 0.0, "objective__smoothness_weight": 0.0}),
        "beta": ("vae-pixelcnn", {"objective__kl_weight": {"kind": "constant", "value": 1.0}}),
        "free": ("vae-pixelcnn", {"objective__free_bits_nats": 0.0}),
        "delta": ("vae-pixelcnn", {"encoder__head": {"kind": "gaussian"}}),
    }
    for model, experiment in experiments.items():
        base, changes = back.get(model.split("-")[0], (model, {}))
        labels = {field: getattr(experiments[base], field) for field in ("name", "model", "reproduces")}
        assert with_changes(experiment, **changes, **labels) == experiments[base]
        assert experiment == experiments[base] or model not in ("vlae", "vae-pixelcnn")
    assert len({e.model_copy(update={"name": "", "model": "", "reproduces": ""}) for e in experiments.values()}) == 20


@pytest.mark.parametrize(("dataset", "scale", "dimensions"), [("digits", "smoke", 8), ("mnist", "minutes", 32)])
def test_strengths_are_what_names_say(dataset, scale, dimensions):
    for nats in sweeps.NATS_PER_DIMENSION:
        floor = recipe(f"free-bits-{nats:g}-{dataset}-{scale}").objective.free_bits_nats
        head = recipe(f"delta-{nats:g}-{dataset}-{scale}").encoder.head
        assert floor == pytest.approx(nats * dimensions)
        assert (head.kind, getattr(head, "rate_nats", None)) == ("delta", pytest.approx(nats * dimensions))
    for weight in (0.25, 0.5, 2):
        kl_weight = recipe(f"beta-{weight:g}-{dataset}-{scale}").objective.kl_weight
        assert getattr(kl_weight, "value", None) == weight


def test_sweeps_that_there_are_not(capsys):
    with pytest.raises(
        InputError, match="--scale: rate-distortion has recipes at scales smoke, minutes, hours, days, got 'paper'"
    ):
        figure_matrix("rate-distortion", "paper", ("mnist",))
    with pytest.raises(InputError, match="at scale smoke there are recipes of rate-distortion for digits, got 'mnist'"):
        figure_matrix("rate-distortion", "smoke", ("mnist",))
    code, _, err = call(capsys, "reproduce", "--figure", "rate")
    assert code == 2
    assert "--figure: expected rate-distortion, remedies or None, got 'rate'" in err
    assert "'rate-distortion'" in err


def tiny_sweep() -> list[Experiment]:
    names = ["vae-pixelcnn", "beta-2", "delta-1"]
    small = TINY | {"evaluation__pictures": False, "evaluation__baselines": False}
    return [with_changes(recipe(f"{name}-digits-smoke"), **small) for name in names]


@pytest.mark.slow
def test_the_figure_from_the_command_line(tmp_path, capsys, monkeypatch):
    """A part of the sweeps, tiny, to the report."""
    experiments = tiny_sweep()
    monkeypatch.setattr(recipes, "figure_matrix", lambda figure, scale, datasets: experiments)
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, "reproduce", "--figure", "rate-distortion", "--scale", "smoke", "--seeds", "1")
    assert (code, err) == (0, "")
    out = tmp_path / "runs" / "rate-distortion"
    assert {Run(path).status for path in (out / "runs").iterdir()} == {"finished"}
    text = (out / "report.md").read_text()
    assert "| vae-pixelcnn | KL weight 1; committed rate 0 nats |" in text
    assert "| delta-1 | committed rate 8 nats |" in text
    assert "<small>runs/beta-2-digits-smoke-seed0, " in (out / "report.html").read_text()
    assert {row["model"] for row in json.loads((out / "results.json").read_text())["rows"]} == {
        e.model for e in experiments
    }


def test_the_plan_of_the_figure(capsys, monkeypatch):
    monkeypatch.setattr(recipes, "figure_matrix", lambda figure, scale, datasets: tiny_sweep()[:1])
    code, out, _ = call(capsys, "reproduce", "--figure", "rate-distortion", "--scale", "smoke", "--dry-run")
    assert code == 0
    assert "vae-pixelcnn-digits-smoke" in out
    assert "3 seeds: 3 runs" in out


def test_all_remedies_have_recipes_of_a_matrix():
    for scale, dataset in (("smoke", "digits"), ("minutes", "mnist")):
        models = [e.model for e in figure_matrix("remedies", scale, (dataset,))]
        assert models == ["vae-pixelcnn", *REMEDIES, "vlae", "mae"]
    with pytest.raises(InputError, match="--scale: remedies has recipes at scales"):
        figure_matrix("remedies", "paper", ("mnist",))
