"""The training loop, which all runs use.

Step k of a run depends only on the configuration and on the weights after step k-1: the order of the images, their
binarisation and the noise of z are functions of (seed, step). Because there is a checkpoint at every evaluation point, a
resumed run ends with the same bytes as an uninterrupted one.

The recipe (Adam or Adamax, decay per step, halving at a plateau with a fresh optimiser, clipping, averaged weights,
data-dependent initialisation, selection by validation ELBO) is that of the released code of MAE. A step rule
(`mpdvae.objectives.step_rules`) determines what a step updates: encoder, decoder and prior together, or the encoder ahead.
Several processes divide every batch among them (`mpdvae.system.batch_sharding`) and do everything else identically.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn, optim

from mpdvae.data import Splits, batch_indices, evaluation_images, steps_per_epoch, training_batch
from mpdvae.errors import InputError, RunError
from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.training_config import Training
from mpdvae.measures import collapse
from mpdvae.measures.memory_budget import shortage_ends, shortage_told
from mpdvae.models.acceleration import compile_networks, run_in_bfloat16
from mpdvae.objectives.step_rules import trainable
from mpdvae.objectives.terms import Loss
from mpdvae.runs.checksums import recording
from mpdvae.runs.model_folder import load
from mpdvae.runs.recorded_names import recordable
from mpdvae.runs.run_folder import Run
from mpdvae.seeding import derive_seed, seeded
from mpdvae.system import process_group
from mpdvae.system.allocator import keep_freed_memory
from mpdvae.system.batch_sharding import check_batch, divided, own
from mpdvae.system.signals import Stop
from mpdvae.training.learner_state import Checkpoint, Learner, Progress
from mpdvae.training.loss_sums import LossSums
from mpdvae.training.nonfinite_recovery import (
    NotFinite,
    check_loss,
    check_measured,
    check_norm,
    diverged,
    in_words,
    kept_if_skipped,
    overflow_is_told,
    returned,
)
from mpdvae.training.validation import measured_together, probe, validate
from mpdvae.vae import VAE

Watch = Callable[[int, dict[str, Any] | None], None]
"""Callback after every step: receives the number of completed steps and, at evaluation points, the new history entry."""


@recording
def train(
    run: Run,
    data: Splits,
    watch: Watch = lambda done, entry: None,
    say: Callable[[str], None] = lambda line: None,
    stop: Stop | None = None,
) -> VAE:
    """Trains the experiment of `run` on `data`, from its newest checkpoint if it has one, and returns the best averaged
    model, which is also in the run folder. From then on the process keeps memory that it frees (`mpdvae.system.allocator`).

    Arguments:
        watch: callback after every step.
        say: callback for messages to the user: a damaged checkpoint, a rollback to an earlier one.
        stop: checked after every step; if the process was asked to stop, a checkpoint is saved.

    Raises:
        InputError: the experiment does not fit the data.
        RunError: the loss is no longer finite (`nonfinite_recovery`); or a step needs more memory than is available.
        Stopped: the process was asked to stop.
    """
    t, stop = run.experiment.training, stop or Stop()
    check_batch(t.batch_size)
    keep_freed_memory()
    x_validation = _validation_images(run.experiment, data)
    less = f"close other programs and resume {run.path}, or train again with a smaller training.batch_size or decoder."
    with shortage_ends(less):
        course = Course.begin(run, data, say)
    with stop.deferred(), shortage_told(say), shortage_ends(less):
        while course.progress.step < t.steps and not course.progress.stopped:
            try:
                _step_or_skip(course, data)
                entry = _evaluation_point(run, course, data, x_validation) if _is_due(course.progress.step, t) else None
            except NotFinite as why:
                course = _go_back(run, data, course, why, say)
                continue
            watch(course.progress.step, entry)
            if process_group.any_is(bool(stop.asked_by)):
                stop.asked_by = stop.asked_by or "another process"
            if stop.asked_by and not entry:
                run.save_checkpoint(course.progress.step, *course.checkpoint(), passing=True)
            stop.check()
        run.note(status="trained", stopped=course.progress.stopped)
    process_group.wait_for_all()  # until the first process has saved the model
    return load(run.path)


@dataclass
class Course:
    """The state of a run: the learner, the measurements so far, and the sums since the last one."""

    learner: Learner
    history: list[dict[str, Any]]
    tally: LossSums
    started: float
    """Monotonic time of the last evaluation point, or of the start of this process's training, in seconds."""

    @property
    def progress(self) -> Progress:
        return self.learner.progress

    @classmethod
    def begin(cls, run: Run, data: Splits, say: Callable[[str], None], passing: bool = True) -> "Course":
        """Returns the state of the newest checkpoint of `run`, with or without `passing` ones; without a checkpoint, the
        state before the first step."""
        t, learner, tally = run.experiment.training, Learner.start(run.experiment, data), LossSums()
        checkpoint, history = run.load_checkpoint(say, passing, learner.largest_checkpoint()), []
        if not process_group.agree(checkpoint[1]["step"] if checkpoint else 0):
            raise RunError(
                f"{run.path}: the processes find different checkpoints there; use a folder that all machines share.",
                topic="workers",
            )
        if checkpoint is None:
            learner.initialise(data)
        else:
            with _misfit_is_told(run):
                learner.restore(checkpoint)
            tally = LossSums.restored(checkpoint[0], checkpoint[1].get("tally", {}), data.train.device)
            history = [entry for entry in run.history if entry["step"] <= learner.progress.step]
        if t.precision == "bfloat16":
            run_in_bfloat16(learner.vae)
            run_in_bfloat16(learner.averaged)
        if t.compile and compile_networks(learner.vae):
            compile_networks(learner.averaged, fixed_sizes=True)
        return cls(learner, history, tally, time.perf_counter())

    def checkpoint(self) -> Checkpoint:
        """Returns everything that `begin` needs."""
        (tensors, state), (sums, counts) = self.learner.checkpoint(), self.tally.checkpoint()
        return tensors | sums, state | {"tally": counts}


