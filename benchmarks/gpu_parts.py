"""The measurements of `gpu.py`, made in another process, which `gpu.py` can kill, and starts again after a failure: an
error of a GPU spoils every later call of its process.

    python -m benchmarks.gpu_parts      prints that it is ready, then answers each line of JSON (a `Task`) with another
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from benchmarks.gpu_epochs import epochs
from benchmarks.gpu_task import GIB, Task, forget, memory
from benchmarks.gpu_ways import WAYS, speed_up
from mpdvae.divergence import mutual_posterior_divergence
from mpdvae.measures.density import estimate
from mpdvae.models.acceleration import run_in_bfloat16
from mpdvae.seeding import seeded
from mpdvae.system.allocator import keep_freed_memory
from mpdvae.training.learner_state import optimizer_of
from mpdvae.version import __version__

SUPPORT = Path(__file__).parents[1] / "tests" / "support"
STAND_IN = "elsewhere"
"""Name of the device of tests/support/second_device.py."""
POSTERIORS, DIMENSIONS = 600_000, 32
DRAWN = 100

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


def training_step(precision: str, way: str, task: Task) -> dict[str, Any]:
    """Forward pass, all terms of the loss, backward pass, clipping and optimiser, with learning rate 0, so that the loss is
    the same at every step and for every variant, up to rounding."""
    keep_freed_memory()
    vae, settings = task.model().train(), task.experiment.training
    x, objective = task.images(settings.batch_size), task.experiment.objective.build()
    optimizer = optimizer_of(settings, vae, learning_rate=0.0)
    forget(task)
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
    } | memory(task)


def likelihood(gibibytes: int, compiled: bool, task: Task) -> dict[str, Any]:
    """Decoder evaluations (images x samples) per second; the number of images doubles until it takes a second."""
    vae, images, samples = task.model().eval(), 4, 256
    forget(task)
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
    return {"images": images, "samples": samples, "seconds": seconds, "evaluations_per_s": rate} | memory(task)


def sampling(task: Task) -> dict[str, Any]:
    """Images per second of `VAE.sample`: codes from the prior, then pixel by pixel."""
    vae = task.model().eval()
    forget(task)
    vae.sample(DRAWN)
    seconds = task.median_seconds(partial(vae.sample, DRAWN))
    return {"images": DRAWN, "seconds": seconds, "images_per_s": DRAWN / seconds} | memory(task)


def divergence(task: Task) -> dict[str, Any]:
    """Mean and spread of the KL divergence over all pairs of random posteriors."""
    with seeded("posteriors"):
        mean, log_variance = torch.randn(POSTERIORS, DIMENSIONS), torch.randn(POSTERIORS, DIMENSIONS) - 2
    mean, deviation = mean.to(task.device), torch.exp(log_variance / 2).to(task.device)
    q = Independent(Normal(mean, deviation), 1)
    forget(task)
    nats = mutual_posterior_divergence(q).mean.item()
    seconds = task.median_seconds(partial(mutual_posterior_divergence, q))
    found = {"posteriors": POSTERIORS, "dimensions": DIMENSIONS, "seconds": seconds, "mean_nats": nats}
    return found | memory(task)


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
