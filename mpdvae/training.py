"""The one training loop.

Step k of a run depends on the configuration and on the weights after step k-1, on nothing else: the order of the images,
their binarisation and the noise of z are functions of (seed, step). A checkpoint at every evaluation point therefore makes
a resumed run end with the same bytes as an uninterrupted one.

The recipe (Adam or Adamax, decay per step, halving at a plateau with a fresh optimiser, clipping, averaged weights,
data-dependent initialisation, selection by validation ELBO) is that of the released code of MAE. What a step moves is said
by a step rule (`mpdvae.inference`): encoder, decoder and prior together, or the encoder ahead.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn, optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mpdvae import collapse
from mpdvae.acceleration import compile_networks, run_in_bfloat16
from mpdvae.data import Protocol, Splits, batch_indices, evaluation_images, steps_per_epoch, training_batch
from mpdvae.errors import InputError, RunError
from mpdvae.experiment import Experiment, Training
from mpdvae.objective import Loss, Objective
from mpdvae.runs import Run, load
from mpdvae.seeding import derive_seed, seeded
from mpdvae.vae import VAE
from mpdvae.validation import probe, validate

Watch = Callable[[int, dict[str, Any] | None], None]
"""Called after every step with the number of steps done, and with the new history entry at evaluation points."""


@dataclass
class Progress:
    """What changes besides weights; all of it is in a checkpoint."""

    step: int = 0
    best_negative_elbo_nats: float = float("inf")
    evaluations_without_progress: int = 0
    plateaus: int = 0
    stopped: str = ""
    """Why training ended before its last step; empty while it goes on."""


def train(run: Run, data: Splits, watch: Watch = lambda done, entry: None) -> VAE:
    """Trains the experiment of `run` on `data`, from its newest checkpoint if it has one, and returns the best averaged
    model, which is also in the run folder.

    Raises:
        InputError: the experiment does not fit the data.
        RunError: the loss is no longer a finite number.
    """
    e, t = run.experiment, run.experiment.training
    protocol = e.data.protocol()
    objective = e.objective.build()
    x_validation = _validation_images(e, data, protocol)
    vae = e.build(data.image_shape).to(data.train.pixels.device)
    # Running statistics of normalisation are averaged like the weights that they belong to.
    average = AveragedModel(vae, multi_avg_fn=get_ema_multi_avg_fn(t.averaging), use_buffers=True)
    averaged = cast(VAE, average.module)
    optimizer = optimizer_of(t, vae)
    rule = t.inference.build()
    progress, history = Progress(), []
    checkpoint = run.load_checkpoint()
    if checkpoint is None:
        initialise(vae, e, data)
        average.update_parameters(vae)
    else:
        with _misfit_is_told(run):
            progress = _restore(checkpoint, vae, average, optimizer)
        # Checkpoints of earlier versions lack both: there, nothing adapted.
        objective.restore(checkpoint[1].get("objective", {}))
        rule.state |= checkpoint[1].get("inference", {})
        history = [entry for entry in run.history if entry["step"] <= progress.step]
    if t.precision == "bfloat16":
        run_in_bfloat16(vae)
    if t.compile:
        compile_networks(vae)
    epoch_steps = steps_per_epoch(len(data.train), t.batch_size)
    started, sums = time.perf_counter(), _Sums()

    while progress.step < t.steps and not progress.stopped:
        indices = batch_indices(len(data.train), t.batch_size, e.seed, progress.step)
        x = training_batch(data.train, indices, protocol, e.seed, progress.step)
        vae.train()
        rule.catch_up(partial(_encoder_step, e, data, protocol, objective, vae, optimizer, progress.step))
        with seeded(e.seed, "noise", progress.step), _overflow_is_told(progress.step):
            loss = objective(vae, x, progress.step)
        norm = _update(loss.total, rule.moving(vae), optimizer, t.clip_norm)
        objective.adapt(loss)
        average.update_parameters(vae)
        for group in optimizer.param_groups:
            group["lr"] *= t.decay_per_step
        progress.step += 1
        sums.add(loss, norm)

        entry, evaluating = None, progress.step % t.evaluate_every == 0 or progress.step == t.steps
        if evaluating or x.device.type == "cpu":  # reading a result from another device would keep it waiting
            sums.refuse_broken(progress.step)
        if evaluating:
            terms = sums.means()
            measured = _measure(averaged, objective, x_validation, t.validation_samples, progress.step)
            entry = {
                "step": progress.step,
                "epoch": round(progress.step / epoch_steps, 6),
                "learning_rate": optimizer.param_groups[0]["lr"],
                "loss_nats": sum(terms.values()),
                "terms_nats": terms,
                **measured,
            }
            entry["verdict_since_step"] = collapse.since([*history, entry])
            history.append(entry)
            rule.evaluated(vae, x_validation)
            if measured["negative_elbo_nats"] < progress.best_negative_elbo_nats:
                progress.best_negative_elbo_nats = measured["negative_elbo_nats"]
                progress.evaluations_without_progress = 0
                run.save_model(averaged, data.image_shape)
            else:
                optimizer = _after_no_progress(progress, e, vae, optimizer)
            if optimizer.param_groups[0]["lr"] < t.least_learning_rate_fraction * t.learning_rate:
                progress.stopped = f"the learning rate fell below {t.least_learning_rate_fraction:g} of the first"
            run.write_history(history)
            state = _state(progress, optimizer) | {"objective": objective.state, "inference": rule.state}
            run.save_checkpoint(progress.step, _tensors(vae, average, optimizer), state)
            _note_time(run, started)
            started, sums = time.perf_counter(), _Sums()
        watch(progress.step, entry)

    run.note(status="trained", stopped=progress.stopped)
    return load(run.path)


def _update(loss: Tensor, moving: list[nn.Parameter], optimizer: optim.Optimizer, clip_norm: float | None) -> Tensor:
    """One step of the optimiser down the gradient of `loss`; parameters that are not `moving` stay where they are. Returns
    the norm of the gradient before it was clipped."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward(inputs=moving)
    norm = nn.utils.clip_grad_norm_(moving, math.inf if clip_norm is None else clip_norm)
    optimizer.step()
    return norm


