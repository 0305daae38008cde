"""What a matrix would be and cost, without running it: parameters, GPU-hours, time on this machine, published numbers to
compare with.

The cost on a GPU is an estimate from operation counts: multiply-adds of all matrix products and convolutions of a step,
forward and backward, over a rate that is assumed, not measured:

    GPU-hours = steps x multiply-adds of a step / (ASSUMED_RATE x 3600)

They are counted by torch, exactly and at the experiment's batch size, on tensors that have shapes only (its device "meta"):
nothing is computed and nothing takes memory. What is counted is the ELBO, which is where the networks are; the divergence
adds products of batch x batch x latent at the most. Elementwise operations are not counted.

The time on this machine is an estimate too, and takes longer to get: one step is timed with the experiment's own networks on
random images, for two batch sizes, which gives a line (fixed cost + cost per image) that is drawn out to the experiment's
batch and steps. Evaluation is in neither number, and a run may stop earlier, where validation stands still.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from mpdvae.experiments.experiment import Experiment, ImageShape, ObjectiveConfig
from mpdvae.seeding import seeded

SMALL_BATCHES = (2, 6)
ASSUMED_RATE = 2.5e12
"""Multiply-adds in a second of one GPU in training: about a quarter of the 9.7e12 that an NVIDIA A100 can do in float32."""
IMAGE_SHAPES: dict[str, ImageShape] = {"digits": (1, 8, 8), "cifar10": (3, 32, 32), "own": (3, 64, 64)}
"""Of the data sets in recipes; all others are 28x28."""


@dataclass(frozen=True)
class Operations:
    """What a step of an experiment is made of."""

    parameters: int
    multiply_adds: int
    """Of forward and backward pass at the experiment's batch size."""


@dataclass(frozen=True)
class Plan:
    """One experiment of a matrix, for each of its seeds."""

    experiment: Experiment
    operations: Operations
    step_seconds: float | None
    """Estimated, on this machine; None: not timed."""

    @property
    def steps(self) -> int:
        return self.experiment.training.steps

    @property
    def gpu_hours(self) -> float:
        """Estimated hours of training of one run on a GPU of `ASSUMED_RATE`."""
        return self.steps * self.operations.multiply_adds / ASSUMED_RATE / 3600

    @property
    def hours(self) -> float | None:
        """Estimated hours of training of one run on this machine."""
        return None if self.step_seconds is None else self.steps * self.step_seconds / 3600


def plan(experiments: Sequence[Experiment], timed: bool = False) -> list[Plan]:
    """Estimates for every experiment, in order. Experiments whose networks are equal are counted, and timed, once.

    Arguments:
        timed: whether a step of each network is timed on this machine, which takes minutes for large ones.
    """
    known: dict[tuple[object, ...], tuple[Operations, float | None]] = {}
    plans = []
    for e in experiments:
        shape, samples = image_shape_of(e), e.objective.samples
        key = e.encoder, e.decoder, e.prior, e.latent_dim, shape, e.training.batch_size, samples
        if key not in known:
            known[key] = count_operations(e), _time_step(e) if timed else None
        plans.append(Plan(e, *known[key]))
    return plans


def image_shape_of(experiment: Experiment) -> ImageShape:
    """Shape of the images that a recipe is made for."""
    return IMAGE_SHAPES.get(experiment.data.dataset, (1, 28, 28))


def count_operations(e: Experiment, device: str = "meta") -> Operations:
    """Counts a step of the ELBO at the experiment's batch size.

    Arguments:
        device: any but "meta" does what it counts, with the same result.
    """
    elbo = ObjectiveConfig(samples=e.objective.samples).build()
    counter = FlopCounterMode(display=False)
    with torch.device(device), seeded("plan"):
        vae = e.build(image_shape_of(e))
        x = torch.zeros(e.training.batch_size, *image_shape_of(e))
        with counter:
            elbo(vae, x).total.backward()
    multiply_adds = counter.get_total_flops() // 2  # torch counts both as operations
    return Operations(sum(p.numel() for p in vae.parameters()), multiply_adds)


def _time_step(e: Experiment) -> float:
    """Estimated seconds of a step at the experiment's batch size."""
    vae, objective = e.build(image_shape_of(e)), e.objective.build()
    with seeded("plan"):
        vae.initialise(_random_images(e, SMALL_BATCHES[-1]))  # without it some networks overflow
    seconds = []
    for batch in SMALL_BATCHES:
        with seeded("plan"):
            x = _random_images(e, batch)
            objective(vae, x).total.backward()  # the first one also sets things up
            started = time.perf_counter()
            objective(vae, x).total.backward()
            seconds.append(time.perf_counter() - started)
    small, large = SMALL_BATCHES
    per_image = max((seconds[1] - seconds[0]) / (large - small), seconds[1] / (4 * large))
    fixed = max(0.0, seconds[0] - small * per_image)
    return fixed + per_image * e.training.batch_size


def _random_images(e: Experiment, count: int) -> torch.Tensor:
    levels = torch.randint(0, 256, (count, *image_shape_of(e)))
    return levels / 127.5 - 1 if e.data.binarisation == "levels" else (levels > 200).float()
