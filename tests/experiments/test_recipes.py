"""Recipes: names, what the models of one scale share, and every one of them through the user's own entry point."""

import json

import pytest
from small_runs import RUN_FILES, TINY_OPTIONS, files

from mpdvae.commands.cli import main
from mpdvae.errors import InputError
from mpdvae.experiments.experiment import from_json
from mpdvae.experiments.recipes import MODELS, all_recipes, matrix, recipe, seed_counts
from mpdvae.experiments.scales import SCALES


def test_names_are_model_dataset_scale():
    for name, experiment in all_recipes().items():
        assert name == experiment.name == f"{experiment.model}-{experiment.data.dataset}-{experiment.scale}"
        assert experiment.seed == 0


STUDIES = [(scale.name, study.dataset) for scale in SCALES.values() for study in scale.studies]


@pytest.mark.parametrize(("scale", "dataset"), STUDIES)
def test_models_of_one_study_differ_in_what_is_compared_only(scale, dataset):
    experiments = matrix(scale, (dataset,), tuple(MODELS))
    assert [e.model for e in experiments] == list(MODELS)
    shared = {
        (e.encoder, e.training, e.evaluation, e.latent_dim, e.data.binarisation, e.objective.kl_weight)
        for e in experiments
    }
    assert len(shared) == 1


@pytest.mark.parametrize(("scale", "dataset"), STUDIES)
def test_a_study_may_compare_fewer_models_and_more_seeds(scale, dataset):
    few = (scale, dataset) == ("hours", "cifar10")
    many = scale in ("minutes", "hours") and not few
    experiments = matrix(scale, (dataset,))
    assert [e.model for e in experiments] == (["vae", "vlae", "mae", "mae-no-smoothness"] if few else list(MODELS))
    assert set(seed_counts(experiments, None)) == {5 if many else 3}
    assert set(seed_counts(experiments, 2)) == {2}


@pytest.mark.parametrize(("scale", "dataset"), [("hours", "mnist"), ("hours", "cifar10"), ("days", "omniglot")])
def test_a_short_training_anneals_the_learning_rate_to_a_fortieth(scale, dataset):
    t = recipe(f"mae-{dataset}-{scale}").training
    assert t.decay_per_step**t.steps == pytest.approx(1 / 40, rel=0.02)
    assert t.plateau is None
    assert t.averaging_warm_up


@pytest.mark.parametrize("scale", SCALES)
def test_what_is_compared_by_default_exists(scale):
    assert matrix(scale, SCALES[scale].compared)


@pytest.mark.parametrize("scale", ["hours", "days", "paper"])
def test_the_authors_grid_is_there(scale):
    for eta in (0.5, 1, 2):
        for gamma in (0.1, 0.5, 1):
            e = recipe(f"mae-eta{eta:g}-gamma{gamma:g}-mnist-{scale}")
            assert (e.objective.diversity_weight, e.objective.smoothness_weight) == (eta, gamma)


def test_restricted_fields_reach_as_far_as_they_say():
    for reach in (1, 3, 6):
        e = recipe(f"vlae-field{reach}-mnist-paper")
        assert e.build((1, 28, 28)).decoder.network.receptive_field == reach


@pytest.mark.parametrize(("scale", "dataset"), STUDIES)
def test_each_model_is_what_it_is_called(scale, dataset):
    parts = {
        e.model: (e.decoder.kind, e.prior.kind, e.objective.diversity_weight > 0, e.objective.smoothness_weight > 0)
        for e in matrix(scale, (dataset,), tuple(MODELS))
    }
    maps = dataset in ("cifar10", "own")
    pixels, flow = ("pixelcnn++", "map-flow") if maps else ("pixelcnn", "flow")
    assert "pixelcnn" not in parts["vae"][0]
    assert parts["vae"][1:] == ("standard-normal", False, False)
    assert parts["vae-pixelcnn"] == (pixels, "standard-normal", False, False)
    assert parts["vlae"] == (pixels, flow, False, False)
    assert parts["mae"] == (pixels, flow, True, True)
    assert parts["mae-no-smoothness"] == (pixels, flow, True, False)
    assert parts["mae-no-diversity"] == (pixels, flow, False, True)


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
    assert "units carry" in " ".join(output.out.split())  # wherever the line is broken
    assert output.err == ""
