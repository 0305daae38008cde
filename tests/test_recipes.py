"""Recipes: names, what the models of one scale share, and every one of them through the user's own entry point."""

import json

import pytest
from small_runs import RUN_FILES, TINY_OPTIONS, files

from mpdvae.cli import main
from mpdvae.errors import InputError
from mpdvae.experiment import from_json
from mpdvae.recipes import MODELS, SCALES, all_recipes, matrix, recipe


def test_names_are_model_dataset_scale():
    for name, experiment in all_recipes().items():
        assert name == experiment.name == f"{experiment.model}-{experiment.data.dataset}-{experiment.scale}"
        assert experiment.seed == 0


def test_every_model_at_every_scale():
    assert len(all_recipes()) == len(MODELS) * sum(len(scale.datasets) for scale in SCALES.values())


@pytest.mark.parametrize("scale", SCALES)
def test_models_of_one_scale_differ_in_what_is_compared_only(scale):
    shared = {
        (e.encoder, e.training, e.evaluation, e.latent_dim, e.data.binarisation, e.objective.kl_weight)
        for e in matrix(scale, SCALES[scale].datasets)
    }
    assert len(shared) == 1


@pytest.mark.parametrize("scale", SCALES)
def test_each_model_is_what_it_is_called(scale):
    parts = {
        e.model: (e.decoder.kind, e.prior.kind, e.objective.diversity_weight > 0, e.objective.smoothness_weight > 0)
        for e in matrix(scale, SCALES[scale].datasets)
    }
    assert parts["vae"][0] != "pixelcnn"
    assert parts["vae"][1:] == ("standard-normal", False, False)
    assert parts["vae-pixelcnn"] == ("pixelcnn", "standard-normal", False, False)
    assert parts["vlae"] == ("pixelcnn", "flow", False, False)
    assert parts["mae"] == ("pixelcnn", "flow", True, True)
    assert parts["mae-no-smoothness"] == ("pixelcnn", "flow", True, False)
    assert parts["mae-no-diversity"] == ("pixelcnn", "flow", False, True)


def test_near_names_are_suggested():
    with pytest.raises(InputError, match=r"unknown recipe 'mea-mnist-minutes': did you mean 'mae-mnist-minutes'"):
        recipe("mea-mnist-minutes")


def test_a_matrix_that_there_is_not():
    with pytest.raises(InputError, match="unknown scale 'smok': did you mean 'smoke'"):
        matrix("smok", ("digits",))
    with pytest.raises(InputError, match="at scale smoke there are recipes for digits, got 'mnist'"):
        matrix("smoke", ("mnist",))


@pytest.mark.parametrize("name", [e.name for e in matrix("smoke", ("digits",))])
def test_every_recipe_runs_from_the_command_line_and_leaves_a_complete_folder(name, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["train", name, "--out", str(folder), "--threads", "1", *TINY_OPTIONS]) == 0
    assert files(folder).keys() == RUN_FILES
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert {
        "version",
        "torch",
        "data",
        "seed",
        "cores",
        "command",
        "started",
        "finished",
        "parameters",
    } <= manifest.keys()
    assert from_json((folder / "experiment.json").read_text(), "").model == all_recipes()[name].model
    output = capsys.readouterr()
    assert f"run folder: {folder}" in output.out
    assert "units carry" in output.out
    assert output.err == ""
