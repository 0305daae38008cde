"""Limits the size of networks: counts the tensor elements of a configuration before memory is allocated.

A configuration of a few bytes can request terabytes. The number of elements of a network follows from its sizes by a
different rule for each part; instead of repeating these rules, every tensor is counted just before it is created.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from mpdvae.errors import InputError

MOST_NUMBERS = 2**28
"""Maximum number of elements of all tensors created while building a network, including masks and initial draws: a gigabyte
in single precision. The largest network of the paper has 48 million."""
_BY_SIZE = {"empty", "zeros", "ones", "full", "rand", "randn", "expand", "repeat"}
_BY_LENGTH = {"arange", "eye", "linspace"}


class Bounded(TorchDispatchMode):
    """Context in which tensors of at most `MOST_NUMBERS` elements in total can be created; more raise `InputError`."""

    made = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch's compiler is imported, which is not needed here and takes a second or more

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asked = _asked(func.overloadpacket.__name__.removeprefix("new_"), args)
        self.made += asked
        if self.made > MOST_NUMBERS:
            raise InputError(
                f"this configuration requests a network of more than {MOST_NUMBERS:,} numbers (weights and masks); reduce "
                "latent_dim or the sizes of encoder, decoder or prior.",
                topic="memory",
            )
        return func(*args, **(kwargs or {}))


def _asked(name: str, args: Any) -> int:
    """Returns how many elements an operation is about to create from a size or by broadcasting; 0 for other operations."""
    if name.endswith("_like") or name == "clone":
        return args[0].numel()
    if name in _BY_SIZE:
        return math.prod(next((arg for arg in args if isinstance(arg, list | tuple)), [1]))
    if name in _BY_LENGTH:
        return math.prod(abs(int(arg)) for arg in args if isinstance(arg, int | float) and arg)
    shapes = [arg.shape for arg in args if isinstance(arg, Tensor) and not is_lazy(arg)]
    if len(shapes) < 2 or shapes[0] == shapes[1]:
        return 0
    try:
        return math.prod(torch.broadcast_shapes(*shapes))
    except RuntimeError:
        return 0  # not broadcast: a matrix product, a convolution
