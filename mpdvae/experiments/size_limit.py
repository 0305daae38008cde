"""Networks of a bounded size: what a configuration asks for is counted before memory is taken.

A configuration of a few bytes can ask for terabytes. How many numbers a network has follows from its sizes by a rule of its
own for each part; instead of repeating these rules, every tensor is counted as it is about to be made.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mpdvae.errors import InputError

MOST_NUMBERS = 2**28
"""Of all tensors together that building a network makes, masks and first draws included: a gigabyte in single precision.
The largest network of the paper has 48 million."""
_BY_SIZE = {"empty", "zeros", "ones", "full", "rand", "randn", "expand", "repeat"}
_BY_LENGTH = {"arange", "eye", "linspace"}


class Bounded(TorchDispatchMode):
    """Inside, tensors of at most `MOST_NUMBERS` numbers in all are made; `InputError` where more are asked for."""

    made = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch's compiler, which has no part here, is imported: a second or more

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asked = _asked(func.overloadpacket.__name__.removeprefix("new_"), args)
        self.made += asked
        if self.made > MOST_NUMBERS:
            raise InputError(
                f"this configuration asks for a network of more than {MOST_NUMBERS:,} numbers (weights and masks); make "
                "latent_dim or the sizes of encoder, decoder or prior smaller.",
                topic="memory",
            )
        return func(*args, **(kwargs or {}))


def _asked(name: str, args: Any) -> int:
    """How many numbers an operation is about to make, if it makes them from a size or by pairing shapes; else 0."""
    if name.endswith("_like") or name == "clone":
        return args[0].numel()
    if name in _BY_SIZE:
        return math.prod(next((arg for arg in args if isinstance(arg, list | tuple)), [1]))
    if name in _BY_LENGTH:
        return math.prod(abs(int(arg)) for arg in args if isinstance(arg, int | float) and arg)
    shapes = [arg.shape for arg in args if isinstance(arg, Tensor)]
    if len(shapes) < 2 or shapes[0] == shapes[1]:
        return 0
    try:
        return math.prod(torch.broadcast_shapes(*shapes))
    except RuntimeError:
        return 0  # shapes that meet in another way: a product of matrices, a convolution
