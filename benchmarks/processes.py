"""One run on 1, 2 and 4 processes: whether its losses are the same, and images per second.

python benchmarks/processes.py [RECIPE]

Each process has one thread. More processes than cores cannot be faster; they show that the losses are the same."""

import json
import os
import socket
import subprocess
import sys
import time

import torch

from mpdvae import processes
from mpdvae.jobs import load_data
from mpdvae.learner import Learner
from mpdvae.recipes import recipe
from mpdvae.training import _step

COUNTS = (1, 2, 4)
WARM_UP, STEPS = 2, 20


def member(name: str) -> None:
    """What each process does: some steps of the recipe. The first prints their losses and the speed."""
    experiment = recipe(name)
    with processes.joined():
        torch.set_num_threads(1)
        data = load_data(experiment)
        learner = Learner.start(experiment, data)
        learner.initialise(data)
        losses = []
        for step in range(WARM_UP + STEPS):
            if step == WARM_UP:
                started = time.perf_counter()
            losses.append(_step(learner, data)[0].total.item())
        images = STEPS * experiment.training.batch_size / (time.perf_counter() - started)
        print(json.dumps({"losses": losses, "images_per_second": images}))


def measured(name: str, count: int) -> dict:
    """What the first of `count` processes prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = [
        processes.environment_of(rank, count, port) | {"TORCHELASTIC_USE_AGENT_STORE": ""} for rank in range(count)
    ]
    command = [sys.executable, __file__, "member", name]
    first, *others = [subprocess.Popen(command, env=os.environ | place, stdout=subprocess.PIPE) for place in places]
    output, _ = first.communicate()
    if any(process.wait() for process in (first, *others)):
        sys.exit("a process failed")
    return json.loads(output)


def main(name: str) -> None:
    """Prints the table."""
    print("| processes | images/s | largest relative difference of a loss |\n| --- | --- | --- |")
    expected: list[float] = []
    for count in COUNTS:
        found = measured(name, count)
        expected = expected or found["losses"]
        pairs = zip(found["losses"], expected, strict=True)
        difference = max(abs(one - other) / abs(other) for one, other in pairs)
        print(f"| {count} | {found['images_per_second']:.0f} | {difference:.0e} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["member"]:
        member(sys.argv[2])
    else:
        main(sys.argv[1] if sys.argv[1:] else "mae-mnist-minutes")
