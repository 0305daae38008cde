"""The one training loop.

Step k of a run depends on the configuration and on the weights after step k-1, on nothing else: the order of the images,
their binarisation and the noise of z are functions of (seed, step). A checkpoint at every evaluation point therefore makes
a resumed run end with the same bytes as an uninterrupted one.

The recipe (Adam or Adamax, decay per step, halving at a plateau with a fresh optimiser, clipping, averaged weights,
data-dependent initialisation, selection by validation ELBO) is that of the released code of MAE. What a step moves is said
by a step rule (`mpdvae.inference`): encoder, decoder and prior together, or the encoder ahead. Several processes divide every
batch among them (`mpdvae.division`) and do all else alike.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn, optim

from mpdvae import collapse, processes
from mpdvae.acceleration import compile_networks, run_in_bfloat16
from mpdvae.data import Splits, batch_indices, evaluation_images, steps_per_epoch, training_batch
from mpdvae.division import check_batch, divided, own
from mpdvae.errors import InputError, RunError
from mpdvae.experiment import Experiment
from mpdvae.learner import Learner
from mpdvae.objective import Loss
from mpdvae.runs import Run, load
from mpdvae.seeding import derive_seed, seeded
from mpdvae.tally import Tally, diverged, overflow_is_told, refuse_not_finite
from mpdvae.vae import VAE
from mpdvae.validation import probe, validate

Watch = Callable[[int, dict[str, Any] | None], None]
"""Called after every step with the number of steps done, and with the new history entry at evaluation points."""


def train(run: Run, data: Splits, watch: Watch = lambda done, entry: None) -> VAE:
    """Trains the experiment of `run` on `data`, from its newest checkpoint if it has one, and returns the best averaged
    model, which is also in the run folder.

    Raises:
        InputError: the experiment does not fit the data.
        RunError: the loss is no longer a finite number.
    """
    t = run.experiment.training
    check_batch(t.batch_size)
    x_validation = _validation_images(run.experiment, data)
    learner, history = _begin(run, data)
    progress = learner.progress
    started, tally = time.perf_counter(), Tally()
    while progress.step < t.steps and not progress.stopped:
        tally.add(*_step(learner, data))
        entry, evaluating = None, progress.step % t.evaluate_every == 0 or progress.step == t.steps
        if evaluating or x_validation.device.type == "cpu":
            tally.refuse_broken(progress.step)
        if evaluating:
            entry = _evaluate(learner, x_validation, tally, history, steps_per_epoch(len(data.train), t.batch_size))
            history.append(entry)
            learner.rule.evaluated(learner.vae, x_validation)
            if learner.judge(entry["negative_elbo_nats"]):
                run.save_model(learner.averaged, data.image_shape)
            run.write_history(history)
            run.save_checkpoint(progress.step, *learner.checkpoint())
            _note_time(run, started)
            started, tally = time.perf_counter(), Tally()
        watch(progress.step, entry)
    run.note(status="trained", stopped=progress.stopped)
    processes.wait_for_all()  # the model is there for all
    return load(run.path)


def _begin(run: Run, data: Splits) -> tuple[Learner, list[dict[str, Any]]]:
    """The learner and the history, as the newest checkpoint of `run` has them; else before the first step."""
    t, learner, checkpoint = run.experiment.training, Learner.start(run.experiment, data), run.load_checkpoint()
    history = []
    if not processes.agree(checkpoint[1]["step"] if checkpoint else 0):
        raise RunError(
            f"{run.path}: processes find different checkpoints there; give a folder that all machines share."
        )
    if checkpoint is None:
        learner.initialise(data)
    else:
        learner.restore(checkpoint)
        history = [entry for entry in run.history if entry["step"] <= learner.progress.step]
    if t.precision == "bfloat16":
        run_in_bfloat16(learner.vae)
    if t.compile:
        compile_networks(learner.vae)
    return learner, history


def _step(learner: Learner, data: Splits) -> tuple[Loss, Tensor]:
    """One update; returns its loss and the norm of the gradient before it was clipped."""
    e, step = learner.experiment, learner.progress.step
    indices = batch_indices(len(data.train), e.training.batch_size, e.seed, step)
    x = training_batch(data.train, indices, e.data.protocol(), e.seed, step)
    learner.vae.train()
    learner.rule.catch_up(partial(_encoder_step, learner, data))
    loss = _loss(learner, x, e.seed)
    norm = _update(loss.total, learner.rule.moving(learner.vae), learner.optimizer, e.training.clip_norm)
    learner.objective.adapt(loss)
    learner.stepped()
    return loss, norm


def _loss(learner: Learner, x: Tensor, seed: int) -> Loss:
    """The objective on the batch `x`, of which each process passes its own images through the networks."""
    step = learner.progress.step
    with seeded(seed, "noise", step), overflow_is_told(step), divided(len(x)):
        return learner.objective(learner.vae, own(x), step)


def _update(loss: Tensor, moving: list[nn.Parameter], optimizer: optim.Optimizer, clip_norm: float | None) -> Tensor:
    """One step of the optimiser down the gradient of `loss`; parameters that are not `moving` stay where they are. Returns
    the norm of the gradient before it was clipped."""
    optimizer.zero_grad(set_to_none=True)
    processes.backward(loss, moving)
    norm = nn.utils.clip_grad_norm_(moving, math.inf if clip_norm is None else clip_norm)
    optimizer.step()
    return norm


def _encoder_step(learner: Learner, data: Splits, number: int) -> float:
    """Moves the encoder alone, on a batch that is a function of (seed, step, number); returns the loss there."""
    e, step = learner.experiment, learner.progress.step
    seed = derive_seed(e.seed, "encoder step", number)
    with seeded(seed, "images", step):
        indices = torch.randperm(len(data.train))[: e.training.batch_size]
    x = training_batch(data.train, indices, e.data.protocol(), seed, step)
    loss = _loss(learner, x, seed).total
    norm = _update(loss, list(learner.vae.encoder.parameters()), learner.optimizer, e.training.clip_norm)
    if not torch.isfinite(loss + norm):
        raise diverged(step)
    return loss.item()


def _evaluate(
    learner: Learner, x: Tensor, tally: Tally, history: list[dict[str, Any]], epoch_steps: int
) -> dict[str, Any]:
    """The entry of the history at an evaluation point."""
    terms, step = tally.means(), learner.progress.step
    entry = {
        "step": step,
        "epoch": round(step / epoch_steps, 6),
        "learning_rate": learner.learning_rate,
        "loss_nats": sum(terms.values()),
        "terms_nats": terms,
        **_measure(learner, x, step),
    }
    entry["verdict_since_step"] = collapse.since([*history, entry])
    return entry


def _measure(learner: Learner, x: Tensor, step: int) -> dict[str, Any]:
    """All that is measured of the averaged model at an evaluation point."""
    samples = learner.experiment.training.validation_samples
    try:
        measured = asdict(validate(learner.averaged, x, samples, seed=0))
        measured |= asdict(probe(learner.averaged, learner.objective, x, step))
    except (ValueError, RunError) as error:  # a law or a measure that was given what is no number
        raise diverged(step) from error
    refuse_not_finite(measured, step)
    return measured


def _validation_images(e: Experiment, data: Splits) -> Tensor:
    protocol = e.data.protocol()
    x, _ = evaluation_images(data.validation, protocol, "validation")
    if e.training.validation_images is None or e.training.validation_images >= len(x):
        chosen = x
    else:
        with seeded(protocol.split_seed, "validation images"):
            chosen = x[torch.randperm(len(x))[: e.training.validation_images].to(x.device)]
    if len(chosen) < 2:
        raise InputError(f"training.validation_images: the divergence needs at least 2 images, got {len(chosen)}.")
    return chosen


def _note_time(run: Run, started: float) -> None:
    seconds = run.manifest.get("training_seconds", 0.0) + time.perf_counter() - started
    run.note(
        status="training", training_seconds=round(seconds, 1), saved=datetime.now(UTC).isoformat(timespec="seconds")
    )
