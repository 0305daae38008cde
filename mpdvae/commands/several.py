"""`--processes N`: runs the same command in N processes on this machine, and reports one message if one of them dies.

Each process reads its rank and the world size from its environment, as with torchrun (`mpdvae.system.process_group`). The
parent process hosts the rendezvous store, so that no port has to be guessed, and watches the others: if one fails or is
killed, or the user presses Ctrl-C, it ends the remaining processes, which would otherwise wait. Everything saved by then is
complete.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NoReturn

from mpdvae.errors import RunError
from mpdvae.system.process_group import environment_of
from mpdvae.system.signals import numbers

SHARED = ("train", "resume", "evaluate")
"""Commands that several processes can share."""
LOOK_SECONDS = 0.05
GRACE_SECONDS = 10
"""Time between asking a process to end and killing it."""

Member = subprocess.Popen[bytes]


def processes_asked_for(arguments: Sequence[str]) -> int:
    """Returns the value of `--processes` in the arguments of a command; 1 if it is absent or left to tyro to reject."""
    value = _option(arguments, "--processes") if arguments and arguments[0] in SHARED else None
    return int(value) if value and value.isascii() and value.isdigit() else 1


def run_in_processes(arguments: Sequence[str], size: int) -> int:
    """Runs `mpdvae ARGUMENTS` in `size` processes; returns the exit code when all have ended.

    Raises:
        RunError: if one was killed, or all were interrupted.
    """
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    members: list[Member] = []
    try:
        with _ended_like_an_interrupt():
            for rank in range(size):
                members.append(_start(arguments, environment_of(rank, size, store.port)))
            return _watch(members, arguments)
    except KeyboardInterrupt:
        raise RunError(f"interrupted; {how_to_go_on(arguments)}.") from None
    finally:
        _end(members)


def how_to_go_on(arguments: Sequence[str]) -> str:
    """Returns a clause with the command that resumes `mpdvae ARGUMENTS` after it was stopped."""
    out = _option(arguments, "--out")
    if arguments and arguments[0] == "train" and out:
        kept = {name: _option(arguments, name) for name in ("--device", "--processes")}
        arguments = ["resume", out, *(word for name, value in kept.items() if value for word in (name, value))]
    return f"`{shlex.join(['mpdvae', *arguments])}` resumes from the saved state"


def _start(arguments: Sequence[str], environment: dict[str, str]) -> Member:
    # In its own process group, which Ctrl-C does not reach: only the parent reports the interruption.
    return subprocess.Popen(
        [sys.executable, "-m", "mpdvae", *arguments],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        process_group=0,
    )


def _watch(members: Sequence[Member], arguments: Sequence[str]) -> int:
    """Returns the common exit code: that of the first process that fails, which has reported the reason itself."""
    while True:
        codes = [member.poll() for member in members]
        for rank, (code, member) in enumerate(zip(codes, members, strict=True)):
            if code:
                return _judge(rank, member.pid, code, arguments)
        if None not in codes:
            return 0
        time.sleep(LOOK_SECONDS)


def _judge(rank: int, pid: int, code: int, arguments: Sequence[str]) -> int:
    if code > 0:
        return code
    name = signal.Signals(-code).name
    raise RunError(f"process {rank} (pid {pid}) was ended by {name}; {how_to_go_on(arguments)}.", topic="workers")


def _end(members: Sequence[Member]) -> None:
    for member in members:
        if member.poll() is None:
            member.terminate()
    for member in members:
        try:
            member.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            member.kill()
            member.wait()


@contextmanager
def _ended_like_an_interrupt() -> Iterator[None]:
    """Treats signals that ask the process to stop like Ctrl-C, within the context."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _option(arguments: Sequence[str], name: str) -> str | None:
    """Returns the last value of the option `name`, given as `name value` or `name=value`."""
    found = [following for word, following in pairwise(arguments) if word == name]
    found += [word.partition("=")[2] for word in arguments if word.startswith(f"{name}=")]
    return found[-1] if found else None
