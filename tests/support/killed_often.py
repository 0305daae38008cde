"""Runs one `mpdvae` command again and again in processes that are killed (-9), until one ends by itself: called as

    python killed_often.py SEED KILLS HOW LEAST MOST -- ARGUMENTS

HOW says what a process lives for: `seconds`, or `writes`, which end just before or just after a file takes its name. How
many it gets is uniform between LEAST and MOST. After KILLS kills processes live as long as they like. Prints how long
the last one lived and how many kills there were; exits as the last process did.

Processes are forks of this one, which has imported everything and computed nothing: so a kill costs no imports.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable

import torch

import mpdvae.evaluation.run_evaluation
import mpdvae.training.loop  # noqa: F401 - imported before there are forks
from mpdvae.commands.cli import main

replace = os.replace


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_write(number: int, after: bool) -> None:
    """This process dies at the write of that number, before or after the file has its name."""
    left = number

    def counted(*arguments: object, **options: object) -> None:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            die()
        replace(*arguments, **options)  # type: ignore[arg-type]
        if left == 0:
            die()

    os.replace = counted


def fork(arguments: list[str], prepare: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        torch.set_num_threads(1)
        prepare()
        os._exit(main(arguments))
    return pid


def ended(pid: int, seconds: float) -> int | None:
    """The exit code, once it ends by itself; None where it was killed, by us if it lived for so long."""
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.005)


def run() -> int:
    seed, kills, how, least, most, _, *arguments = sys.argv[1:]
    random.seed(int(seed))
    killed = 0
    while True:
        seconds, prepare = float("inf"), lambda: None
        if killed < int(kills):
            life = random.uniform(float(least), float(most))
            if how == "seconds":
                seconds = life
            else:
                number, after = round(life), random.random() < 0.5
                prepare = lambda number=number, after=after: die_at_write(number, after)  # noqa: E731
        started = time.monotonic()
        code = ended(fork(arguments, prepare), seconds)
        if code is not None:
            print(f"lived {time.monotonic() - started} s, killed {killed} times")
            return code
        killed += 1


if __name__ == "__main__":
    sys.exit(run())
