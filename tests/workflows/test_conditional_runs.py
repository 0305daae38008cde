"""Runs of models that are conditioned on classes or covariates: from training to codes and pictures, by commands."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from command_line import call
from pets import NAMES, pets, trained_on_pets
from PIL import Image
from small_runs import RUN_FILES, TINY_OPTIONS, digits, files, finish, interrupted, results, tiny, trained

import mpdvae
from mpdvae.commands.explorer_model import live
from mpdvae.commands.model_images import model_images
from mpdvae.data.conditions import split_condition, split_labels, with_labels
from mpdvae.data.picture_file import read_picture
from mpdvae.errors import InputError
from mpdvae.evaluation.image_codes import encode_images
from mpdvae.experiments.recipes import recipe
from mpdvae.runs.recorded_names import recordable
from mpdvae.runs.run_folder import Run
from mpdvae.workflows.job import check_same_data, load_data

OPTION = "--data.condition-classes"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run on digits."""
    return finish(tmp_path_factory.mktemp("conditional") / "run", tiny(data__condition_classes=10))


def test_a_run_of_a_conditional_model_has_all_files_and_says_that_classes_are_given(run):
    assert set(files(run)) >= RUN_FILES
    measured = json.loads((run / "density.json").read_text())
    assert "given one of 10 classes" in measured["protocol"]
    nll, bits = measured["nll_nats"]["mean"], measured["bits_per_dim"]["mean"]
    assert bits == pytest.approx(nll / (64 * math.log(2)))  # 8x8 pixels: the class is none
    raw = json.loads((run / "representation.json").read_text())["baselines"]["raw_pixels"]
    assert raw["dimensions"] == 64
    assert read_picture(run / "figures" / "points.png").shape[0] == 1


def test_raw_pixels_do_not_contain_the_class(run, finished):
    scores = [
        json.loads((folder / "representation.json").read_text())["baselines"]["raw_pixels"]
        for folder in (run, finished)
    ]
    assert scores[0] == scores[1]


def test_an_interrupted_run_ends_with_the_same_bytes(tmp_path):
    experiment = tiny("vae-digits-smoke", data__condition_classes=10)
    whole = trained(tmp_path / "whole", experiment)
    assert results(interrupted(tmp_path / "resumed", experiment, 2, 5).path) == results(whole.path)


def test_experiments_that_are_not_conditional_are_written_as_before():
    assert "condition_classes" not in recipe("mae-mnist-minutes").to_json()
    assert '"condition_classes": 10' in tiny(data__condition_classes=10).to_json()


def test_pictures_of_a_class_are_drawn(run, tmp_path, capsys):
    for name, options in {"all": (), "seven": ("--label", "7"), "smooth": ("--no-pixel-noise",)}.items():
        code, _, _ = call(capsys, "sample", run, "--out", tmp_path / f"{name}.png", "--count", "20", *options)
        assert code == 0
        assert read_picture(tmp_path / f"{name}.png").shape[0] == 1
    for command in ("reconstruct", "traverse"):
        assert call(capsys, command, run, "--out", tmp_path / f"{command}.png")[0] == 0
    code, _, said = call(capsys, "sample", run, "--out", tmp_path / "none.png", "--label", "10")
    assert code == 2
    assert "labels: expected classes 0 to 9" in said
    assert not (tmp_path / "none.png").exists()


def test_a_model_without_classes_refuses_a_label(finished, tmp_path, capsys):
    code, _, said = call(capsys, "sample", finished, "--out", tmp_path / "x.png", "--label", "3")
    assert code == 2
    assert "this model is not conditioned on classes" in said
    code, _, said = call(capsys, "encode", finished, "digits", "--out", tmp_path / "x.csv", "--label", "3")
    assert code == 2


