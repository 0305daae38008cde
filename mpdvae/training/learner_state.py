"""The learner, with everything that a checkpoint holds of it: weights, their running average, the optimiser's moments,
adaptive weights of the objective, the state of the step rule, and the progress of training.

Validation, sampling and results use the running average a_k = d_k a_{k-1} + (1 - d_k) w_k of the weights w_k after step k,
with a_0 = w_0. The released code of MAE has d_k = d. With a warm-up d_k = min(d, (1 + k) / (10 + k)), the schedule of
TensorFlow's `ExponentialMovingAverage(num_updates=k)`: the average then spans about the last tenth of the steps until that
is longer than 1 / (1 - d), and so does not lag behind in short runs, in which w_0 keeps a weight of d^k otherwise.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, cast

import torch
from torch import Tensor, optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mpdvae.data import Splits, training_batch
from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.training_config import Training
from mpdvae.models.conditional import EXAMPLES
from mpdvae.objectives.step_rules import StepRule
from mpdvae.objectives.terms import Objective
from mpdvae.seeding import seeded
from mpdvae.system.process_group import take_from_first
from mpdvae.vae import VAE

MultiAverage = Callable[[Any, Any, Tensor | int], None]
"""From averaged tensors, current ones, and the number of updates so far: updates the averaged ones in place."""
Checkpoint = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by `part/name`, and plain numbers."""

FEWEST_INITIAL_IMAGES = 16
"""Minimum number of images for data-dependent initialisation: the spread of a unit over a few images may be next to nothing,
and the unit rescaled by it overflows on every other image."""


SMALL_BYTES = 1 << 16
"""More than what is small in a checkpoint for each tensor: names, counts of steps, sums of the loss."""


@dataclass
class Progress:
    """State that changes besides the weights; all of it is in a checkpoint."""

    step: int = 0
    best_negative_elbo_nats: float = float("inf")
    evaluations_without_progress: int = 0
    plateaus: int = 0
    stopped: str = ""
    """Why training ended before its last step; empty while it continues."""
    skipped_in_a_row: int = 0
    """Number of latest steps that were skipped in a row, see `nonfinite_recovery`."""
    skipped: int = 0
    """Number of skipped steps on the path that led here."""
    rollbacks: list[dict[str, Any]] = field(default_factory=list)
    """Rollbacks to a checkpoint, with a smaller learning rate."""


