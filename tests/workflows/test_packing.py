"""Packing a run as a model that comes with the package: its files, what is refused, and rounded weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_runs import finish, tiny

import mpdvae
from mpdvae.commands.explorer_model import live
from mpdvae.data import Splits, digits
from mpdvae.errors import InputError
from mpdvae.evaluation.example_images import read_examples
from mpdvae.experiments.experiment import origin_of, with_changes
from mpdvae.measures import density
from mpdvae.runs.run_folder import Run
from mpdvae.sharing import shipped
from mpdvae.sharing.pretrained import FILES
from mpdvae.system.closed_folder import Inside
from mpdvae.workflows import packing
from mpdvae.workflows.job import complete, data_of
from mpdvae.workflows.packing import pack


@pytest.fixture
def into(tmp_path, monkeypatch):
    """A folder of models of our own."""
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "trained")
    return tmp_path / "trained"


def recomputed(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """log p(x) of the images in the folder, from its weights and as recorded."""
    vae = mpdvae.load(name)
    examples, record = (
        read_examples(Inside(shipped.folder_of(name)), origin_of(vae)),
        shipped.recorded(shipped.folder_of(name)),
    )
    assert examples is not None
    assert record is not None
    measured = torch.tensor(examples.log_prob_nats, dtype=torch.float64)
    count = len(measured)
    found = density.estimate(
        vae,
        examples.x[:count],
        record.density["samples"],
        indices=examples.indices[:count],
        proposal=record.density.get("proposal", "encoder"),
    )
    return found.log_prob, measured


def test_a_packed_model_has_the_weights_and_numbers_of_its_run(finished, into):
    folder = pack(finished, "mae-8x8", licence="mit", into=into)
    assert {path.name for path in folder.iterdir()} == {*FILES, "results.json", "images.json", "images.png"}
    assert (folder / "model.safetensors").read_bytes() == (finished / "model" / "model.safetensors").read_bytes()
    assert shipped.trained_models() == ["mae-8x8"]
    found, measured = recomputed("mae-8x8")
    torch.testing.assert_close(found, measured, rtol=1e-6, atol=0)
    run_density = json.loads((finished / "density.json").read_text())
    assert -measured.mean().item() == pytest.approx(run_density["nll_nats"]["mean"])
    assert "`images.png` holds 300 random test images" in (folder / "README.md").read_text()
    listed = shipped.described("mae-8x8")
    assert (listed["data"], listed["licence"]) == ("digits, dynamic", "mit")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    pack(finished, "mae-8x8", licence="mit", into=into)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_images_that_may_not_be_passed_on_are_drawn_from_the_model(finished, into, monkeypatch):
    monkeypatch.setattr(packing, "_may_be_passed_on", lambda dataset: False)
    folder = pack(finished, "mae-8x8", into=into)
    assert "64 images drawn from the model (the data may not be passed on)" in (folder / "README.md").read_text()
    found, measured = recomputed("mae-8x8")
    assert len(measured) == packing.CHECKED_IMAGES
    torch.testing.assert_close(found, measured, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("dataset", "may"), [("mnist", True), ("omniglot", True), ("cifar10", False), ("own", False)])
def test_only_data_with_a_licence_are_passed_on(dataset, may):
    assert packing._may_be_passed_on(dataset) == may


def test_rounded_weights_are_measured_again(finished, into):
    """The card's numbers are those of the rounded weights, which differ from those of the run."""
    whole, rounded = (pack(finished, f"a{float16:d}", float16=float16, into=into) for float16 in (False, True))
    weights = load_file(rounded / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert (rounded / "model.safetensors").stat().st_size < 0.6 * (whole / "model.safetensors").stat().st_size
    state = mpdvae.load("a1").state_dict()
    assert all(torch.equal(state[key], tensor.float()) for key, tensor in weights.items())
    found, measured = recomputed("a1")
    torch.testing.assert_close(found, measured, rtol=1e-7, atol=0)
    before = torch.tensor(json.loads((whole / "images.json").read_text())["log_prob_nats"], dtype=torch.float64)
    assert not torch.equal(measured, before)
    record = shipped.recorded(rounded)
    assert record is not None
    assert -measured.mean().item() == pytest.approx(record.density["nll_nats"]["mean"])
    assert record.manifest["data"]["name"] == "digits"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Mae", "name: expected small letters, digits and dashes, got 'Mae'"),
        ("../x", "name: expected small letters, digits and dashes"),
        ("", "name: expected small letters"),
        ("mae-mnist-minutes", "name: mae-mnist-minutes is a recipe"),
    ],
)
def test_names_that_cannot_be_used_are_refused(finished, into, name, said):
    with pytest.raises(InputError, match=said):
        pack(finished, name, into=into)
    assert not into.exists()


