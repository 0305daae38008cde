"""The measurements of `gpu.py`, made in another process, which `gpu.py` can kill, and starts again after a failure: an
error of a GPU spoils every later call of its process.

    python -m benchmarks.gpu_parts      prints that it is ready, then answers each line of JSON (a `Task`) with another

GPUs run asynchronously, so clocks are read when the device has finished (`Task.wait`), and after warm-up. The inputs of all
parts but `epochs` are random binary images: the time does not depend on what the images show.
"""

import gc
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from mpdvae.data import evaluation_images, steps_per_epoch
from mpdvae.divergence import mutual_posterior_divergence
from mpdvae.errors import RunError
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.experiments.recipes import recipe
from mpdvae.measures.density import estimate
from mpdvae.measures.density_summary import summarise
from mpdvae.measures.random_subsets import random_subset
from mpdvae.models.acceleration import run_in_bfloat16
from mpdvae.models.decoders import AutoregressiveDecoder, IndependentDecoder
from mpdvae.models.encoders import GaussianEncoder
from mpdvae.runs.model_folder import load
from mpdvae.runs.run_folder import Run
from mpdvae.seeding import seeded
from mpdvae.system.allocator import keep_freed_memory
from mpdvae.system.signals import Stop, Stopped
from mpdvae.training.learner_state import optimizer_of
from mpdvae.training.loop import train
from mpdvae.vae import VAE
from mpdvae.version import __version__
from mpdvae.workflows.job import load_data

SUPPORT = Path(__file__).parents[1] / "tests" / "support"
STAND_IN = "elsewhere"
"""Name of the device of tests/support/second_device.py."""
ROUNDS, MOST_SECONDS = 5, 3.0
"""Rounds of a timing, and the seconds that all take together."""
WAYS = {
    (precision, way): f"{precision}, {way}"
    for way in ("uncompiled", "graphed callables", "compiled", "reduce-overhead")
    for precision in ("float32", "bfloat16")
}
"""Variants of the training step: precision of the networks, and how they are called. CUDA graphs are made in two ways, of
each network by `torch.cuda.make_graphed_callables`, and by torch's compiler in mode "reduce-overhead"."""
POSTERIORS, DIMENSIONS = 600_000, 32
TEST_IMAGES, TEST_SAMPLES = 200, 256
DRAWN = 100
GIB = 2**30


@dataclass(frozen=True)
class Task:
    """One measurement."""

    part: str
    name: str
    device: str
    recipe: str
    seconds: float
    """Seconds until the process is killed, from the start of the measurement."""
    folder: str
    """Folder for the files of runs."""
    known: dict[str, Any] = field(default_factory=dict)
    """Results of earlier parts that this part uses: `ways`, the variants of the training step from the fastest on, with
    their seconds per step, and `evaluations_per_s`."""
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        return self.started + self.seconds - time.monotonic()

    @cached_property
    def experiment(self) -> Experiment:
        return recipe(self.recipe)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (1, 8, 8) if self.experiment.data.dataset == "digits" else (1, 28, 28)

    def images(self, count: int) -> Tensor:
        with seeded("binary images"):
            return (torch.rand(count, *self.image_shape) < 0.2).float().to(self.device)

    def model(self) -> VAE:
        """The recipe's model, with data-dependent initialisation on random images."""
        with seeded("model"):
            vae = self.experiment.build(self.image_shape).to(self.device)
        vae.initialise(self.images(100))
        return vae

    def wait(self) -> None:
        """Waits until the device has finished."""
        module = getattr(torch, torch.device(self.device).type, None)
        if hasattr(module, "synchronize"):
            module.synchronize()

    def seconds_of(self, function: Callable[[], Any]) -> float:
        """Returns the wall time of one call, until the device has finished."""
        self.wait()
        started = time.perf_counter()
        function()
        self.wait()
        return time.perf_counter() - started

    def median_seconds(self, function: Callable[[], Any]) -> float:
        """Returns the median over rounds of the seconds per call of a function that has been warmed up. The device need not
        finish between the calls of a round."""
        one, budget = self.seconds_of(function), min(MOST_SECONDS, self.left / 4)
        calls = max(1, int(budget / ROUNDS / one))
        rounds = max(1, min(ROUNDS, int(budget / (calls * one))))
        return statistics.median(
            self.seconds_of(lambda: [function() for _ in range(calls)]) / calls for _ in range(rounds)
        )


