"""What a matrix would be and cost, without running it: parameters, time on this machine, published numbers to compare with.

The time of a run is an estimate: one training step is timed with the experiment's own networks on random images, for two
batch sizes, which gives a line (fixed cost + cost per image) that is drawn out to the experiment's batch and steps. Time for
evaluation is not in it. A run may stop earlier, where validation stands still.

The cost on a GPU is an estimate from operation counts: multiply-adds of all matrix products and convolutions of a step,
forward and backward, counted by torch as it does them (they are proportional to the batch), over a rate that is assumed, not
measured:

    GPU-hours = steps x multiply-adds of a step / (ASSUMED_RATE x 3600)
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from mpdvae.experiment import Experiment, ImageShape
from mpdvae.seeding import seeded

SMALL_BATCHES = (2, 6)
ASSUMED_RATE = 2.5e12
"""Multiply-adds in a second of one GPU in training: about a quarter of the 9.7e12 that an NVIDIA A100 can do in float32."""
IMAGE_SHAPES: dict[str, ImageShape] = {"digits": (1, 8, 8), "cifar10": (3, 32, 32), "own": (3, 64, 64)}
"""Of the data sets in recipes; all others are 28x28."""


@dataclass(frozen=True)
class Plan:
    """One experiment of a matrix, for each of its seeds."""

    experiment: Experiment
    parameters: int
    steps: int
    step_seconds: float
    """Estimated, on this machine."""
    step_multiply_adds: int
    """Of forward and backward pass at the experiment's batch size; elementwise operations are not counted."""

    @property
    def gpu_hours(self) -> float:
        """Estimated hours of training of one run on a GPU of `ASSUMED_RATE`."""
        return self.steps * self.step_multiply_adds / ASSUMED_RATE / 3600

    @property
    def hours(self) -> float:
        """Estimated hours of training of one run."""
        return self.steps * self.step_seconds / 3600


def plan(experiments: Sequence[Experiment]) -> list[Plan]:
    """Estimates for every experiment. Experiments whose networks are equal are timed once."""
    timed: dict[tuple[str, ...], tuple[int, float, int]] = {}
    plans = []
    for e in experiments:
        networks = e.encoder.model_dump_json(), e.decoder.model_dump_json(), e.prior.model_dump_json()
        key = (*networks, str(e.latent_dim), e.data.dataset, str(e.training.batch_size))
        if key not in timed:
            timed[key] = _time_step(e)
        parameters, seconds, multiply_adds = timed[key]
        plans.append(Plan(e, parameters, e.training.steps, seconds, multiply_adds))
    return plans


def image_shape_of(experiment: Experiment) -> ImageShape:
    """Shape of the images that a recipe is made for."""
    return IMAGE_SHAPES.get(experiment.data.dataset, (1, 28, 28))


def _time_step(e: Experiment) -> tuple[int, float, int]:
    """(parameters, estimated seconds and multiply-adds of a step at the experiment's batch size)."""
    vae, objective = e.build(image_shape_of(e)), e.objective.build()
    with seeded("plan"):
        vae.initialise(_random_images(e, SMALL_BATCHES[-1]))  # without it some networks overflow
    seconds, counter = [], FlopCounterMode(display=False)
    for batch in SMALL_BATCHES:
        with seeded("plan"):
            x = _random_images(e, batch)
            with counter:  # which begins anew
                objective(vae, x).total.backward()  # the first one also sets things up
            started = time.perf_counter()
            objective(vae, x).total.backward()
            seconds.append(time.perf_counter() - started)
    small, large = SMALL_BATCHES
    per_image = max((seconds[1] - seconds[0]) / (large - small), seconds[1] / (4 * large))
    fixed = max(0.0, seconds[0] - small * per_image)
    multiply_adds = counter.get_total_flops() // 2 * e.training.batch_size // large  # torch counts both as operations
    return sum(p.numel() for p in vae.parameters()), fixed + per_image * e.training.batch_size, multiply_adds


def _random_images(e: Experiment, count: int) -> torch.Tensor:
    levels = torch.randint(0, 256, (count, *image_shape_of(e)))
    return levels / 127.5 - 1 if e.data.binarisation == "levels" else (levels > 200).float()