def _is_due(step: int, t: Training) -> bool:
    return step % t.evaluate_every == 0 or step == t.steps


def _step_or_skip(course: Course, data: Splits) -> None:
    """Performs one step, or skips it if a value is not finite. Raises `NotFinite` after too many skips in a row."""
    learner = course.learner
    try:
        with kept_if_skipped(learner.vae):
            course.tally.add(*training_step(learner, data))
    except NotFinite:
        learner.skipped()
        course.tally.skipped += 1
        if learner.progress.skipped_in_a_row >= learner.experiment.training.recovery.skipped_in_a_row:
            raise


def _evaluation_point(run: Run, course: Course, data: Splits, x: Tensor) -> dict[str, Any]:
    """Measures, keeps the best model and saves a checkpoint; returns the entry of the history."""
    learner, epoch_steps = course.learner, steps_per_epoch(len(data.train), run.experiment.training.batch_size)
    course.tally.refuse_broken(course.progress.step)
    entry = _evaluate(course, x, epoch_steps)
    course.history.append(entry)
    with overflow_is_told():
        learner.rule.evaluated(learner.vae, x)
    if learner.judge(entry["negative_elbo_nats"]):
        run.save_model(learner.averaged, data.image_shape, recordable(data.class_names))
    run.write_history(course.history)
    course.tally = LossSums()
    # A skipped step may belong to a series that ends in a rollback, which must not lead here.
    passing = course.progress.skipped_in_a_row > 0
    run.save_checkpoint(course.progress.step, *course.checkpoint(), passing)
    _note(run, course)
    course.started = time.perf_counter()
    return entry


def _go_back(run: Run, data: Splits, course: Course, why: NotFinite, say: Callable[[str], None]) -> Course:
    """Rolls back to the checkpoint of the last evaluation point, or to the start, with a smaller learning rate. Raises
    `RunError` if the run has no rollbacks left."""
    settings, before = run.experiment.training.recovery, course.progress
    if len(before.rollbacks) >= settings.rollbacks:
        raise diverged(before, why)
    course = Course.begin(run, data, say, passing=False)
    learner, after = course.learner, course.progress
    returns = len(before.rollbacks) + 1 - len(after.rollbacks)  # since that checkpoint
    learner.learning_rate *= settings.learning_rate_factor**returns
    after.rollbacks = returned(before, after, learner.learning_rate, why)
    # The best model may be from the abandoned path.
    after.best_negative_elbo_nats = min(before.best_negative_elbo_nats, after.best_negative_elbo_nats)
    say(f"training: {in_words(after.rollbacks[-1])}")
    return course


def training_step(learner: Learner, data: Splits) -> tuple[Loss, Tensor]:
    """Performs one update; returns its loss and the norm of the gradient before clipping. Raises `NotFinite` if a value is
    not finite; the weights are then unchanged."""
    e, step = learner.experiment, learner.progress.step
    indices = batch_indices(len(data.train), e.training.batch_size, e.seed, step)
    x = training_batch(data.train, indices, e.data.protocol(), e.seed, step)
    data.train.expect(batch_indices(len(data.train), e.training.batch_size, e.seed, step + 1))
    learner.vae.train()
    learner.rule.catch_up(partial(_encoder_step, learner, data))
    loss = batch_loss(learner, x, e.seed)
    check_loss(loss)
    norm = _update(loss, learner.rule.moving(learner.vae), learner.optimizer, e.training.clip_norm)
    learner.objective.adapt(loss)
    learner.stepped()
    return loss, norm