Measure = Callable[[Task], dict[str, Any]]


def work() -> None:
    """Makes each measurement that a line of standard input describes as JSON, the fields of a `Task`, and prints the result
    as a line of JSON."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # libraries may print
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            task = Task(**json.loads(line))
            signal.alarm(int(task.seconds) + 10)  # if nobody is left to end this process
            if task.device == STAND_IN and str(SUPPORT) not in sys.path:
                sys.path.insert(0, str(SUPPORT))
                import_module("second_device")  # which registers it
            found = _answer(task)
            signal.alarm(0)
            print(json.dumps({"name": task.name} | found), file=answers, flush=True)


def _answer(task: Task) -> dict[str, Any]:
    """Returns the result or error of a measurement, and whether the process is spoilt."""
    try:
        return MEASUREMENTS[task.part][task.name](task)
    except Exception as error:  # every error is recorded
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return {"error": text, "spoilt": torch.device(task.device).type == "cuda"}


# The machine


def machine(task: Task) -> dict[str, Any]:
    """Names the device and the versions. Fails if torch cannot use the device."""
    torch.zeros(1, device=task.device)
    found: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda, "mpdvae": __version__}
    found["python"] = sys.version.split()[0]
    found["cores"] = os.cpu_count()
    if torch.device(task.device).type == "cuda":
        device = torch.cuda.get_device_properties(task.device)
        found |= {
            "gpu": device.name,
            "capability": f"{device.major}.{device.minor}",
            "memory_bytes": device.total_memory,
            "cudnn": torch.backends.cudnn.version(),
        }
        found["tf32"] = {
            "convolutions": torch.backends.cudnn.allow_tf32,
            "products": torch.backends.cuda.matmul.allow_tf32,
        }
    return found


# The training step


def training_step(precision: str, way: str, task: Task) -> dict[str, Any]:
    """Forward pass, all terms of the loss, backward pass, clipping and optimiser, with learning rate 0, so that the loss is
    the same at every step and for every variant, up to rounding."""
    keep_freed_memory()
    vae, settings = task.model().train(), task.experiment.training
    x, objective = task.images(settings.batch_size), task.experiment.objective.build()
    optimizer = optimizer_of(settings, vae, learning_rate=0.0)
    _forget(task)
    if precision == "bfloat16":
        run_in_bfloat16(vae)
    speed_up(vae, way, x)

    def step() -> tuple[Tensor, Tensor]:
        if way == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        with seeded("noise"):
            loss = objective(vae, x, 0).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(vae.parameters(), settings.clip_norm or float("inf"))
        optimizer.step()
        return loss.detach(), norm.detach()

    first = task.seconds_of(step)
    for _ in range(3):
        loss, norm = step()
    nats, gradient_norm = loss.item(), norm.item()
    seconds = task.median_seconds(step)
    return {
        "precision": precision,
        "way": way,
        "batch": settings.batch_size,
        "seconds_per_step": seconds,
        "images_per_s": settings.batch_size / seconds,
        "first_step_seconds": first,
        "loss_nats": nats,
        "gradient_norm": gradient_norm,
    } | _memory(task)


def speed_up(vae: VAE, way: str, x: Tensor) -> None:
    """Makes the networks of encoder and decoder run in the given way, in place; `x` is a batch like those of training."""
    if way == "compiled":
        for network in networks(vae):
            network.compile()
    elif way == "reduce-overhead":
        for network in networks(vae):
            network.compile(mode="reduce-overhead")
    elif way == "graphed callables":
        if x.device.type != "cuda":
            raise RuntimeError(f"CUDA graphs need a CUDA device, not {x.device.type!r}")
        for network, arguments in _arguments(vae, x):
            torch.cuda.make_graphed_callables(network, arguments, allow_unused_input=True)


def networks(vae: VAE) -> Iterator[nn.Module]:
    """Yields the networks that `mpdvae.models.acceleration` compiles."""
    for module in vae.modules():
        if isinstance(module, GaussianEncoder | IndependentDecoder):
            yield module.body
        elif isinstance(module, AutoregressiveDecoder):
            yield module.network


def _arguments(vae: VAE, x: Tensor) -> list[tuple[nn.Module, tuple[Tensor, ...]]]:
    """Returns the networks and tensors like those that they are given in training on `x`."""
    seen: list[tuple[nn.Module, tuple[Tensor, ...]]] = []

    def note(network: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen.append((network, tuple(a.detach().clone().requires_grad_(a.requires_grad) for a in arguments)))

    hooks = [network.register_forward_pre_hook(note) for network in networks(vae)]
    vae.elbo(x)
    for hook in hooks:
        hook.remove()
    return seen


def _forget(task: Task) -> None:
    """Frees what earlier measurements left, and starts the measurement of peak memory."""
    torch.compiler.reset()
    gc.collect()
    if torch.device(task.device).type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _memory(task: Task) -> dict[str, Any]:
    """Peak bytes of tensors, and of what torch held of the device; CUDA graphs keep their memory between steps, which only
    the second counts."""
    if torch.device(task.device).type != "cuda":
        return {}
    return {"peak_bytes": torch.cuda.max_memory_allocated(), "held_bytes": torch.cuda.max_memory_reserved()}


# Likelihood, sampling, divergence


def likelihood(gibibytes: int, compiled: bool, task: Task) -> dict[str, Any]:
    """Decoder evaluations (images x samples) per second; the number of images doubles until it takes a second."""
    vae, images, samples = task.model().eval(), 4, 256
    _forget(task)
    if compiled:
        speed_up(vae, "compiled", task.images(1))
    measure = partial(estimate, vae, samples=samples, memory_budget=gibibytes * GIB, proposal="encoder")
    measure(task.images(images))
    while True:
        seconds = min(task.seconds_of(partial(measure, task.images(images))) for _ in range(2))  # the first may compile
        if seconds > min(1.0, task.left / 8) or images >= 512:
            break
        images *= 2
    rate = images * samples / seconds
    return {"images": images, "samples": samples, "seconds": seconds, "evaluations_per_s": rate} | _memory(task)


def sampling(task: Task) -> dict[str, Any]:
    """Images per second of `VAE.sample`: codes from the prior, then pixel by pixel."""
    vae = task.model().eval()
    _forget(task)
    vae.sample(DRAWN)
    seconds = task.median_seconds(partial(vae.sample, DRAWN))
    return {"images": DRAWN, "seconds": seconds, "images_per_s": DRAWN / seconds} | _memory(task)


def divergence(task: Task) -> dict[str, Any]:
    """Mean and spread of the KL divergence over all pairs of random posteriors."""
    with seeded("posteriors"):
        mean, log_variance = torch.randn(POSTERIORS, DIMENSIONS), torch.randn(POSTERIORS, DIMENSIONS) - 2
    mean, deviation = mean.to(task.device), torch.exp(log_variance / 2).to(task.device)
    q = Independent(Normal(mean, deviation), 1)
    _forget(task)
    nats = mutual_posterior_divergence(q).mean.item()
    seconds = task.median_seconds(partial(mutual_posterior_divergence, q))
    found = {"posteriors": POSTERIORS, "dimensions": DIMENSIONS, "seconds": seconds, "mean_nats": nats}
    return found | _memory(task)


# Epochs


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
        with _networks_run(way, torch.zeros(batch, *data.image_shape, device=data.train.pixels.device)):
            train(run, data, watch, stop=stop)
    except Stopped:
        pass
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


@contextmanager
def _networks_run(way: str, x: Tensor) -> Iterator[None]:
    """Makes the loop speed up the networks in the given way where it would compile them, if it does not know that way."""
    if way in ("uncompiled", "compiled"):
        yield
        return

    def instead(vae: VAE, fixed_sizes: bool = False) -> bool:
        if not fixed_sizes:  # those of validation
            speed_up(vae.train(), way, x)
        return True

    with patch("mpdvae.training.loop.compile_networks", instead):
        yield


MEASUREMENTS: dict[str, dict[str, Measure]] = {
    "machine": {"machine": machine},
    "training": {name: partial(training_step, *variant) for variant, name in WAYS.items()},
    "likelihood": {
        "memory budget 1 GiB": partial(likelihood, 1, False),
        "memory budget 8 GiB": partial(likelihood, 8, False),
        "memory budget 8 GiB, compiled": partial(likelihood, 8, True),
    },
    "sampling": {"sampling": sampling},
    "divergence": {"divergence": divergence},
    "epochs": {"epochs": epochs},
}

if __name__ == "__main__":
    work()
