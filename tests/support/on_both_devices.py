"""A program that does the same work on the CPU and on the second device (`second_device`), and prints a line for every
difference.

    python tests/support/on_both_devices.py parts                 every encoder, decoder and prior of `constructors`
    python tests/support/on_both_devices.py recipes DIR NAME...   tiny runs of these recipes, in folders below DIR
"""

import math
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from constructors import (
    DECODERS,
    ENCODERS,
    HEADED_ENCODERS,
    MAP_CHANNELS,
    MAP_DECODERS,
    MAP_ENCODERS,
    MAP_FLOWS,
    PRIORS,
    binary_images,
    colour_images,
    shaken,
    with_maps,
    with_shapes,
)
from small_runs import tiny
from torch import Tensor, nn

from mpdvae.experiments.experiment import with_changes
from mpdvae.models.priors import FlowPrior
from mpdvae.runs.run_folder import Run
from mpdvae.workflows.matrix import _run_one
from mpdvae.workflows.matrix_jobs import jobs

LATENT, BATCH = 3, 4
CODE_MAP = (MAP_CHANNELS, 3, 2)
BOTH = ("cpu", "elsewhere")
ROUNDED = "semi-amortised"
"""Part of the names of recipes that differentiate twice, where torch sums gradients in a different order: only their
measurements are compared, up to rounding."""
ROUNDING = 1e-5
"""Largest relative difference of these."""
ROUNDED_RATE = 1e-3
"""Their learning rate: Adam divides gradients by their size, and so turns rounding of small ones into steps of this size."""
LONGER = {"annealing-digits-smoke": 20, "cyclical-digits-smoke": 40}
"""Number of steps of recipes with schedules that need so many."""
ABOUT_TIME = ("second", "per_s")
"""Parts of the names of history fields that concern time."""

Act = Callable[[nn.Module, str], Sequence[Tensor]]


def main(what: str, *arguments: str) -> None:
    import second_device  # not at the top: `on_a_gpu` imports this file, and a process with this device can use no GPU

    assert second_device.NAME in BOTH
    torch.set_num_threads(1)
    if what == "parts":
        for name, build, act in all_parts():
            _report(name, lambda build=build, act=act: _part_differs(build, act))
    else:
        folder, *recipes = arguments
        for name in recipes:
            _report(name, lambda name=name: _run_differs(Path(folder), name))


def _report(name: str, differs: Callable[[], str]) -> None:
    try:
        what = differs()
    except Exception as error:  # every error is reported
        place = traceback.extract_tb(error.__traceback__)[-1]
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/mpdvae/" in frame.filename]
        place = ours[-1] if ours else place
        what = f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
    if what:
        print(f"{name}: {what}")


# Parts


def all_parts() -> Iterator[tuple[str, Callable[[], nn.Module], Act]]:
    """Yields the name and the constructor of every part, with a function that uses the part and returns the outcomes."""
    for p in with_shapes(ENCODERS) + with_shapes(HEADED_ENCODERS):
        build, shape = p.values
        yield f"encoder {p.id}", lambda b=build, s=shape: b(s, LATENT), _encode(binary_images(BATCH, *shape))
    for p in with_maps(MAP_ENCODERS):
        yield f"encoder {p.id}", lambda p=p: p.values[0](), _encode(colour_images(BATCH, *p.values[1]))
    for p in with_shapes(DECODERS):
        build, shape = p.values
        x, z = binary_images(BATCH, *shape), torch.randn(2, BATCH, LATENT)
        yield f"decoder {p.id}", lambda b=build, s=shape: b(s, LATENT), _decode(x, z)
    for p in with_maps(MAP_DECODERS):
        build, shape, code = p.values
        yield f"decoder {p.id}", build, _decode(colour_images(BATCH, *shape), torch.randn(2, BATCH, *code))
    for name, build in PRIORS.items():
        yield f"prior {name}", lambda b=build: b(LATENT), _draw(torch.randn(2, BATCH, LATENT))
    for name, flow in MAP_FLOWS.items():
        prior = lambda flow=flow: FlowPrior(flow(MAP_CHANNELS), CODE_MAP)  # noqa: E731
        yield f"prior {name}", prior, _draw(torch.randn(BATCH, *CODE_MAP))


def _encode(x: Tensor) -> Act:
    def act(encoder: nn.Module, device: str) -> Sequence[Tensor]:
        q = encoder(x.to(device))
        z = q.rsample((2,))
        return q.log_prob(z).mean() + z.square().mean(), q.mean, q.stddev, z

    return act


def _decode(x: Tensor, z: Tensor) -> Act:
    def act(decoder: nn.Module, device: str) -> Sequence[Tensor]:
        p = decoder(z.to(device))
        log_prob = p.log_prob(x.to(device))
        return log_prob.mean(), log_prob, p.sample()

    return act


def _draw(z: Tensor) -> Act:
    def act(prior: nn.Module, device: str) -> Sequence[Tensor]:
        p = prior()
        log_prob = p.log_prob(z.to(device))
        return log_prob.mean(), log_prob, p.sample((BATCH,))

    return act


def _part_differs(build: Callable[[], nn.Module], act: Act) -> str:
    """Describes how outcomes and gradients differ between the devices. The first outcome is differentiated."""
    here, there = ([*outcomes, *gradients] for outcomes, gradients in (tensors_of(build, act, on) for on in BOTH))
    if len(here) != len(there):
        return f"{len(here)} tensors here, {len(there)} there"
    return ", ".join(f"tensor {i}" for i, (a, b) in enumerate(zip(here, there, strict=True)) if not torch.equal(a, b))


def tensors_of(build: Callable[[], nn.Module], act: Act, device: str) -> tuple[list[Tensor], list[Tensor]]:
    """Returns the outcomes of a part on a device, and the gradients of the first outcome, all on the CPU."""
    torch.manual_seed(0)
    part = shaken(build()).to(device)
    outcomes = act(part, device)
    if outcomes[0].requires_grad:
        outcomes[0].backward()
    gradients = [p.grad for p in part.parameters() if p.grad is not None]
    return [t.detach().cpu() for t in outcomes], [g.detach().cpu() for g in gradients]


# Runs


def _run_differs(folder: Path, name: str) -> str:
    """Describes how runs of a recipe differ between the devices."""
    runs = []
    for device in BOTH:
        experiment = tiny(name, **({"training__steps": LONGER[name]} if name in LONGER else {}))
        if ROUNDED in name:
            experiment = with_changes(experiment, training__learning_rate=ROUNDED_RATE)
        (job,) = jobs([experiment], 1, folder / device, device=device)
        runs.append(Run.create(job.folder, job.experiment))
        if failure := _run_one(0, job, None)[1]:
            return failure
    if ROUNDED in name:
        nats = [[entry["negative_elbo_nats"] for entry in run.history] for run in runs]
        return "" if math.dist(*nats) < ROUNDING * math.hypot(*nats[0]) else f"-ELBO {nats}"
    here, there = (_content(run) for run in runs)
    return ", ".join(name for name in here | there if here.get(name) != there.get(name))


def _content(run: Run) -> dict[str, Any]:
    """Returns the content of a run folder, without times and the folder's path."""
    history = [{k: v for k, v in entry.items() if not any(t in k for t in ABOUT_TIME)} for entry in run.history]
    found: dict[str, Any] = {"history": history}
    for path in sorted(run.path.rglob("*")):
        if path.is_file() and path.name not in ("manifest.json", "history.jsonl"):
            content = path.read_bytes().replace(str(run.path).encode(), b"DIR")
            found[path.relative_to(run.path).as_posix()] = content
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