def _encoder_step(
    e: Experiment,
    data: Splits,
    protocol: Protocol,
    objective: Objective,
    vae: VAE,
    optimizer: optim.Optimizer,
    step: int,
    number: int,
) -> float:
    """Moves the encoder alone, on a batch that is a function of (seed, step, number); returns the loss there."""
    seed = derive_seed(e.seed, "encoder step", number)
    with seeded(seed, "images", step):
        indices = torch.randperm(len(data.train))[: e.training.batch_size]
    x = training_batch(data.train, indices, protocol, seed, step)
    with seeded(seed, "noise", step), _overflow_is_told(step):
        loss = objective(vae, x, step).total
    norm = _update(loss, list(vae.encoder.parameters()), optimizer, e.training.clip_norm)
    if not torch.isfinite(loss + norm):
        raise _diverged(step)
    return loss.item()


class _Sums:
    """Sums of the terms of the loss since the last evaluation point."""

    def __init__(self) -> None:
        self.terms: dict[str, Tensor] = {}
        self.count = 0
        self.unchecked: list[Tensor] = []
        """Loss plus norm of the gradient of the latest steps: finite if both are."""

    def add(self, loss: Loss, norm: Tensor) -> None:
        for name, value in loss.terms.items():
            self.terms[name] = self.terms.get(name, 0) + value.detach().double()
        self.count += 1
        self.unchecked.append(loss.total.detach() + norm)

    def refuse_broken(self, done: int) -> None:
        """Raises `RunError` where a loss or gradient was not finite, naming its step; `done` steps are done."""
        broken = (~torch.stack(self.unchecked).isfinite()).nonzero()
        if len(broken):
            raise _diverged(done - len(self.unchecked) + int(broken[0].item()))
        self.unchecked.clear()

    def means(self) -> dict[str, float]:
        return {name: value.item() / self.count for name, value in self.terms.items()}


def _measure(vae: VAE, objective: Objective, x: Tensor, samples: int, step: int) -> dict[str, Any]:
    """All that is measured at an evaluation point, for the history."""
    try:
        measured = asdict(validate(vae, x, samples, seed=0)) | asdict(probe(vae, objective, x, step))
    except (ValueError, RunError) as error:  # a law or a measure that was given what is no number
        raise _diverged(step) from error
    if not all(map(math.isfinite, _numbers(measured))):
        raise _diverged(step)
    return measured


def _numbers(tree: Any) -> Iterator[float]:
    """All numbers with a fraction anywhere in `tree`."""
    if isinstance(tree, float):
        yield tree
    elif isinstance(tree, dict | list):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _numbers(part)


@contextmanager
def _overflow_is_told(step: int) -> Iterator[None]:
    """torch's laws refuse parameters that are no finite numbers by a `ValueError`; here that is a run that failed."""
    try:
        yield
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise _diverged(step) from error


def _diverged(step: int) -> RunError:
    return RunError(
        f"training: the loss or its gradient is no longer a finite number at step {step}; checkpoints before it are whole. "
        "Train again with a smaller training.learning-rate, in another --out."
    )


def _validation_images(e: Experiment, data: Splits, protocol: Protocol) -> Tensor:
    x, _ = evaluation_images(data.validation, protocol, "validation")
    if e.training.validation_images is None or e.training.validation_images >= len(x):
        chosen = x
    else:
        with seeded(protocol.split_seed, "validation images"):
            chosen = x[torch.randperm(len(x))[: e.training.validation_images].to(x.device)]
    if len(chosen) < 2:
        raise InputError(f"training.validation_images: the divergence needs at least 2 images, got {len(chosen)}.")
    return chosen


