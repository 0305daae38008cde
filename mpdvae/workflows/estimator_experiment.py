"""The experiment that the parameters of the estimator stand for, and how long it takes.

`max_iter="auto"` is a number of epochs that is enough for good codes (`mpdvae.experiments.presets`). With a `time_budget`, a
step is timed before the first one is taken, and the number of epochs is what fits: it becomes part of the experiment, so that
a fit stays a function of its experiment, whatever the machine does meanwhile.
"""

from statistics import median
from typing import Any

import numpy as np
from pydantic import ValidationError

from mpdvae.data import Splits, steps_per_epoch
from mpdvae.data.conditions import Condition
from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment, Origin, in_words
from mpdvae.experiments.presets import AUTO, are_drawings, enough_epochs, parts, patience_of, short_training, values_for
from mpdvae.workflows.matrix_cost import step_seconds

PARAMETERS = {
    "training.steps": "max_iter",
    "training.": "",
    "objective.": "",
    "data.levels": "levels",
    "data.condition_classes": "labels",
    "data.condition_covariates": "covariates",
}
"""Names of experiment fields, and the parameter names that replace them in messages."""
TOLD_NOTHING = Condition()
TIMINGS = 3
"""Number of times that a step is timed; the median counts."""
OTHER_SHARE = 0.45
"""Time of everything but the steps, evaluation points above all, as a fraction of theirs: 0.39 for the default networks and
0.51 for `decoder="convnet"`, measured on 2,000 images of MNIST."""
MOST_EPOCHS = 10_000


def experiment_of(
    given: dict[str, Any],
    name: str,
    data: Splits,
    seed: int,
    begun: Experiment | None = None,
    condition: Condition = TOLD_NOTHING,
) -> Experiment:
    """Returns the experiment of a fit.

    Arguments:
        given: parameters of the estimator (`get_params()`).
        name: of the model.
        data: images to train on.
        seed: of the run and of the split.
        begun: experiment of the run that the fit continues: its number of epochs was set by a budget of time when it began.
        condition: what the model is told of each image.

    Raises:
        InputError: for parameters that fit neither each other nor the images.
    """
    epoch_steps = steps_per_epoch(len(data.train), min(given["batch_size"], len(data.train)))
    epochs = enough_epochs(epoch_steps) if given["max_iter"] == AUTO else given["max_iter"]
    experiment = _experiment(given, name, data, seed, epochs, epoch_steps, condition)
    if given["time_budget"] is None:
        return experiment
    if begun is not None:
        epochs = max(1, begun.training.steps // epoch_steps)
        return _experiment(given, name, data, seed, epochs, epoch_steps, condition)
    fitting = int(given["time_budget"] / (_seconds_per_step(experiment, data) * epoch_steps))
    epochs = min(max(1, fitting), MOST_EPOCHS if given["max_iter"] == AUTO else epochs)
    return _experiment(given, name, data, seed, epochs, epoch_steps, condition)


def estimated_seconds(experiment: Experiment, data: Splits) -> float:
    """Returns about how many seconds the experiment takes on the device of `data`, if it does not stop early: a step is timed
    in float32, uncompiled, on random images."""
    return _seconds_per_step(experiment, data) * experiment.training.steps


def in_minutes(seconds: float) -> str:
    """Returns a duration in words, to the precision of an estimate."""
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def parameters_of(origin: Origin) -> dict[str, Any]:
    """Returns the parameters of an estimator with the networks of a trained model."""
    e, (channel, height, width) = origin.experiment, origin.image_shape
    return {
        "latent_dim": e.latent_dim,
        "diversity_weight": e.objective.diversity_weight,
        "smoothness_weight": e.objective.smoothness_weight,
        "decoder": e.decoder,
        "encoder": e.encoder,
        "prior": e.prior,
        "levels": e.data.levels,
        "batch_size": e.training.batch_size,
        "learning_rate": e.training.learning_rate,
        "image_shape": (height, width) if channel == 1 else origin.image_shape,
    }


def _seconds_per_step(experiment: Experiment, data: Splits) -> float:
    """Returns the time of a step with its share of everything else."""
    batch = experiment.training.batch_size
    batches = (max(1, batch // 4), max(2, batch))
    timed = [step_seconds(experiment, data.image_shape, batches, data.train.device) for _ in range(TIMINGS)]
    return median(timed) * (1 + OTHER_SHARE)


def _experiment(
    given: dict[str, Any], name: str, data: Splits, seed: int, epochs: int, epoch_steps: int, condition: Condition
) -> Experiment:
    channels = data.image_shape[0]
    networks = parts(
        given, channels, channels != 1 or (given["levels"] == 256 and are_drawings(next(data.train.pieces())))
    )
    values = values_for(networks["decoder"], channels, given["levels"])
    binarisation = {} if values == "binary" else {"binarisation": values}
    told = {f"condition_{what}": number for what, number in condition._asdict().items() if number}
    tree = {
        "name": "own-images",
        "model": name,
        "seed": seed,
        "latent_dim": given["latent_dim"],
        "data": {"dataset": "own", "evaluation_draws": 1, "split_seed": seed, "levels": given["levels"]}
        | binarisation
        | told,
        "objective": {name: given[name] for name in ("diversity_weight", "smoothness_weight")},
        "training": short_training(epochs, epoch_steps, _patience(given["n_iter_no_change"], epochs))
        | {
            "batch_size": min(given["batch_size"], len(data.train)),
            "learning_rate": given["learning_rate"],
            "precision": given["precision"],
        },
    }
    try:
        return Experiment.model_validate(_plain(tree) | networks)
    except ValidationError as error:
        sentence = in_words(error)
        for field, parameter in PARAMETERS.items():
            sentence = sentence.replace(field, parameter)
        raise InputError(sentence) from None


def _patience(given: int | str | None, epochs: int) -> int | None:
    patience = patience_of(epochs) if given == AUTO else given
    if patience is not None and int(patience) < 2:
        raise InputError(f"n_iter_no_change: expected at least 2 epochs, None or {AUTO!r}, got {patience}.")
    return None if patience is None else int(patience)


def _plain(tree: Any) -> Any:
    """Converts numpy scalars, which parameter grids often hold, to Python numbers."""
    if isinstance(tree, dict):
        return {name: _plain(value) for name, value in tree.items()}
    return tree.item() if isinstance(tree, np.generic) else tree
