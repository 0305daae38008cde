"""As many epochs of a recipe as fit into the time, and the negative log-likelihood that they reach."""

import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_task import GIB, Task
from benchmarks.gpu_ways import WAYS, networks_run
from mpdvae.data import evaluation_images, steps_per_epoch
from mpdvae.errors import RunError
from mpdvae.experiments.experiment import with_changes
from mpdvae.measures.density import estimate
from mpdvae.measures.density_summary import summarise
from mpdvae.measures.random_subsets import random_subset
from mpdvae.runs.model_folder import load
from mpdvae.runs.run_folder import Run
from mpdvae.system.signals import Stop, Stopped
from mpdvae.training.loop import train
from mpdvae.workflows.job import load_data

TEST_IMAGES, TEST_SAMPLES = 200, 256


def epochs(task: Task) -> dict[str, Any]:
    """Trains by the loop of `mpdvae train` as long as there is time, with the fastest variant that works, and measures the
    negative log-likelihood of test images."""
    try:
        data = load_data(task.experiment)
    except RunError as error:  # neither in the data folder nor fetched
        return {"skipped": " ".join(str(error).split())[:300]}
    data = data.to(task.device)
    rate, failures = task.known.get("evaluations_per_s"), []
    images = min(TEST_IMAGES, len(data.test))
    reserve = min(task.left / 3, 5 + (2 * images * TEST_SAMPLES / rate if rate else task.left))
    for precision, way, seconds in task.known.get("ways") or [("float32", "uncompiled", None)]:
        folder = Path(task.folder) / f"{precision} {way}"
        epoch_steps = steps_per_epoch(len(data.train), task.experiment.training.batch_size)
        whole = seconds is None or 3 * epoch_steps * seconds < task.left - reserve
        experiment = with_changes(
            task.experiment,
            training__steps=10**7,  # the time ends it
            training__evaluate_every=epoch_steps if whole else max(1, int((task.left - reserve) / 3 / (seconds or 1))),
            training__validation_images=min(500, len(data.validation)),
            training__validation_samples=1,
            training__averaging_warm_up=True,  # few epochs are shorter than the released code's average
            training__precision=precision,
            training__compile=way != "uncompiled",
        )
        try:
            trained = _train_until(task, Run.create(folder, experiment), data, way, task.left - reserve)
            break
        except Exception as error:  # another variant may work
            failures.append(f"{precision}, {way}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
            if task.left < 2 * reserve:
                raise
    else:
        raise RuntimeError("; ".join(failures))
    vae, protocol = load(folder).to(task.device), experiment.data.protocol()
    chosen = random_subset(images, len(data.test))
    x, _ = evaluation_images(data.test, protocol, "test", draws=1)
    budget = GIB if task.device == "cpu" else 8 * GIB
    found = estimate(vae, x[chosen.to(x.device)], TEST_SAMPLES, budget, indices=chosen.tolist(), proposal="encoder")
    results = summarise(found, population=len(data.test))
    return trained | {
        "data": protocol.describe(data),
        "images": images,
        "samples": TEST_SAMPLES,
        "nll_nats": results["nll_nats"],
        "negative_elbo_nats": results["negative_elbo_nats"],
        "failed_variants": failures,
    }


def _train_until(task: Task, run: Run, data: Any, way: str, seconds: float) -> dict[str, Any]:
    """Trains for at most `seconds`, and ends at an evaluation point if the next one would be too late."""
    stop, started, batch = Stop(), time.monotonic(), run.experiment.training.batch_size
    points: list[tuple[int, float]] = [(0, 0.0)]
    done = 0

    def watch(steps: int, entry: dict[str, Any] | None) -> None:
        nonlocal done
        done, elapsed = steps, time.monotonic() - started
        if way == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        if entry:
            points.append((steps, elapsed))
            if elapsed + 1.05 * (elapsed - points[-2][1]) > seconds:
                stop.asked_by = "time"
        if elapsed > seconds:
            stop.asked_by = "time"

    try:
        with networks_run(way, torch.zeros(batch, *data.image_shape, device=data.train.pixels.device)):
            train(run, data, watch, stop=stop)
    except Stopped:
        pass  # the time is over: what was reached is the result
    if len(points) == 1:
        raise RuntimeError(f"no evaluation point within {seconds:.0f} s, {done} steps of {batch} images")
    steps, elapsed = points[-1]
    begun = points[1] if len(points) > 2 else points[0]  # without the compilation, if possible
    return {
        "variant": WAYS[run.experiment.training.precision, way],
        "steps": steps,
        "epochs": steps / steps_per_epoch(len(data.train), batch),
        "training_seconds": elapsed,
        "images_per_s": (steps - begun[0]) * batch / (elapsed - begun[1]),
        "validation_negative_elbo_nats": [entry["negative_elbo_nats"] for entry in run.history],
    }