def initialise(vae: VAE, e: Experiment, data: Splits) -> None:
    """Data-dependent initialisation of the model that `e` builds, on random training images, a function of the seed."""
    with seeded(e.seed, "initial images"):
        indices = torch.randperm(len(data.train))[: e.training.initial_images]
    vae.initialise(training_batch(data.train, indices, e.data.protocol(), e.seed, step=-1))


def optimizer_of(settings: Training, vae: VAE, learning_rate: float | None = None) -> optim.Optimizer:
    """The optimiser that `settings` ask for, at their learning rate unless another is given."""
    learning_rate = settings.learning_rate if learning_rate is None else learning_rate
    if settings.optimizer == "adamax":
        return optim.Adamax(vae.parameters(), lr=learning_rate, betas=settings.betas)
    return optim.Adam(vae.parameters(), lr=learning_rate, betas=settings.betas, fused=True)


def _after_no_progress(progress: Progress, e: Experiment, vae: VAE, optimizer: optim.Optimizer) -> optim.Optimizer:
    """Counts an evaluation without progress; at a plateau, halves the rate and forgets the moments, as the released code."""
    t = e.training
    learning_rate = optimizer.param_groups[0]["lr"]
    if t.plateau is None or progress.evaluations_without_progress < t.plateau.patience:
        progress.evaluations_without_progress += 1
        return optimizer
    progress.evaluations_without_progress = 0
    progress.plateaus += 1
    if progress.plateaus == t.plateau.limit:
        progress.stopped = f"validation stood still {progress.plateaus} times"
    if t.plateau.fresh_optimizer:
        return optimizer_of(t, vae, learning_rate * t.plateau.factor)
    for group in optimizer.param_groups:
        group["lr"] *= t.plateau.factor
    return optimizer


def _tensors(vae: VAE, average: AveragedModel, optimizer: optim.Optimizer) -> dict[str, Tensor]:
    parts = {"model": vae.state_dict(), "average": average.state_dict()}
    parts |= {f"optimizer.{i}": state for i, state in optimizer.state_dict()["state"].items()}
    return {
        f"{part}/{name}": tensor.contiguous() for part, tensors in parts.items() for name, tensor in tensors.items()
    }


def _state(progress: Progress, optimizer: optim.Optimizer) -> dict[str, Any]:
    best = progress.best_negative_elbo_nats
    state = asdict(progress) | {"best_negative_elbo_nats": best if best < float("inf") else None}
    return state | {"learning_rate": optimizer.param_groups[0]["lr"]}


def _restore(
    checkpoint: tuple[dict[str, Tensor], dict[str, Any]], vae: VAE, average: AveragedModel, optimizer: optim.Optimizer
) -> Progress:
    tensors, state = checkpoint
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, key = name.split("/", 1)
        parts.setdefault(part, {})[key] = tensor
    vae.load_state_dict(parts.pop("model"))
    average.load_state_dict(parts.pop("average"))
    groups = optimizer.state_dict()["param_groups"]
    moments = {}
    for i, parameter in enumerate(vae.parameters()):
        if f"optimizer.{i}" in parts:  # a rule may not have moved it yet
            values = parts[f"optimizer.{i}"]
            moments[i] = {name: _laid_out_like(parameter, value) for name, value in values.items()}
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    for group in optimizer.param_groups:
        group["lr"] = state["learning_rate"]
    best = state["best_negative_elbo_nats"]
    return Progress(
        step=state["step"],
        best_negative_elbo_nats=float("inf") if best is None else best,
        evaluations_without_progress=state["evaluations_without_progress"],
        plateaus=state["plateaus"],
        stopped=state["stopped"],
    )


def _laid_out_like(parameter: Tensor, moment: Tensor) -> Tensor:
    """The moment in the parameter's memory layout, element by element of which the fused optimiser goes.

    Raises `ValueError` for what is neither of the parameter's shape nor a count of steps.
    """
    if moment.numel() == 1 and moment.shape != parameter.shape:
        return moment
    if moment.shape != parameter.shape:
        raise ValueError(f"a moment has shape {tuple(moment.shape)}, its parameter {tuple(parameter.shape)}")
    return torch.empty_like(parameter).copy_(moment)


@contextmanager
def _misfit_is_told(run: Run) -> Iterator[None]:
    """A checkpoint may be whole and yet not of this model: whoever made it can make its checksum, too."""
    try:
        yield
    except (KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            f"{run.path / 'checkpoints'}: the newest checkpoint does not fit the model of experiment.json ({reason}); "
            "delete that folder to train this run from the beginning."
        ) from None


def _note_time(run: Run, started: float) -> None:
    seconds = run.manifest.get("training_seconds", 0.0) + time.perf_counter() - started
    run.note(
        status="training", training_seconds=round(seconds, 1), saved=datetime.now(UTC).isoformat(timespec="seconds")
    )