def test_codes_take_the_class_from_the_folder_or_from_the_caller(run, tmp_path, capsys):
    for name in ("0", "1"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "pictures" / name / "white.png")
    vae = mpdvae.load(run)
    of_folders = encode_images(vae, tmp_path / "pictures", 4)
    assert of_folders.labels is not None
    assert of_folders.labels.tolist() == [0, 1]
    assert not np.allclose(*of_folders.mean)  # the same picture in two classes
    picture = tmp_path / "pictures" / "0" / "white.png"
    code, _, said = call(capsys, "encode", run, picture, "--out", tmp_path / "c.csv", "--samples", "4")
    assert code == 2
    assert "expected a label for each, as the model is conditioned on 10 classes" in said
    assert call(capsys, "encode", run, picture, "--out", tmp_path / "c.csv", "--samples", "4", "--label", "1")[0] == 0
    row = next(csv.DictReader((tmp_path / "c.csv").read_text().splitlines()))
    assert float(row["mean_0"]) == pytest.approx(float(of_folders.mean[1, 0]), rel=1e-5)
    with pytest.raises(InputError, match="labels: digits is used with its own"):
        encode_images(vae, "digits", labels=1)


def test_preprocessing_gives_the_images_that_training_saw(run):
    vae, test = mpdvae.load(run), digits().test
    assert test.labels is not None
    x = vae.preprocess(test.pixels[:5], labels=test.labels[:5])
    assert (split_labels(x).labels == test.labels[:5]).all()
    assert vae.encode(x).shape == (5, vae.latent_dim)
    with pytest.raises(InputError, match="labels: expected the number of a class, or 5 of them"):
        vae.preprocess(test.pixels[:5], labels=[1, 2])


def test_data_without_fitting_labels_are_refused_before_training(tmp_path, capsys):
    np.savez(tmp_path / "plain.npz", x=np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8))
    own = ("train", "vae-digits-smoke", *TINY_OPTIONS, "--data.dataset", "own", "--data.path", tmp_path / "plain.npz")
    for command, message in {
        (*own, OPTION, "10"): "has no labels; leave it out",
        (
            "train",
            "vae-digits-smoke",
            *TINY_OPTIONS,
            OPTION,
            "4",
        ): "has labels from 0 to 9; use --data.condition-classes 10",
    }.items():
        code, _, said = call(capsys, *command, "--out", tmp_path / "run")
        assert code == 2
        assert message in " ".join(said.split())
        assert not (tmp_path / "run").exists()


def test_the_explorer_moves_an_image_within_its_class(run):
    vae = mpdvae.load(run)
    shown = live(tiny(data__condition_classes=10), vae, *model_images(run, vae, None))
    z = shown.moved(3, 1, 1.0)
    kept = vae.decoded(z, shown.vae.told_of(shown.x[[3]]).expand(len(z), -1)).sample()
    assert (split_labels(kept).labels == int(shown.labels[3])).all()
    assert shown.images(shown.moved(3, 1, 1.0), 2, 3) == shown.images(shown.moved(3, 1, 1.0), 2, 3)


def test_a_saved_model_is_loaded_with_its_classes_and_makes_an_estimator(run, tmp_path):
    vae = mpdvae.load(run)
    vae.save_pretrained(tmp_path / "model")
    again = mpdvae.load(tmp_path / "model")
    x = with_labels(torch.zeros(3, 1, 8, 8), torch.tensor([1, 2, 3]))
    assert again.classes == 10
    assert torch.equal(again.encode(x), vae.encode(x))
    estimator, test = mpdvae.MPDVAE.from_pretrained(run), digits().test
    assert estimator.classes_.tolist() == list(range(10))
    codes = estimator.transform(test.pixels[:5], labels=test.labels[:5])
    np.testing.assert_allclose(codes, encode_images(vae, test.pixels[:5], 4, labels=test.labels[:5]).mean, atol=1e-6)
    assert estimator.sample(2, labels=[3, 7]).shape == (2, 8, 8)


@pytest.fixture(scope="module")
def of_pets(tmp_path_factory):
    """The folder of a trained run on folders of cats, dogs and owls."""
    return trained_on_pets(tmp_path_factory.mktemp("pets"))