def batch_loss(learner: Learner, x: Tensor, seed: int) -> Loss:
    """Returns the objective on the batch `x`; each process passes its own images through the networks."""
    step = learner.progress.step
    with seeded(seed, "noise", step), overflow_is_told(), divided(len(x)):
        return learner.objective(learner.vae, own(x), step)


def _update(loss: Loss, moving: list[nn.Parameter], optimizer: optim.Optimizer, clip_norm: float | None) -> Tensor:
    """Performs one step of the optimiser down the gradient of `loss`; parameters that are not `moving` stay unchanged.
    Returns the norm of the gradient before clipping; raises `NotFinite`, before any update, if it is not finite."""
    optimizer.zero_grad(set_to_none=True)
    loss.forward.backward(loss.total, moving)
    norm = nn.utils.clip_grad_norm_(moving, math.inf if clip_norm is None else clip_norm)
    check_norm(norm)
    optimizer.step()
    return norm


def _encoder_step(learner: Learner, data: Splits, number: int) -> float:
    """Updates only the encoder, on a batch that is a function of (seed, step, number); returns the loss there."""
    e, step = learner.experiment, learner.progress.step
    seed = derive_seed(e.seed, "encoder step", number)
    with seeded(seed, "images", step):
        indices = torch.randperm(len(data.train))[: e.training.batch_size]
    x = training_batch(data.train, indices, e.data.protocol(), seed, step)
    loss = batch_loss(learner, x, seed)
    check_loss(loss)
    _update(loss, trainable(learner.vae.encoder), learner.optimizer, e.training.clip_norm)
    return loss.total.item()


def _evaluate(course: Course, x: Tensor, epoch_steps: int) -> dict[str, Any]:
    """Returns the entry of the history at an evaluation point."""
    terms, progress = course.tally.means(), course.progress
    entry = {
        "step": progress.step,
        "epoch": round(progress.step / epoch_steps, 6),
        "learning_rate": course.learner.learning_rate,
        "loss_nats": sum(terms.values()) if terms else None,
        "terms_nats": terms,
        "skipped_steps": course.tally.skipped,
        "rollbacks": len(progress.rollbacks),
        **_measure(course.learner, x, progress.step),
    }
    entry["verdict_since_step"] = collapse.since([*course.history, entry])
    return entry


def _measure(learner: Learner, x: Tensor, step: int) -> dict[str, Any]:
    """Returns all measurements of the averaged model at an evaluation point."""
    samples = learner.experiment.training.validation_samples
    try:
        validation = validate(learner.averaged, x, samples, seed=0)
        measured = measured_together(validation, probe(learner.averaged, learner.objective, x, step))
    except InputError:
        raise  # of a model that does not have what is measured; its sentence says so
    except (ValueError, RunError) as error:  # a distribution or a measure was given a non-finite value
        raise NotFinite("what was measured of the averaged model") from error
    check_measured(measured)
    return measured


def _validation_images(e: Experiment, data: Splits) -> Tensor:
    protocol, wanted, chosen = e.data.protocol(), e.training.validation_images, None
    count = len(data.validation) * protocol.evaluation_draws
    if wanted is not None and wanted < count:
        with seeded(protocol.split_seed, "validation images"):
            chosen = torch.randperm(count)[:wanted]
    x, _ = evaluation_images(data.validation, protocol, "validation", chosen=chosen)
    if len(x) < 2:
        raise InputError(f"training.validation_images: the divergence needs at least 2 images, got {len(x)}.")
    return x


@contextmanager
def _misfit_is_told(run: Run) -> Iterator[None]:
    """Raises `RunError` for a checkpoint that is intact but of another model: its author can forge the checksum, too."""
    try:
        yield
    except (KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            f"{run.path / 'checkpoints'}: the newest checkpoint does not fit the model of experiment.json ({reason}); "
            "delete that folder to train this run from the beginning.",
            topic="damaged",
        ) from None


def _note(run: Run, course: Course) -> None:
    """Records the progress of training in the manifest."""
    seconds = run.manifest.get("training_seconds", 0.0) + time.perf_counter() - course.started
    run.note(
        status="training",
        training_seconds=round(seconds, 1),
        saved=datetime.now(UTC).isoformat(timespec="seconds"),
        skipped_steps=course.progress.skipped,
        rollbacks=list(map(in_words, course.progress.rollbacks)),
    )
