"""Estimates the size and cost of a matrix without running it: parameters, GPU-hours, time on this machine, and published
numbers to compare with.

The cost on a GPU is estimated from operation counts: the multiply-adds of all matrix products and convolutions of a step,
forward and backward, divided by a rate that is assumed, not measured:

    GPU-hours = steps x multiply-adds of a step / (ASSUMED_RATE x 3600)

Torch counts them exactly, at the experiment's batch size, on tensors that have only a shape (its device "meta"): nothing is
computed, and no memory is used. The count covers the ELBO, which contains all networks; the divergence adds products of at
most batch x batch x latent. Elementwise operations are not counted.

The time on this machine is also an estimate, and takes longer to obtain: one step is timed with the experiment's own
networks on random images, at two batch sizes. The line through both (fixed cost + cost per image) is extrapolated to the
experiment's batch size and steps. Neither estimate includes evaluation, and a run may stop earlier, when validation stops
improving.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from mpdvae.data.conditions import with_condition
from mpdvae.data.protocols import scaled
from mpdvae.experiments.experiment import Experiment, ImageShape, ObjectiveConfig
from mpdvae.seeding import seeded

SMALL_BATCHES = (2, 6)
"""Batch sizes at which a step is timed."""
ASSUMED_RATE = 2.5e12
"""Multiply-adds per second of one GPU in training: about a quarter of the 9.7e12 of an NVIDIA A100 in float32."""
IMAGE_SHAPES: dict[str, ImageShape] = {
    "digits": (1, 8, 8),
    "sprites": (1, 32, 32),
    "cifar10": (3, 32, 32),
    "own": (3, 64, 64),
}
"""Image shapes of the data sets in recipes; all others are 28x28."""


@dataclass(frozen=True)
class Operations:
    """Operations of one training step of an experiment."""

    parameters: int
    multiply_adds: int
    """Multiply-adds of the forward and backward pass at the experiment's batch size."""


@dataclass(frozen=True)
class Plan:
    """Estimates for one experiment of a matrix, per seed."""

    experiment: Experiment
    operations: Operations
    step_seconds: float | None
    """Estimated seconds per step on this machine; None: not timed."""

    @property
    def steps(self) -> int:
        return self.experiment.training.steps

    @property
    def gpu_hours(self) -> float:
        """Estimated training time of one run in hours, on a GPU with `ASSUMED_RATE`."""
        return self.steps * self.operations.multiply_adds / ASSUMED_RATE / 3600

    @property
    def hours(self) -> float | None:
        """Estimated training time of one run in hours, on this machine; None: not timed."""
        return None if self.step_seconds is None else self.steps * self.step_seconds / 3600


def plan(experiments: Sequence[Experiment], timed: bool = False) -> list[Plan]:
    """Returns estimates for all experiments, in order. Experiments with equal networks are counted, and timed, once.

    Arguments:
        timed: whether to time a step of each network on this machine, which takes minutes for large networks.
    """
    known: dict[tuple[object, ...], tuple[Operations, float | None]] = {}
    plans = []
    for e in experiments:
        shape, samples = image_shape_of(e), e.objective.samples
        key = e.encoder, e.decoder, e.prior, e.latent_dim, shape, e.training.batch_size, samples
        if key not in known:
            known[key] = count_operations(e), step_seconds(e, shape) if timed else None
        plans.append(Plan(e, *known[key]))
    return plans


def image_shape_of(experiment: Experiment) -> ImageShape:
    """Returns the shape of the images that a recipe is made for."""
    return IMAGE_SHAPES.get(experiment.data.dataset, (1, 28, 28))


def count_operations(e: Experiment, device: str = "meta") -> Operations:
    """Counts the operations of one step on the ELBO at the experiment's batch size.

    Arguments:
        device: any device other than "meta" also executes the operations, with the same count.
    """
    elbo = ObjectiveConfig(samples=e.objective.samples).build()
    counter = FlopCounterMode(display=False)
    with torch.device(device), seeded("plan"):
        vae = e.build(image_shape_of(e))
        x = _conditioned(e, torch.zeros(e.training.batch_size, *image_shape_of(e)))
        with counter:
            elbo(vae, x).total.backward()
    multiply_adds = counter.get_total_flops() // 2  # torch counts a multiply-add as two operations
    return Operations(sum(p.numel() for p in vae.parameters()), multiply_adds)


def step_seconds(
    e: Experiment,
    image_shape: ImageShape,
    batches: tuple[int, int] = SMALL_BATCHES,
    device: torch.device | str = "cpu",
) -> float:
    """Returns the estimated seconds of a step on `device` at the experiment's batch size, on images of this shape (channel,
    height, width), from a step at each of two batch sizes."""
    vae, objective = e.build(image_shape).to(device), e.objective.build()
    with seeded("plan"):
        vae.initialise(_random_images(e, image_shape, batches[-1]).to(device))  # without it some networks overflow

    def step(x: torch.Tensor) -> None:
        total = objective(vae, x).total
        total.backward()
        total.item()  # a GPU has then done all that it was asked before

    seconds = []
    for batch in batches:
        with seeded("plan"):
            x = _random_images(e, image_shape, batch).to(device)
            step(x)  # warm-up: the first pass includes one-time setup
            started = time.perf_counter()
            step(x)
            seconds.append(time.perf_counter() - started)
    small, large = batches
    per_image = max((seconds[1] - seconds[0]) / (large - small), seconds[1] / (4 * large))
    fixed = max(0.0, seconds[0] - small * per_image)
    return fixed + per_image * e.training.batch_size


def _random_images(e: Experiment, image_shape: ImageShape, count: int) -> torch.Tensor:
    levels, protocol = torch.randint(0, 256, (count, *image_shape), dtype=torch.uint8), e.data.protocol()
    x = (levels > 200).float() if protocol.binarises else scaled(levels, protocol)
    return _conditioned(e, x)


def _conditioned(e: Experiment, x: torch.Tensor) -> torch.Tensor:
    """Returns the images with class 0, and covariates of 0, where the model is told any."""
    channels = e.data.condition.channels
    return with_condition(x, torch.zeros(len(x), channels)) if channels else x