def test_a_folder_of_one_class_is_told_as_that_class(of_pets, tmp_path, capsys):
    owls, vae = pets(tmp_path / "other", ("owl",)), mpdvae.load(of_pets)
    all_owls = vae.preprocess(owls / "owl", labels=2)
    assert torch.equal(vae.preprocess(owls), all_owls)
    np.savez(tmp_path / "owls.npz", x=split_labels(all_owls).images.numpy(), y=["owl"] * 12)
    assert split_labels(vae.preprocess(tmp_path / "owls.npz")).labels.tolist() == [2] * 12
    assert call(capsys, "encode", of_pets, owls, "--out", tmp_path / "c.csv", "--samples", "1")[0] == 0
    rows = list(csv.DictReader((tmp_path / "c.csv").read_text().splitlines()))
    assert {(row["label"], row["class"]) for row in rows} == {("2", "owl")}


def test_an_estimator_of_a_run_on_folders_takes_labels_by_name(of_pets):
    estimator, vae = mpdvae.MPDVAE.from_pretrained(of_pets), mpdvae.load(of_pets)
    assert estimator.classes_.tolist() == list(NAMES)
    images, labels = digits().test.pixels[:9], torch.arange(9) % 3
    codes = estimator.transform(images, labels=np.array(NAMES)[labels])
    np.testing.assert_allclose(codes, encode_images(vae, images, 4, labels=labels).mean, atol=1e-5)


def test_a_class_without_a_known_name_is_refused_and_known_ones_are_listed(of_pets, tmp_path, capsys):
    apes = pets(tmp_path / "other", ("ape", "dog"))
    code, _, said = call(capsys, "encode", of_pets, apes, "--out", tmp_path / "c.csv")
    assert code == 2
    assert "conditioned on (cat, dog and owl), got ape" in " ".join(said.split())
    assert not (tmp_path / "c.csv").exists()


def test_the_names_of_classes_are_in_the_run_and_in_every_copy_of_its_model(of_pets, tmp_path):
    assert json.loads((of_pets / "manifest.json").read_text())["data"]["class_names"] == list(NAMES)
    owls, vae = pets(tmp_path / "other", ("owl",)), mpdvae.load(of_pets)
    vae.save_pretrained(tmp_path / "model")
    again = mpdvae.load(tmp_path / "model")
    assert again.origin.class_names == vae.origin.class_names == NAMES
    assert torch.equal(again.preprocess(owls), vae.preprocess(owls))


def rewritten(folder, **changes):
    """Changes what the model in `folder` says of itself; None: says nothing of it."""
    content = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    about = json.loads(header["__metadata__"]["mpdvae"]) | changes
    about = {name: value for name, value in about.items() if value is not None}
    text = json.dumps(header | {"__metadata__": {"mpdvae": json.dumps(about)}}).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


def test_a_model_without_recorded_names_is_loaded_and_takes_folders_of_all_its_classes(of_pets, tmp_path):
    vae = mpdvae.load(of_pets)
    vae.save_pretrained(tmp_path / "model")
    rewritten(tmp_path / "model", class_names=None)
    old, whole = mpdvae.load(tmp_path / "model"), of_pets.parent / "pictures"
    assert old.origin.class_names is None
    assert torch.equal(old.preprocess(whole), vae.preprocess(whole))
    with pytest.raises(InputError, match="names of its classes are not recorded"):
        old.preprocess(pets(tmp_path / "other", ("owl",)))


@pytest.mark.parametrize("names", ["cat", [1], [["cat"]], {"cat": 0}, ["x" * 1001], ["x"] * 10_001, 3, True])
def test_names_that_no_run_records_are_refused(of_pets, tmp_path, names):
    mpdvae.load(of_pets).save_pretrained(tmp_path / "model")
    rewritten(tmp_path / "model", class_names=names)
    with pytest.raises(InputError, match=r"model.safetensors: class_names: expected"):
        mpdvae.load(tmp_path / "model")


