"""Runs one `mpdvae` command repeatedly in processes that are killed (-9), until one ends without being killed. Usage:

    python killed_often.py SEED KILLS HOW LEAST MOST -- ARGUMENTS

HOW is the unit of a process's lifetime: `seconds`, or `writes`; at the last write, the process dies just before or just
after the file takes its name. The lifetime is uniform between LEAST and MOST. After KILLS kills, processes live as long as
they need. Prints how long the last process lived and how many were killed, and exits with the last one's exit code.

Processes are forks of this one, which has imported everything and computed nothing, so that kills do not cost any imports.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable

import torch

import mpdvae.evaluation.run_evaluation
import mpdvae.training.loop  # noqa: F401 - imported before forking
from mpdvae.commands.cli import main

replace = os.replace


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_write(number: int, after: bool) -> None:
    """Makes this process die at write `number`, before or after the file takes its name."""
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
    """Waits for the process; returns its exit code, or None if it was killed. Kills it after `seconds`."""
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
