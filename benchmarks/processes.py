"""One run on 1, 2 and 4 processes of one thread: whether its losses are the same, and images per second.

python -m benchmarks processes [RECIPE]

More processes than cores cannot be faster; they show that the losses are the same. One process of two threads shows what
rounding alone does: sums are cut elsewhere there, too."""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import torch

from mpdvae.experiments.recipes import recipe
from mpdvae.system import process_group
from mpdvae.training.learner_state import Learner
from mpdvae.training.loop import training_step
from mpdvae.workflows.job import load_data

PROCESSES_AND_THREADS = ((1, 1), (1, 2), (2, 1), (4, 1))
WARM_UP, STEPS = 2, 20


def member(name: str, threads: int) -> None:
    """What each process does: some steps of the recipe. The first prints their losses and the speed."""
    experiment = recipe(name)
    with process_group.joined():
        torch.set_num_threads(1)
        data = load_data(experiment)
        learner = Learner.start(experiment, data)
        learner.initialise(data)
        torch.set_num_threads(threads)
        losses, started = [], time.perf_counter()
        for step in range(WARM_UP + STEPS):
            if step == WARM_UP:
                started = time.perf_counter()
            losses.append(training_step(learner, data)[0].total.item())
        images = STEPS * experiment.training.batch_size / (time.perf_counter() - started)
        print(json.dumps({"losses": losses, "images_per_second": images}))


def measured(name: str, count: int, threads: int) -> dict:
    """What the first of `count` processes prints, each of so many threads."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = [
        process_group.environment_of(rank, count, port) | {"TORCHELASTIC_USE_AGENT_STORE": ""} for rank in range(count)
    ]
    command = [sys.executable, "-m", "benchmarks", "processes", "member", name, str(threads)]
    first, *others = [subprocess.Popen(command, env=os.environ | place, stdout=subprocess.PIPE) for place in places]
    output, _ = first.communicate()
    if any(process.wait() for process in (first, *others)):
        sys.exit("a process failed")
    return json.loads(output)


def main(arguments: Sequence[str]) -> None:
    """Prints the table. The processes that it starts call it, too, as `member RECIPE THREADS`."""
    if arguments[:1] == ["member"]:
        member(arguments[1], int(arguments[2]))
        return
    parser = argparse.ArgumentParser("python -m benchmarks processes", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="mae-mnist-minutes")
    compare(parser.parse_args(arguments).recipe)


def compare(name: str) -> None:
    """Prints the table."""
    print(
        "| processes | threads of each | images/s | largest relative difference of a loss |\n| --- | --- | --- | --- |"
    )
    expected: list[float] = []
    for count, threads in PROCESSES_AND_THREADS:
        found = measured(name, count, threads)
        expected = expected or found["losses"]
        pairs = zip(found["losses"], expected, strict=True)
        difference = max(abs(one - other) / abs(other) for one, other in pairs)
        print(f"| {count} | {threads} | {found['images_per_second']:.0f} | {difference:.0e} |", flush=True)
