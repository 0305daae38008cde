r"""Several processes that train or measure one run together, each on a GPU of its own or a share of the cores.

torchrun, `accelerate launch` and `--processes N` start them and tell each its place by the same environment variables: RANK
of WORLD_SIZE, LOCAL_RANK on its machine, and the address of the first. Inside `joined()` they form a group; messages go by
gloo between CPUs and by NCCL between GPUs. All processes do the same steps and come to the same decisions, because what they
decide by is the same on all; the first one alone writes and speaks. Without a group everything here does nothing.

One operation is all that is sent: the sum over processes (all-reduce), which gives every process the same bits. How a batch
is divided by means of it is in `mpdvae.system.batch_sharding`.
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
    from torch import Tensor, nn

Result = TypeVar("Result")
Task = TypeVar("Task")

PATIENCE = timedelta(minutes=10)
"""How long a process waits for another one in a sum. One that ended is noticed at once, by gloo, or by what started it."""


class LostProcess(RuntimeError):
    """Another process of the group ended, or does not answer."""


@dataclass(frozen=True)
class Place:
    """Where a process stands among those of its run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


_here = Place()


def rank() -> int:
    """The number of this process, from 0; without a group 0."""
    return _here.rank


def world() -> int:
    """How many processes there are; without a group 1."""
    return _here.size


def is_first() -> bool:
    """Whether this process is the one that writes and speaks, be it in a group already or not."""
    return _place_in_environment().rank == 0


def cores() -> int:
    """Cores of this machine for each of its processes, at least 1."""
    return max(1, usable_cores() // _here.local_size)


def usable_cores() -> int:
    """Cores that this process may use: fewer than the machine has in a container or a cluster's job, perhaps."""
    from joblib import cpu_count

    return cpu_count()


@contextmanager
def joined() -> Iterator[None]:
    """Inside, this process is a member of the group that the environment tells of, if it tells of one.

    Raises `LostProcess` where the others don't come.
    """
    place = _place_in_environment()
    if place.size == 1:
        yield
        return
    import torch
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _loss_is_told():
        dist.init_process_group(backend, timeout=PATIENCE)
    with open(os.devnull, "w") as silence, redirect_stdout(sys.stdout if place.rank == 0 else silence), _at(place):
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(cores())
        yield
    dist.destroy_process_group()  # after an error others may still be waiting: there the end of the process is the end


def after_first(make: Callable[[], Result]) -> Result:
    """`make()`, by the first process before all others: for what one must have made, so that the others find it."""
    if is_first():
        made = make()
        wait_for_all()
        return made
    wait_for_all()
    return make()


def wait_for_all() -> None:
    """Returns when every process has come here."""
    if world() > 1:
        import torch

        add_up(torch.zeros(1))


def take_turns(tasks: Sequence[Task], do: Callable[[Task], object]) -> None:
    """Does every `task` in one of the processes, as many at a time as there are processes; returns when all are done. One
    process alone has no turns to take: it does nothing."""
    if world() == 1:
        return
    for start in range(0, len(tasks), world()):
        if start + rank() < len(tasks):
            do(tasks[start + rank()])
        wait_for_all()


def add_up(x: "Tensor") -> "Tensor":
    """The sum of `x` over processes, in place and on all of them the same bits. Raises `LostProcess`."""
    if world() > 1:
        import torch.distributed as dist

        with _loss_is_told():
            dist.all_reduce(x)
    return x


def backward(loss: "Tensor", moving: "list[nn.Parameter]") -> None:
    """Sets the gradient of `loss`, which every process has alike, in the parameters `moving`.

    Each process goes back from its equal part of the loss, along the images that it holds; the sum of what they find is
    the gradient. It is sent in one message.
    """
    if world() == 1:
        loss.backward(inputs=moving)
        return
    import torch

    (loss / world()).backward(inputs=moving)
    gradients = [p.grad for p in moving if p.grad is not None]
    total = add_up(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, part in zip(gradients, total.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def take_from_first(tensors: "Iterable[Tensor]") -> None:
    """Gives `tensors` the values that they have in the first process: machines of different make may round differently."""
    if world() > 1:
        import torch.distributed as dist

        for tensor in tensors:
            with _loss_is_told():
                dist.broadcast(tensor.detach(), src=0)


def agree(value: int) -> bool:
    """Whether all processes have the same `value`, on all of them the same answer."""
    if world() == 1:
        return True
    import torch

    total, squares = add_up(torch.tensor([value, value**2])).tolist()
    return world() * squares == total**2  # otherwise greater (Cauchy and Schwarz)


def any_is(flag: bool) -> bool:
    """Whether the flag of any process is set, on all of them the same answer."""
    if world() == 1:
        return flag
    import torch

    return add_up(torch.tensor([float(flag)])).item() > 0


def check_processes(asked: int | None) -> None:
    """Raises `InputError` unless `--processes` is what this process is one of."""
    if asked is not None and asked < 1:
        raise InputError(f"--processes: expected a number >= 1, got {asked}.")
    if asked is not None and asked != world():
        raise InputError(f"--processes: {asked} were asked for, but {world()} were started; leave it out here.")


def own_device(asked: str | None) -> str | None:
    """The device of this process: of several, each takes a GPU of its own where there are GPUs.

    Raises `InputError` for a device that several processes cannot share, or for too few GPUs.
    """
    if world() == 1:
        return asked
    import torch

    if asked not in (None, "cpu", "cuda"):
        raise InputError(
            f"--device: several processes take cpu, or cuda for a GPU each; got {asked!r}.", topic="device"
        )
    if asked == "cpu" or (asked is None and not torch.cuda.is_available()):
        return "cpu"
    if _here.local_size > torch.cuda.device_count():
        raise InputError(
            f"--processes: {_here.local_size} processes on this machine need as many GPUs, found "
            f"{torch.cuda.device_count()}; start fewer, or give --device cpu.",
            topic="device",
        )
    torch.cuda.set_device(_here.local_rank)
    return f"cuda:{_here.local_rank}"


def started_with_others() -> bool:
    """Whether this process was started as one of several."""
    return _place_in_environment().size > 1


def environment_of(rank: int, size: int, port: int) -> dict[str, str]:
    """What the environment of process `rank` of `size` on this machine says, if whoever starts them keeps the store at
    `port` where they meet."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is there already
    }


def _place_in_environment() -> Place:
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return Place()  # some clusters set a WORLD_SIZE for every job
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
def _loss_is_told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what gloo and NCCL raise has no common kind of its own
        raise LostProcess("another process of this run ended, or does not answer") from error
