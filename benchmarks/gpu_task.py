"""One measurement of `gpu_parts`: what it is given, and how it reads the clock and the memory of the device.

GPUs run asynchronously, so clocks are read when the device has finished (`Task.wait`), and after warm-up. Images are random
and binary: the time does not depend on what they show.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.recipes import recipe
from mpdvae.seeding import seeded
from mpdvae.vae import VAE

ROUNDS, MOST_SECONDS = 5, 3.0
"""Rounds of a timing, and the seconds that all take together."""
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


def forget(task: Task) -> None:
    """Frees what earlier measurements left, and starts the measurement of peak memory."""
    torch.compiler.reset()
    gc.collect()
    if torch.device(task.device).type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def memory(task: Task) -> dict[str, Any]:
    """Peak bytes of tensors, and of what torch held of the device; CUDA graphs keep their memory between steps, which only
    the second counts."""
    if torch.device(task.device).type != "cuda":
        return {}
    return {"peak_bytes": torch.cuda.max_memory_allocated(), "held_bytes": torch.cuda.max_memory_reserved()}
