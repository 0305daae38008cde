"""Tiny runs for tests: digits, a few steps, a minimal evaluation. conftest.py provides one that all tests share."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from mpdvae.data import Splits, training_batch
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.experiments.recipes import recipe
from mpdvae.experiments.remedies import as_options
from mpdvae.runs.run_folder import Run
from mpdvae.seeding import seeded
from mpdvae.training.loop import Watch, train
from mpdvae.workflows.job import complete, load_data

TINY = {
    "training__steps": 6,
    "training__evaluate_every": 3,
    "training__batch_size": 20,
    "training__initial_images": 20,
    "training__validation_images": 20,
    "evaluation__density_images": 10,
    "evaluation__density_samples": 4,
    "evaluation__representation_images": 200,
    "evaluation__label_counts": (100,),
    "evaluation__label_subsets": 1,
    "evaluation__clusters": (3,),
    "evaluation__information_samples": 50,
    "evaluation__code_use_images": 5,
    "evaluation__explored_images": 20,
}
"""Changes that every test run makes to its recipe."""

TINY_OPTIONS = as_options(TINY)
"""The same changes as options of `mpdvae train`."""

RUN_FILES = {
    "experiment.json",
    "manifest.json",
    "history.jsonl",
    "checkpoints/step-00000003.json",
    "checkpoints/step-00000003.safetensors",
    "checkpoints/step-00000006.json",
    "checkpoints/step-00000006.safetensors",
    "model/model.safetensors",
    "model/experiment.json",
    "model/README.md",
    "density.json",
    "density.csv",
    "representation.json",
    "diagnostics.json",
    "information.json",
    "code_use.json",
    "codes.json",
    "explore.json",
    "figures/samples.png",
    "figures/reconstructions.png",
    "figures/interpolations.png",
    "figures/points.png",
    "figures/linear_walks.png",
    "figures/bilinear_walk.png",
}
"""Files in the folder of a finished run of 6 steps; see design.md."""


def tiny(name: str = "mae-digits-smoke", **changes: Any) -> Experiment:
    """Returns a small version of recipe `name`, with further changes (`training__steps=9`)."""
    return with_changes(recipe(name), **TINY | changes)


@cache
def digits() -> Splits:
    return load_data(tiny())


def images_of(experiment: Experiment) -> Splits:
    """Returns the experiment's own images, or else digits."""
    return load_data(experiment) if experiment.data.path else digits()


def trained(folder: Path, experiment: Experiment, watch: Watch = lambda done, entry: None) -> Run:
    """Trains a run of `experiment` in `folder`, without evaluating it."""
    run = Run.create(folder, experiment)
    train(run, images_of(experiment), watch)
    return run


def files(folder: Path) -> dict[str, bytes]:
    """Returns the content of all files in `folder`, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def results(folder: Path) -> dict[str, bytes]:
    """Returns all files of a run that must not depend on when it was made or how often it was interrupted."""
    return {name: content for name, content in files(folder).items() if name not in {"manifest.json", "progress.json"}}


def finish(folder: Path, experiment: Experiment) -> Path:
    """Trains and evaluates a run of `experiment` in `folder`; returns the folder."""
    complete(Run.create(folder, experiment), images_of(experiment), "mpdvae train")
    return folder


def interrupted(folder, experiment, *steps: int) -> Run:
    """Trains a run that is interrupted after each of `steps` and resumed every time."""
    for stop in steps:

        def watch(done: int, entry, stop=stop) -> None:
            if done == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trained(folder, experiment, watch)
    return trained(folder, experiment)


def initial_weights(experiment) -> dict[str, torch.Tensor]:
    """Returns the weights after the data-dependent initialisation, computed by hand."""
    data, count = digits(), experiment.training.initial_images
    vae = experiment.build(data.image_shape)
    with seeded(experiment.seed, "initial images"):
        chosen = torch.randperm(len(data.train))[:count]
    vae.initialise(training_batch(data.train, chosen, experiment.data.protocol(), experiment.seed, step=-1))
    return {name: parameter.detach() for name, parameter in vae.named_parameters()}


def part(run: Run, prefix: str) -> dict[str, torch.Tensor]:
    """Returns the tensors of the newest checkpoint whose names have `prefix`, without it."""
    found = run.load_checkpoint()
    assert found is not None
    return {name.removeprefix(prefix): tensor.clone() for name, tensor in found[0].items() if name.startswith(prefix)}


def replace_weights(folder, **metadata):
    from safetensors.torch import load_file, save_file

    weights = folder / "model" / "model.safetensors"
    save_file(load_file(weights), weights, metadata)