def test_a_run_goes_on_only_on_classes_of_the_same_names(of_pets, tmp_path):
    run, data = Run(of_pets), load_data(Run(of_pets).experiment)
    check_same_data(run, data)
    called = replace(data, train=replace(data.train, class_names=("ape", "dog", "owl")))
    with pytest.raises(InputError, match="were called cat, dog and owl, but now they are called ape, dog and owl"):
        check_same_data(run, called)


def test_names_too_many_or_too_long_for_a_record_are_not_recorded():
    assert recordable(NAMES) == NAMES
    assert recordable(("x" * 1001,)) is recordable(("x",) * 10_001) is None


def turned(path):
    """Writes an archive of bars at an angle, of two thicknesses, with both as covariates."""
    draws = np.random.default_rng(0)
    angle, thickness = draws.uniform(0, 180, 120), draws.integers(1, 3, 120)
    at = np.linspace(-1, 1, 8)
    radians = np.deg2rad(angle)[:, None, None]
    distance = np.abs(at[:, None] * np.cos(radians) - at * np.sin(radians))
    x = np.where(distance < 0.2 * thickness[:, None, None], 255, 0).astype(np.uint8)
    np.savez(path, x=x, covariates=np.stack([angle, thickness], 1))
    return path


def on_bars(folder, **changes):
    return tiny("vae-digits-smoke", data__dataset="own", data__path=turned(folder / "bars.npz"), **changes)


@pytest.fixture(scope="module")
def of_angles(tmp_path_factory):
    """The folder of a finished run on bars, conditioned on their covariates."""
    folder = tmp_path_factory.mktemp("angles")
    return finish(folder / "run", on_bars(folder, data__condition_covariates=2))


def test_a_run_says_that_covariates_are_given(of_angles):
    measured = json.loads((of_angles / "density.json").read_text())
    assert "given 2 covariates" in measured["protocol"]
    nll, bits = measured["nll_nats"]["mean"], measured["bits_per_dim"]["mean"]
    assert bits == pytest.approx(nll / (64 * math.log(2)))
    for name in ("samples", "reconstructions", "linear_walks"):
        assert read_picture(of_angles / "figures" / f"{name}.png").shape[0] == 1


def test_an_interrupted_run_with_covariates_ends_with_the_same_bytes(tmp_path):
    experiment = on_bars(tmp_path, data__condition_covariates=2)
    whole = trained(tmp_path / "whole", experiment)
    assert results(interrupted(tmp_path / "resumed", experiment, 2, 5).path) == results(whole.path)


def test_the_covariates_of_a_loaded_model_are_those_of_its_training(of_angles, tmp_path):
    vae = mpdvae.load(of_angles)
    known = np.load(of_angles.parent / "bars.npz")["covariates"].astype(np.float32)
    drawn = vae.told_of(vae.sample(200)).numpy()
    assert {tuple(row) for row in drawn} <= {tuple(row) for row in known}
    vae.save_pretrained(tmp_path / "model")
    again = mpdvae.load(tmp_path / "model")
    assert again.condition == vae.condition == (0, 2)
    x = vae.preprocess(of_angles.parent / "bars.npz")
    assert torch.equal(again.encode(x), vae.encode(x))
    assert torch.equal(split_condition(x, vae.condition).told, torch.from_numpy(known))
    estimator, bars = mpdvae.MPDVAE.from_pretrained(of_angles), np.load(of_angles.parent / "bars.npz")
    codes = estimator.transform(bars["x"], covariates=bars["covariates"])
    np.testing.assert_allclose(codes, encode_images(vae, of_angles.parent / "bars.npz", 4).mean, atol=1e-6)
    assert not hasattr(estimator, "classes_")


