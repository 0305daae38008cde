"""A fit of the estimator: the checks of its parameters, the run that it trains, and what it warns of.

Parameters are a dictionary, as `get_params()` returns it: scikit-learn lets users set any value, so they are checked here.
"""

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

from sklearn.exceptions import ConvergenceWarning

from mpdvae.data import Images, Splits, split_train_validation
from mpdvae.data.conditions import Condition
from mpdvae.errors import InputError, listed
from mpdvae.evaluation.collapse_diagnosis import FALLING_NATS, fall_at_the_end
from mpdvae.experiments.experiment import Experiment
from mpdvae.runs.run_folder import Run
from mpdvae.system.devices import device_for
from mpdvae.training.loop import Watch, train
from mpdvae.vae import VAE
from mpdvae.workflows.estimator_experiment import AUTO, estimated_seconds, experiment_of, in_minutes
from mpdvae.workflows.job import check_device, check_fit, describe_run, made_on
from mpdvae.workflows.precision_choice import decided, noted
from mpdvae.workflows.progress_display import Watcher


class Fit(NamedTuple):
    """A trained model, and how it was trained."""

    vae: VAE
    experiment: Experiment
    history: list[dict[str, Any]]
    """Measurements at each evaluation point."""

    @property
    def epochs(self) -> int:
        """Number of epochs trained."""
        return round(self.history[-1]["epoch"])


def fitted(given: dict[str, Any], name: str, data: Splits, seed: int, condition: Condition) -> Fit:
    """Trains a model on `data`, in the run folder that is given or in a temporary one.

    Arguments:
        given: parameters of the estimator.
        name: of the model.
        data: images, on the device for training.
        seed: of the run and of the split.
        condition: what the model is told of each image.

    Raises:
        InputError: for parameters that fit neither each other nor the images.
        RunError: if the loss becomes non-finite.
    """
    experiment = experiment_of(given, name, data, seed, _begun(given), condition)
    check_fit(experiment, data)  # before a folder is created
    with _folder(given) as folder:
        say = print if given["verbose"] else lambda line: None
        if given["verbose"]:
            seconds = in_minutes(estimated_seconds(experiment, data))
            say(f"{experiment.training.steps:,} steps, about {seconds} unless it stops improving before")
        experiment, choice = decided(folder, experiment, lambda: data, say)
        with _following(given, name, folder, data, experiment) as watch:
            run = noted(Run.create(folder, experiment), choice)
            describe_run(run, data, "mpdvae.sklearn.MPDVAE.fit")
            if given["time_budget"] is not None:
                run.note(time_budget_seconds=float(given["time_budget"]))
            return Fit(train(run, data, watch).to(data.train.device), experiment, run.history)


def warn_of_early_end(given: dict[str, Any], fit: Fit) -> None:
    """Warns the caller of the estimator's method if the model still improved at the last epoch."""
    fall = fall_at_the_end(fit.experiment, fit.history)
    if fall is None or fall <= FALLING_NATS:
        return
    limits = ["max_iter"] if given["time_budget"] is None or given["max_iter"] != AUTO else []
    limits += [] if given["time_budget"] is None else ["time_budget"]
    warnings.warn(
        f"{', '.join(limits)}: after {fit.epochs} epochs the model still improved, by {fall:.2g} nats of the "
        f"validation ELBO in the last quarter; set a larger {' or '.join(limits)}.",
        ConvergenceWarning,
        stacklevel=3,
    )


def divided(given: dict[str, Any], images: Images, seed: int) -> Splits:
    """Splits images into training and validation images; there are no test images."""
    fraction: Any = given["validation_fraction"]
    if not (isinstance(fraction, Real) and 0 < float(fraction) < 1):
        raise InputError(f"validation_fraction: expected a number between 0 and 1, got {fraction!r}.")
    size = min(max(round(float(fraction) * len(images)), 2), len(images) - 2)
    train, validation = (images.take(chosen) for chosen in split_train_validation(len(images), size, seed))
    return Splits.of("own", "own images", train, validation, validation, seed)


def check_numbers(given: dict[str, Any]) -> None:
    """Raises `InputError` for parameters that are computed with before they are validated, and are no numbers."""
    others = {"max_iter": (AUTO,), "batch_size": (), "importance_samples": (), "n_iter_no_change": (None, AUTO)}
    others |= {"levels": ()}
    for name, also in others.items():
        if not isinstance(value := given[name], Integral) and value not in also:
            raise InputError(
                f"{name}: expected {listed(['a whole number', *map(repr, also)], last='or')}, got {value!r}."
            )
    budget = given["time_budget"]
    if budget is not None and (
        isinstance(budget, bool) or not (isinstance(budget, Real) and 0 < float(budget) < float("inf"))
    ):
        raise InputError(f"time_budget: expected seconds above 0, or None, got {budget!r}.")
    if given["run_folder"] is not None and not isinstance(given["run_folder"], str | bytes | os.PathLike):
        raise InputError(f"run_folder: expected a path, or None, got {given['run_folder']!r}.")


def checked_device(given: dict[str, Any]) -> str:
    """Returns the device. Raises `InputError` if torch cannot use it here."""
    begun = None if given["run_folder"] is None else made_on(Path(os.fsdecode(given["run_folder"])))
    device = device_for(given["device"], begun, told=bool(given["verbose"])) or "cpu"
    check_device(device, "device")
    return device


def _begun(given: dict[str, Any]) -> Experiment | None:
    """Returns the experiment of the run in the given folder; None if there is none."""
    folder = None if given["run_folder"] is None else Path(os.fsdecode(given["run_folder"]))
    if folder is None or not (folder / "experiment.json").is_file():
        return None
    run = Run(folder)
    before, budget = run.manifest.get("time_budget_seconds"), given["time_budget"]
    if budget is not None and before != budget:
        was, advice = ("none", "leave it out") if before is None else (f"{before:g} s", "give the same")
        raise InputError(
            f"time_budget: the fit in {folder} was given {was}, got {budget:g}; {advice}, or another run_folder.",
            topic="options",
        )
    return run.experiment


@contextmanager
def _folder(given: dict[str, Any]) -> Iterator[Path]:
    """Yields the given run folder, or a temporary one that is deleted afterwards."""
    if given["run_folder"] is not None:
        yield Path(os.fsdecode(given["run_folder"]))
    else:
        with tempfile.TemporaryDirectory(prefix="mpdvae-") as folder:
            yield Path(folder)


@contextmanager
def _following(given: dict[str, Any], name: str, folder: Path, data: Splits, experiment: Experiment) -> Iterator[Watch]:
    """Yields the progress callback of the training loop, which is silent unless `verbose`."""
    if not given["verbose"]:
        yield lambda done, entry: None
        return
    with Watcher(f"{name}: {len(data.train)} training and {len(data.validation)} validation images") as watcher:
        yield watcher.following(folder.name, experiment.training.steps)
