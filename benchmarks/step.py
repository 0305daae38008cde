"""How fast a training step of a recipe is in each precision, uncompiled and compiled, on this machine.

python -m benchmarks step [RECIPE]

A line per variant, then the fastest whose loss agrees with float32 uncompiled: what `--training.precision auto` chooses for
a run that is long enough to pay back compiling."""

import argparse
import os
from collections.abc import Sequence

import torch

from mpdvae.experiments.recipes import recipe
from mpdvae.training.fastest_step import VARIANTS, fastest
from mpdvae.workflows.job import load_data, on_device

ENDLESS = 10**9
"""Steps of a run that pays back any compilation."""


def main(arguments: Sequence[str]) -> None:
    """Prints the seconds per step of each variant, and the images per second of the fastest."""
    parser = argparse.ArgumentParser("python -m benchmarks step", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="mae-mnist-minutes")
    parser.add_argument("--device", default=None, help="cpu, cuda, ...; default: cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all cores")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    experiment = recipe(chosen.recipe)
    batch = experiment.training.batch_size
    print(f"{chosen.recipe}, batch {batch}, {chosen.threads} threads", flush=True)
    found = fastest(experiment, on_device(load_data(experiment), chosen.device), run_steps=ENDLESS)
    for variant in VARIANTS:
        seconds = found.step_seconds.get(variant.name)
        speed = "-" if seconds is None else f"{seconds:.4g} s per step, {batch / seconds:.1f} images/s"
        why = found.left_out.get(variant.name)
        print(f"{variant.name}: {speed}{f' ({why})' if why else ''}")
    print(f"fastest: {found.variant.name}")
    print(f"{batch / found.step_seconds[found.variant.name]:.1f} images/s")
