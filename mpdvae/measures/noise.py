"""Noise of some rows of a batch as if all rows were drawn together.

torch's generators give their numbers in the order of memory, so that a row's noise depends on the rows before it. A piece of
a batch gets the noise of its rows where it draws that of all rows, from the same state of the generator, and keeps its part.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_DRAWS = {"bernoulli", "bernoulli_", "exponential_", "normal_", "uniform_"}
"""Operations on a tensor, after whose shape the noise is drawn; their outcomes need as many random numbers for each element
whatever is in it."""


class NoiseOfAll(TorchDispatchMode):
    """Inside, tensors that are drawn on have the rows `of` a batch of `rows` along their first axis.

    Raises `NotImplementedError` for random operations that it does not know.
    """

    def __init__(self, of: slice, rows: int) -> None:
        super().__init__()
        self.of, self.rows = of, rows

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch's compiler, which has no part here, is imported: a second or more

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        name, x = func.overloadpacket.__name__, args[0]
        if name not in _DRAWS:
            raise NotImplementedError(f"pieces of what {name} draws")
        drawn = func(self._like_all(x), *args[1:], **kwargs)[self.of]
        return x.copy_(drawn) if name.endswith("_") else drawn

    def _like_all(self, x: Tensor) -> Tensor:
        """`x` with all rows, laid out in memory as it is; what is in other rows does not matter."""
        whole = x.new_empty_strided((self.rows, *x.shape[1:]), x.stride()).fill_(0.5)
        whole[self.of] = x
        return whole
