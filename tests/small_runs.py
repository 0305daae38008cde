"""Tiny runs for tests: digits, a few steps, the smallest evaluation. conftest.py has one that all tests share."""

from functools import cache
from pathlib import Path
from typing import Any

from mpdvae.data import Splits
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.experiments.recipes import recipe
from mpdvae.experiments.remedies import as_options
from mpdvae.runs.run_folder import Run
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
"""What every run of the tests changes in its recipe."""

TINY_OPTIONS = as_options(TINY)
"""The same as options of `mpdvae train`."""

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
"""What is in the folder of a finished run of 6 steps, design.md."""


def tiny(name: str = "mae-digits-smoke", **changes: Any) -> Experiment:
    """The recipe `name` made small, with further changes (`training__steps=9`)."""
    return with_changes(recipe(name), **TINY | changes)


@cache
def digits() -> Splits:
    return load_data(tiny())


def trained(folder: Path, experiment: Experiment, watch: Watch = lambda done, entry: None) -> Run:
    """A run of `experiment` in `folder`, trained but not evaluated."""
    run = Run.create(folder, experiment)
    train(run, digits(), watch)
    return run


def files(folder: Path) -> dict[str, bytes]:
    """Everything in `folder`, by relative name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def results(folder: Path) -> dict[str, bytes]:
    """All files of a run that must not depend on when it was made or how often it was interrupted."""
    return {name: content for name, content in files(folder).items() if name not in {"manifest.json", "progress.json"}}


def finish(folder: Path, experiment: Experiment) -> Path:
    """A finished run of `experiment` in `folder`."""
    complete(Run.create(folder, experiment), digits(), "mpdvae train")
    return folder