def test_images_are_drawn_and_encoded_for_covariates_by_commands(of_angles, tmp_path, capsys):
    sample = ("sample", of_angles, "--count", "6", "--out", tmp_path / "x.png")
    assert call(capsys, *sample, "--covariates", "90", "1")[0] == 0
    assert call(capsys, *sample)[0] == 0
    for noise in ((), ("--no-pixel-noise",)):
        code, _, said = call(capsys, *sample, *noise, "--covariates", "1e6", "1")
        assert code == 2
        assert "for covariate 1, got 1e+06 for image 0" in " ".join(said.split())
    code, _, said = call(capsys, *sample, "--covariates", "90")
    assert code == 2
    assert "covariates: expected 2 numbers for all images, or [6 2], got shape (1,)" in " ".join(said.split())
    code, _, said = call(capsys, *sample, "--label", "1")
    assert code == 2
    assert "labels: this model is not conditioned on classes" in " ".join(said.split())
    assert call(capsys, "traverse", of_angles, "--out", tmp_path / "t.png", "--dimensions", "2")[0] == 0
    assert call(capsys, "reconstruct", of_angles, "--out", tmp_path / "r.png")[0] == 0

    x = np.load(of_angles.parent / "bars.npz")["x"][:4]
    np.save(tmp_path / "alone.npy", x)
    encode = ("encode", of_angles, tmp_path / "alone.npy", "--out", tmp_path / "c.csv", "--samples", "4")
    code, _, said = call(capsys, *encode)
    assert code == 2
    assert "expected 2 covariates of each, on which the model is conditioned, got none" in " ".join(said.split())
    code, _, said = call(capsys, *encode, "--covariates", "1e4", "1")
    assert code == 2
    assert "for covariate 1, got 10000 for image 0" in " ".join(said.split())
    assert call(capsys, *encode, "--covariates", "90", "1")[0] == 0
    codes = encode_images(mpdvae.load(of_angles), x, 4, covariates=[90.0, 1.0])
    row = next(csv.DictReader((tmp_path / "c.csv").read_text().splitlines()))
    assert float(row["mean_0"]) == pytest.approx(float(codes.mean[0, 0]), rel=1e-5)
    elsewhere = encode_images(mpdvae.load(of_angles), x, 4, covariates=[10.0, 2.0])
    assert not np.allclose(codes.mean, elsewhere.mean)


def test_the_explorer_moves_an_image_within_its_covariates(of_angles):
    vae = mpdvae.load(of_angles)
    run_images = model_images(of_angles, vae, None)
    shown = live(on_bars(of_angles.parent, data__condition_covariates=2), vae, *run_images)
    assert shown.images(shown.moved(3, 1, 1.0), 2, 3) == shown.images(shown.moved(3, 1, 1.0), 2, 3)
    assert len(shown.images(shown.drawn(4, 1.0, 0), 2)) > 0


@pytest.mark.parametrize(
    ("asked", "message"),
    {1: "has 2; use --data.condition-covariates 2", 3: "has 2; use --data.condition-covariates 2"}.items(),
)
def test_data_with_other_covariates_are_refused_before_training(tmp_path, capsys, asked, message):
    own = ("--data.dataset", "own", "--data.path", turned(tmp_path / "bars.npz"))
    option = ("--data.condition-covariates", asked)
    code, _, said = call(capsys, "train", "vae-digits-smoke", *TINY_OPTIONS, *own, *option, "--out", tmp_path / "run")
    assert code == 2
    assert message in " ".join(said.split())
    assert not (tmp_path / "run").exists()


def test_public_data_have_no_covariates(tmp_path, capsys):
    option = ("--data.condition-covariates", 1)
    code, _, said = call(capsys, "train", "vae-digits-smoke", *TINY_OPTIONS, *option, "--out", tmp_path / "run")
    assert code == 2
    assert "has none; leave it out" in " ".join(said.split())


def test_with_few_initial_images_the_conditions_of_many_are_kept_all_the_same(tmp_path):
    experiment = on_bars(tmp_path, data__condition_covariates=2, training__initial_images=4)
    vae = mpdvae.load(trained(tmp_path / "run", experiment).path)
    known = np.load(tmp_path / "bars.npz")["covariates"].astype(np.float32)
    drawn = {tuple(row) for row in vae.told_of(vae.sample(50)).tolist()}
    assert len(drawn) > 16
    assert drawn <= {tuple(row) for row in known.tolist()}
