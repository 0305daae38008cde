r"""Several processes that train or measure one run together, each on its own GPU or on a share of the cores.

torchrun, `accelerate launch` and `--processes N` start the processes and pass each its place in the same environment
variables: RANK of WORLD_SIZE, LOCAL_RANK on its machine, and the address of the first process. Inside `joined()` they form
a group, which communicates by gloo between CPUs and by NCCL between GPUs. All processes perform the same steps and reach
the same decisions, because the values that these depend on are the same on all of them; only the first process writes and
prints. Without a group, everything here does nothing.

The only operation that communicates is the sum over processes (all-reduce), which gives every process the same bits.
`mpdvae.system.batch_sharding` describes how it is used to divide a batch.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from mpdvae.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Result = TypeVar("Result")
Task = TypeVar("Task")

PATIENCE = timedelta(minutes=10)
"""Timeout for waiting for another process in a sum. gloo, or the launcher, detects at once that a process has ended."""


class LostProcess(RuntimeError):
    """Another process of the group ended or does not respond."""


@dataclass(frozen=True)
class Place:
    """The place of a process among those of its run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


_here = Place()


def rank() -> int:
    """Returns the rank of this process, from 0; 0 without a group."""
    return _here.rank


def world() -> int:
    """Returns the number of processes (world size); 1 without a group."""
    return _here.size


def is_first() -> bool:
    """Returns whether this process is the one that writes and prints, whether or not it has joined the group yet."""
    return _place_in_environment().rank == 0


def cores() -> int:
    """Returns the number of cores of this machine for each of its processes, at least 1."""
    return max(1, usable_cores() // _here.local_size)


def usable_cores() -> int:
    """Returns the number of cores that this process may use, which may be fewer than the machine has in a container or a
    cluster job."""
    from joblib import cpu_count

    return cpu_count()


@contextmanager
def joined() -> Iterator[None]:
    """Makes this process a member of the group that the environment describes, if any, within the context.

    Raises `LostProcess` if the other processes do not join.
    """
    place = _place_in_environment()
    if place.size == 1:
        yield
        return
    import torch
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with loss_is_told():
        dist.init_process_group(backend, timeout=PATIENCE)
    with open(os.devnull, "w") as silence, redirect_stdout(sys.stdout if place.rank == 0 else silence), _at(place):
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(cores())
        yield
    dist.destroy_process_group()  # not after an error, when others may still wait: then it ends with the process


def after_first(make: Callable[[], Result]) -> Result:
    """Returns `make()`, which the first process calls before all others, so that they find what it has created."""
    if is_first():
        made = make()
        wait_for_all()
        return made
    wait_for_all()
    return make()


def wait_for_all() -> None:
    """Blocks until every process has called it."""
    if world() > 1:
        import torch

        add_up(torch.zeros(1))


def take_turns(tasks: Sequence[Task], do: Callable[[Task], object]) -> None:
    """Calls `do` on each of the `tasks` in one of the processes, with as many tasks in parallel as there are processes;
    returns when all are done. A single process does nothing here."""
    if world() == 1:
        return
    for start in range(0, len(tasks), world()):
        if start + rank() < len(tasks):
            do(tasks[start + rank()])
        wait_for_all()


def add_up(x: "Tensor") -> "Tensor":
    """Sums `x` over processes in place and returns it, with the same bits on all of them. Raises `LostProcess`."""
    if world() > 1:
        import torch.distributed as dist

        with loss_is_told():
            dist.all_reduce(x)
    return x


def take_from_first(tensors: "Iterable[Tensor]") -> None:
    """Sets `tensors` to their values in the first process: machines of different types may round differently."""
    if world() > 1:
        import torch.distributed as dist

        for tensor in tensors:
            with loss_is_told():
                dist.broadcast(tensor.detach(), src=0)


def of_first(value: float) -> float:
    """Returns the `value` of the first process, on all of them."""
    if world() == 1:
        return value
    import torch

    shared = torch.tensor([value], dtype=torch.float64)
    take_from_first([shared])
    return shared.item()


def agree(value: int) -> bool:
    """Returns whether all processes have the same `value`, below 2^53; the answer is the same on all of them."""
    if world() == 1:
        return True
    import torch

    others = add_up(torch.tensor([float(value != of_first(value))]))
    return others.item() == 0


def any_is(flag: bool) -> bool:
    """Returns whether the flag of any process is set; the answer is the same on all of them."""
    if world() == 1:
        return flag
    import torch

    return add_up(torch.tensor([float(flag)])).item() > 0


def check_processes(asked: int | None) -> None:
    """Raises `InputError` unless `asked`, the value of `--processes`, is None or the number of processes of this run."""
    if asked is not None and asked < 1:
        raise InputError(f"--processes: expected a number >= 1, got {asked}.")
    if asked is not None and asked != world():
        raise InputError(
            f"--processes: expected {world()}, as many as were started, got {asked}; omit this option here."
        )


def own_device(asked: str | None) -> str | None:
    """Returns the device of this process: if there are several processes and GPUs, each process takes its own GPU.

    Raises `InputError` for a device that several processes cannot share, or for too few GPUs.
    """
    if world() == 1:
        return asked
    import torch

    if asked not in (None, "cpu", "cuda"):
        raise InputError(
            f"--device: for several processes, expected cpu, or cuda for a GPU each, got {asked!r}.", topic="device"
        )
    if asked == "cpu" or (asked is None and not torch.cuda.is_available()):
        return "cpu"
    if _here.local_size > torch.cuda.device_count():
        raise InputError(
            f"--processes: {_here.local_size} processes on this machine need as many GPUs, found "
            f"{torch.cuda.device_count()}; start fewer processes, or use --device cpu.",
            topic="device",
        )
    torch.cuda.set_device(_here.local_rank)
    return f"cuda:{_here.local_rank}"


def started_with_others() -> bool:
    """Returns whether this process was started as one of several."""
    return _place_in_environment().size > 1


def environment_of(rank: int, size: int, port: int) -> dict[str, str]:
    """Returns the environment variables for process `rank` of `size` on this machine, if the launcher keeps the store at
    `port` through which the processes find each other."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store exists already
    }


def _place_in_environment() -> Place:
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return Place()  # some clusters set WORLD_SIZE for every job
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return Place(rank, size, int(os.environ.get("LOCAL_RANK", rank)), int(os.environ.get("LOCAL_WORLD_SIZE", size)))


@contextmanager
def _at(place: Place) -> Iterator[None]:
    global _here
    before, _here = _here, place
    try:
        yield
    finally:
        _here = before


@contextmanager
def loss_is_told() -> Iterator[None]:
    """Raises `LostProcess` if a collective operation within the context fails."""
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL have no more specific error in common
        raise LostProcess("another process of this run ended or does not respond") from error
