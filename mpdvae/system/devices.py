"""What the device `auto` stands for, and arithmetic in float64 on devices that have none.

A new run takes a GPU if there is one. What continues a run, measures it or repeats it takes the kind of device that the run
was made on: last digits depend on the device, and a difference should have another cause.

Apple's GPUs (MPS) compute in float32 at the most. Sums that need more are then computed on the CPU: `to_float64`.
"""

import sys
from functools import cache
from typing import TYPE_CHECKING

from mpdvae.errors import printable

if TYPE_CHECKING:
    from torch import Tensor, device

AUTO = "auto"
WITHOUT_FLOAT64 = {"mps"}
"""Types of devices that have no float64."""


def device_for(asked: str | None, made_on: str | None = None, told: bool = True) -> str | None:
    """Returns the device for `asked`; None stands for the CPU. If that is a GPU nobody asked for, one line says so.

    Arguments:
        asked: auto, or a device.
        made_on: type of the device that the run was made on; None: a new run.
        told: whether that line is printed.
    """
    if asked != AUTO:
        return asked
    if made_on == "cpu" or (kind := _gpu_here()) is None:
        return None
    if told:
        _say(kind)
    return kind


def to_float64(t: "Tensor") -> "Tensor":
    """Returns the tensor in float64, on the CPU if its device has none. Gradients pass."""
    return (t.cpu() if t.device.type in WITHOUT_FLOAT64 else t).double()


def back(t: "Tensor", like: "Tensor") -> "Tensor":
    """Returns the tensor in the precision of `like` and on its device. Gradients pass."""
    return t.to(like.dtype).to(like.device)


def of_sums(used: "device") -> "device":
    """Returns the device of sums in float64 over what is computed on the device `used`."""
    import torch

    return torch.device("cpu") if used.type in WITHOUT_FLOAT64 else used


def _gpu_here() -> str | None:
    """Returns the type of GPU that torch can use on this machine; None if there is none."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


@cache
def _say(kind: str) -> None:
    """Says, once in a process, which GPU is used."""
    import torch

    names = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if kind == "cuda" else ["Apple GPU"]
    )
    line = f"device: {kind} ({', '.join(sorted(set(names)))}); --device cpu, in Python device='cpu', takes the CPU"
    print(printable(line), file=sys.stderr, flush=True)