@pytest.mark.parametrize("file", ["model/model.safetensors", "density.json", "density.csv", "experiment.json"])
def test_a_run_that_was_changed_is_refused(own_copy, into, file):
    path = own_copy / file
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(InputError, match=f"differs from its manifest .*{file}.*; run `mpdvae evaluate"):
        pack(own_copy, "mae-8x8", into=into)
    assert not into.exists()


def test_a_run_that_is_not_finished_is_refused(tmp_path, into):
    Run.create(tmp_path / "new", tiny())
    with pytest.raises(InputError, match=r"not finished \(new\); run `mpdvae resume"):
        pack(tmp_path / "new", "mae-8x8", into=into)


def test_a_run_on_own_images_is_refused(own_copy, into):
    path = own_copy / "experiment.json"
    changed = with_changes(Run(own_copy).experiment, data__dataset="own", data__path=Path("pictures"))
    path.write_text(changed.to_json())
    with pytest.raises(InputError, match="trained on own images"):
        pack(own_copy, "mae-8x8", into=into)
    assert not into.exists()


def test_likelihoods_in_bfloat16_are_refused(finished, into, monkeypatch):
    monkeypatch.setattr(packing, "measurements", lambda folder: [{}, {"samples": 8, "precision": "bfloat16"}])
    with pytest.raises(InputError, match=r"measured in bfloat16; run `mpdvae evaluate .* --precision float32`"):
        pack(finished, "mae-8x8", into=into)


def test_where_results_were_made_is_not_recorded(tmp_path, into):
    folder = pack(finish(tmp_path / "secret-place", tiny()), "mae-8x8", into=into)
    for path in folder.iterdir():
        assert b"secret-place" not in path.read_bytes(), path


def without_labels(root, validation_size, split_seed):
    known = digits.load_digits(root, validation_size, split_seed)
    parts = (replace(images, labels=None) for images in (known.train, known.validation, known.test))
    return Splits.of("digits", "digits", *parts, split_seed)


@pytest.fixture
def unlabelled(tmp_path, monkeypatch):
    """A run on digits without labels."""
    monkeypatch.setattr("mpdvae.data.catalogue.ENTRIES", (replace(digits.ENTRY, load=without_labels),))
    run = Run.create(tmp_path / "run", tiny())
    complete(run, data_of(run), "mpdvae train")
    return run.path


def test_a_model_of_images_without_labels_is_packed_without_scores(unlabelled, into):
    folder = pack(unlabelled, "mae-8x8", into=into)
    record = shipped.recorded(folder)
    assert record is not None
    assert not any(record.representation.values())
    card = (folder / "README.md").read_text()
    assert "10-NN" not in card
    assert "their labels" not in card
    found, measured = recomputed("mae-8x8")
    torch.testing.assert_close(found, measured, rtol=1e-6, atol=0)


def test_nothing_is_written_of_a_run_that_lacks_a_result(unlabelled, into, monkeypatch):
    monkeypatch.setattr(packing, "unscored_because", lambda *_: "")
    with pytest.raises(InputError, match=r"representation\.json is missing: `mpdvae evaluate"):
        pack(unlabelled, "mae-8x8", into=into)
    assert not into.exists()


def with_channels(root, validation_size, split_seed):
    """The digits in four channels, the last of which are turned."""
    grey = digits.load_digits(root, validation_size, split_seed)

    def coloured(images):
        return replace(images, pixels=torch.cat([images.pixels.rot90(k, (-2, -1)) for k in range(4)], 1))

    parts = (coloured(grey.train), coloured(grey.validation), coloured(grey.test))
    return Splits.of("digits", "turned digits", *parts, split_seed)


def test_a_model_of_images_with_other_channels_is_packed_with_all_of_them(tmp_path, into, monkeypatch):
    turned = replace(digits.ENTRY, load=with_channels)
    monkeypatch.setattr("mpdvae.data.catalogue.ENTRIES", (turned,))
    levels = {"data__binarisation": "levels", "data__evaluation_draws": 1}
    run = Run.create(tmp_path / "run", tiny("vae-digits-smoke", **levels))
    complete(run, data_of(run), "mpdvae train")
    folder = pack(run.path, "vae-8x8", into=into)
    assert "the channels of each side by side, in grey" in (folder / "README.md").read_text()
    vae = mpdvae.load("vae-8x8")
    examples = read_examples(Inside(folder), origin_of(vae))
    assert examples is not None
    assert examples.x.shape == (300, 4, 8, 8)
    found, measured = recomputed("vae-8x8")
    torch.testing.assert_close(found, measured, rtol=1e-6, atol=0)
    shown = live(origin_of(vae).experiment, vae, examples.x, examples.known.labels)
    assert shown.images(shown.z[:4], 4, 0).startswith(b"\x89PNG")