@dataclass
class Learner:
    """One model in training. `start` creates it; `restore` sets it to the state of a checkpoint."""

    experiment: Experiment
    vae: VAE
    average: AveragedModel
    optimizer: optim.Optimizer
    objective: Objective
    rule: StepRule
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def start(cls, experiment: Experiment, data: Splits) -> "Learner":
        """Returns the learner before the first step, on the device of `data`, without data-dependent initialisation."""
        t = experiment.training
        vae = experiment.build(data.image_shape).to(data.train.device)
        # Running statistics of normalisation are averaged like the weights that they belong to.
        average = AveragedModel(vae, multi_avg_fn=averaging(t.averaging, t.averaging_warm_up), use_buffers=True)
        objective = replace(experiment.objective.build(), images_at_once=t.images_at_once)
        return cls(experiment, vae, average, optimizer_of(t, vae), objective, t.inference.build())

    @property
    def averaged(self) -> VAE:
        """The model with averaged weights."""
        return cast(VAE, self.average.module)

    @property
    def learning_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def initialise(self, data: Splits) -> None:
        """Applies data-dependent initialisation; the average starts from the initialised weights."""
        initialise(self.vae, self.experiment, data)
        take_from_first(self.vae.state_dict().values())
        self.average.update_parameters(self.vae)

    def stepped(self) -> None:
        """Updates the average and decays the learning rate, after an update of the weights."""
        self.average.update_parameters(self.vae)
        self.progress.skipped_in_a_row = 0
        self._counted()

    def skipped(self) -> None:
        """Counts a step that was skipped instead of an update, and decays the learning rate."""
        self.progress.skipped_in_a_row += 1
        self.progress.skipped += 1
        self._counted()

    def _counted(self) -> None:
        self.learning_rate *= self.experiment.training.decay_per_step
        self.progress.step += 1

    def judge(self, negative_elbo_nats: float) -> bool:
        """Returns whether an evaluation is the best so far; if not, it counts towards a plateau. Stops training if due."""
        t, p = self.experiment.training, self.progress
        better = negative_elbo_nats < p.best_negative_elbo_nats
        if better:
            p.best_negative_elbo_nats = negative_elbo_nats
            p.evaluations_without_progress = 0
        else:
            self._count_no_progress()
        if self.learning_rate < t.least_learning_rate_fraction * t.learning_rate:
            p.stopped = f"the learning rate fell below {t.least_learning_rate_fraction:g} of the first"
        return better

    def _count_no_progress(self) -> None:
        """At a plateau, halves the learning rate and discards the moments, like the released code."""
        t, p = self.experiment.training, self.progress
        if t.plateau is None or p.evaluations_without_progress < t.plateau.patience:
            p.evaluations_without_progress += 1
            return
        p.evaluations_without_progress = 0
        p.plateaus += 1
        if p.plateaus == t.plateau.limit:
            p.stopped = f"validation stood still {p.plateaus} times"
        if t.plateau.fresh_optimizer:
            self.optimizer = optimizer_of(t, self.vae, self.learning_rate * t.plateau.factor)
        else:
            self.learning_rate *= t.plateau.factor

    def checkpoint(self) -> Checkpoint:
        """Returns everything that `restore` needs."""
        parts = {"model": self.vae.state_dict(), "average": self.average.state_dict()}
        parts |= {f"optimizer.{i}": state for i, state in self.optimizer.state_dict()["state"].items()}
        tensors = {f"{part}/{name}": value.contiguous() for part, of in parts.items() for name, value in of.items()}
        best = self.progress.best_negative_elbo_nats
        state = asdict(self.progress) | {"best_negative_elbo_nats": best if best < float("inf") else None}
        adapted = {"objective": self.objective.state, "inference": self.rule.state}
        return tensors, state | {"learning_rate": self.learning_rate} | adapted

    def largest_checkpoint(self) -> int:
        """Returns an upper limit of the size of a checkpoint's tensors, in bytes: weights, their average, two moments, and
        some small ones."""
        tensors = [tensor.numel() * tensor.element_size() for tensor in self.vae.state_dict().values()]
        return 4 * sum(tensors) + SMALL_BYTES * (len(tensors) + 1)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restores the state in `checkpoint`, of a learner of the same experiment."""
        tensors, state = checkpoint
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, key = name.split("/", 1)
            parts.setdefault(part, {})[key] = tensor
        self.vae.load_state_dict(parts.pop("model"))
        self.average.load_state_dict(parts.pop("average"))
        groups = self.optimizer.state_dict()["param_groups"]
        moments = {}
        for i, parameter in enumerate(self.vae.parameters()):
            if f"optimizer.{i}" in parts:  # the step rule may not have updated it yet
                values = parts[f"optimizer.{i}"]
                moments[i] = {name: _laid_out_like(parameter, value) for name, value in values.items()}
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.learning_rate = state["learning_rate"]
        # Checkpoints of earlier versions lack both, because nothing was adaptive there.
        self.objective.restore(state.get("objective", {}))
        self.rule.state |= state.get("inference", {})
        best = state["best_negative_elbo_nats"]
        known: dict[str, Any] = {f.name: state[f.name] for f in fields(Progress) if f.name in state}
        known["best_negative_elbo_nats"] = float("inf") if best is None else best
        self.progress = Progress(**known)


def averaging(decay: float, warm_up: bool) -> MultiAverage:
    """Returns the update of the averaged tensors for `torch.optim.swa_utils.AveragedModel`; see the module's head."""
    if not warm_up:
        return get_ema_multi_avg_fn(decay)

    def update(averaged: tuple[Tensor, ...] | list[Tensor], current: Any, count: Tensor | int) -> None:
        k = int(count)  # of updates so far, of which the first one copied w_0
        get_ema_multi_avg_fn(min(decay, (1 + k) / (10 + k)))(averaged, current, count)

    return update


def initialise(vae: VAE, e: Experiment, data: Splits) -> None:
    """Applies data-dependent initialisation to the model that `e` builds, on random training images; a function of the
    seed. With fewer than `FEWEST_INITIAL_IMAGES` the weights stay as they were drawn, and only conditions are kept: not of
    these few, which tell neither the spread nor the range of covariates."""
    with seeded(e.seed, "initial images"):
        indices = torch.randperm(len(data.train))
    few = min(e.training.initial_images, len(indices)) < FEWEST_INITIAL_IMAGES
    chosen = indices[: EXAMPLES if few else e.training.initial_images]
    x = training_batch(data.train, chosen, e.data.protocol(), e.seed, step=-1)
    if few:
        vae.keep_conditions(x)
    else:
        vae.initialise(x)


def optimizer_of(settings: Training, vae: VAE, learning_rate: float | None = None) -> optim.Optimizer:
    """Returns the optimiser that `settings` specify, with their learning rate unless another is given."""
    learning_rate = settings.learning_rate if learning_rate is None else learning_rate
    if settings.optimizer == "adamax":
        return optim.Adamax(vae.parameters(), lr=learning_rate, betas=settings.betas)
    return optim.Adam(vae.parameters(), lr=learning_rate, betas=settings.betas, fused=True)


def _laid_out_like(parameter: Tensor, moment: Tensor) -> Tensor:
    """Returns the moment in the parameter's memory layout, because the fused optimiser steps through memory element by
    element.

    Raises `ValueError` if the moment neither has the parameter's shape nor is a step count.
    """
    if moment.numel() == 1 and moment.shape != parameter.shape:
        return moment
    if moment.shape != parameter.shape:
        raise ValueError(f"a moment has shape {tuple(moment.shape)}, its parameter {tuple(parameter.shape)}")
    return torch.empty_like(parameter).copy_(moment)
