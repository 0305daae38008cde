"""A model that cannot compute with its weights is named by every command that meets it; any other is left alone."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import call
from limits import memory_bytes, start_counting_memory
from safetensors.torch import load_file, save_file
from small_runs import tiny, trained

from mpdvae.errors import InputError
from mpdvae.runs.finite_weights import check_model, check_stored
from mpdvae.runs.model_folder import METADATA, load
from mpdvae.runs.run_folder import Run
from mpdvae.system.closed_folder import Inside

COMMANDS = {
    "sample": ("{run}", "--out", "{out}/x.png"),
    "reconstruct": ("{run}", "--out", "{out}/x.png"),
    "traverse": ("{run}", "--out", "{out}/x.png"),
    "explore": ("{run}",),
    "export": ("{run}", "--out", "{out}/x.onnx"),
    "evaluate": ("{run}",),
    "verify": ("{run}",),
    "report": ("{run}", "--out", "{out}/report.html"),
    "diagnose": ("{run}",),
}


def change(folder: Path, name: str, value: float, index: int | slice = 0) -> None:
    """Sets values of a tensor in the file of weights."""
    path = folder / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors[name].flatten()[index] = value
    save_file(tensors, path, {METADATA: json.dumps({"format": "1", "image_shape": [1, 8, 8], "version": "1"})})


def a_bias(folder: Path) -> str:
    return next(name for name in sorted(load_file(folder / "model" / "model.safetensors")) if name.endswith("bias"))


def gains(folder: Path) -> list[str]:
    return [name for name in load_file(folder / "model" / "model.safetensors") if name.endswith("original0")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_the_tensor(capsys, own_copy, tmp_path, command):
    name = a_bias(own_copy)
    change(own_copy, name, float("nan"))
    arguments = [word.format(run=own_copy, out=tmp_path) for word in COMMANDS[command]]
    code, out, err = call(capsys, command, *arguments)
    assert code == {"verify": 1, "diagnose": 0}.get(command, 2)
    said = " ".join((out + err).split())
    assert name in said.replace(" ", "") or name in said
    assert "not finite" in said
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_values_that_nothing_can_be_computed_with_are_refused(own_copy, value):
    change(own_copy, a_bias(own_copy), value, slice(None))
    with pytest.raises(InputError, match=r"model\.safetensors: .*bias has .*not finite"):
        load(own_copy)


@pytest.mark.parametrize(("value", "words"), [(-1e4, "vanish"), (1e4, "not finite")])
def test_normalised_weights_that_vanish_or_overflow_are_refused(own_copy, value, words):
    """Of masked layers, whose gains are logarithms."""
    vae = load(own_copy)
    masked = [
        name
        for name in gains(own_copy)
        if vae.get_submodule(name.removesuffix(".original0")).get_submodule("0").mask is not None
    ]
    change(own_copy, masked[0], value, slice(None))
    with pytest.raises(InputError, match=rf"{masked[0].removesuffix('.original0')}.* {words}"):
        load(own_copy)
    if value < 0:
        with pytest.raises(InputError, match="vanish"):
            check_stored(Inside(own_copy) / "model" / "model.safetensors")


def test_normalised_weights_without_a_direction_are_refused(own_copy):
    name = gains(own_copy)[0].replace("original0", "original1")
    change(own_copy, name, 0.0, slice(None))
    with pytest.raises(InputError, match=r"not finite|vanish"):
        load(own_copy)


@pytest.mark.parametrize("recipe", ["mae-digits-smoke", "vae-digits-smoke"])
def test_untrained_and_trained_models_compute(tmp_path, recipe):
    for vae in (tiny(recipe).build((1, 8, 8)), load(trained(tmp_path / "run", tiny(recipe)).path)):
        check_model(vae, Path("x"))


def test_the_default_type_of_torch_does_not_matter(own_copy):
    """Weights so large that the model has to compute something to be judged."""
    change(own_copy, a_bias(own_copy), 50.0)
    torch.set_default_dtype(torch.float64)
    try:
        assert load(own_copy).encoder is not None
    finally:
        torch.set_default_dtype(torch.float32)


def test_large_weights_that_compute_are_taken(own_copy):
    """The outputs decide, not the size."""
    run = Run(own_copy)
    vae = run.experiment.build((1, 8, 8))
    with torch.no_grad():
        next(p for name, p in vae.named_parameters() if name.endswith("bias") and name.startswith("encoder"))[0] = 25.0
    check_model(vae, Path("x"))


def test_a_file_of_any_size_is_looked_through_in_pieces(own_copy):
    """Sparse, so that it costs whoever makes it nothing: of a size that its header does not account for, or does."""
    weights = own_copy / "model" / "model.safetensors"
    os.truncate(weights, 1 << 40)
    claim = json.dumps({"x": {"dtype": "F32", "shape": [1 << 28], "data_offsets": [0, 1 << 30]}}).encode()
    claimed = own_copy / "claimed.safetensors"
    claimed.write_bytes(len(claim).to_bytes(8, "little") + claim)
    os.truncate(claimed, 8 + len(claim) + (1 << 30))
    for path in (weights, claimed):
        start_counting_memory()
        before = memory_bytes(peak=False)
        check_stored(Inside(own_copy) / path.relative_to(own_copy).as_posix())
        assert memory_bytes(peak=True) - before < 1 << 26
    with pytest.raises(InputError):
        load(own_copy)


def test_a_model_of_images_of_low_contrast_is_left_alone(tmp_path):
    """Its first layer multiplies by hundreds, so that black, far from all its images, overflows."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "faint.npy", (32_768 + 1_000 * rng.random((60, 8, 8))).astype(np.uint16))
    faint = {
        "data__dataset": "own",
        "data__path": tmp_path / "faint.npy",
        "data__binarisation": "levels",
        "data__evaluation_draws": 1,
        "data__levels": 2**16,
        "training__steps": 60,
        "training__evaluate_every": 60,
    }
    run = trained(tmp_path / "run", tiny("vae-digits-smoke", **faint))
    vae = load(run.path)  # does not raise
    with torch.no_grad():
        black = vae.encoder(-torch.ones(2, 1, 8, 8)).variance
    assert not black.isfinite().all() or black.max() > 1e9
    assert vae.encode(vae.sample(2)).isfinite().all()


@pytest.mark.parametrize("label", [-1.0, 3.0, 0.5, 1e9])
def test_a_class_that_the_model_does_not_have_is_refused(label):
    vae = tiny("vae-digits-smoke", data__condition_classes=3, data__condition_covariates=1).build((1, 8, 8))
    check_model(vae, Path("weights"))
    vae.decoder.embedding.examples[5, 0] = label
    with pytest.raises(InputError, match=r"weights: decoder\.embedding\.examples has other classes than 0 to 2"):
        check_model(vae, Path("weights"))
