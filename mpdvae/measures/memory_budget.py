"""What is done where the machine has not the memory that an evaluation wants: smaller pieces, and the same numbers.

A lack of memory makes pieces smaller, as small as it takes. It changes no number beyond rounding: noise belongs to images,
or is drawn for all of them in each piece (`drawn_in_pieces`). Whoever listens by `shortage_told` is told once. A training
step is not made smaller: its gradient needs the whole batch at once; there, a lack of memory ends in one sentence
(`shortage_ends`). How much memory a piece takes is measured by `memory_use`.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mpdvae.errors import InputError, RunError
from mpdvae.seeding import seeded

T = TypeVar("T")

_DRAWS = {"bernoulli", "bernoulli_", "exponential_", "normal_", "uniform_"}
"""Operations on a tensor, after whose shape the noise is drawn; their outcomes need as many random numbers for each element
whatever is in it."""


class _Listener:
    """Told once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.told = say, False

    def tell(self) -> None:
        if not self.told:
            self.told = True
            self.say("out of memory: going on in smaller pieces, as small as it takes")


_LISTENER: ContextVar[_Listener | None] = ContextVar("listener", default=None)


@contextmanager
def shortage_told(say: Callable[[str], None]) -> Iterator[None]:
    """Inside, `say` is told where memory is short, the first time."""
    token = _LISTENER.set(_Listener(say))
    try:
        yield
    finally:
        _LISTENER.reset(token)


@contextmanager
def shortage_ends(advice: str) -> Iterator[None]:
    """Inside, a lack of memory is a `RunError` that gives `advice`: for what cannot be made smaller."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise RunError(f"out of memory; {advice}", topic="memory") from error


class Budget:
    """A memory budget of `size` bytes that halves where the machine has not so much."""

    def __init__(self, size: int = 2**30) -> None:
        self.bytes, self.first = size, size

    def spend(self, compute: Callable[[int], T]) -> T:
        """What `compute` makes of the budget. Raises `RunError` where not even the smallest piece fits."""
        while True:
            try:
                return compute(self.bytes)
            except InputError as error:
                if self.bytes == self.first:
                    raise
                raise RunError(f"out of memory, even in the smallest pieces ({error}).", topic="memory") from error
            except (RuntimeError, MemoryError) as error:
                _refuse_unless_smaller(error, self.bytes)
            self.bytes //= 2
            _give_back()


def in_pieces(compute: Callable[[slice], Tensor], rows: int, at_once: int | None = None, axis: int = 0) -> Tensor:
    """What `compute` makes of `rows` rows, in order along `axis`: of `at_once` of them at a time (default: all), and of half
    as many after each lack of memory. A row must get the same, whichever rows go with it.

    Raises `RunError` where not even one row fits.
    """
    size, parts, done = min(at_once or rows, rows), [], 0
    while done < rows or not parts:
        try:
            parts.append(compute(slice(done, min(done + size, rows))))
            done += size
            continue
        except (RuntimeError, MemoryError) as error:
            _refuse_unless_smaller(error, size)
        size = math.ceil(size / 2)
        _give_back()  # now that the error, which holds what was begun, is gone
    return torch.cat(parts, axis)


def drawn_in_pieces(draw: Callable[[slice], Tensor], rows: int, *key: int | str) -> Tensor:
    """`in_pieces` of what is drawn along the first axis by torch's generators, seeded by `key`: each piece draws the noise of
    all rows and takes its part, so that the pieces are those of the whole."""

    def part(of: slice) -> Tensor:
        whole = of == slice(0, rows)
        with seeded(*key), nullcontext() if whole else NoiseOfAll(of, rows):
            return draw(of)

    return in_pieces(part, rows)


class NoiseOfAll(TorchDispatchMode):
    """Noise of some rows of a batch as if all rows were drawn together.

    torch's generators give their numbers in the order of memory, so that a row's noise depends on the rows before it. A piece
    of a batch gets the noise of its rows where it draws that of all rows, from the same state of the generator, and keeps its
    part. Inside, tensors that are drawn on have the rows `of` a batch of `rows` along their first axis.

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


def _refuse_unless_smaller(error: Exception, size: int) -> None:
    """Raises `error` unless it is a lack of memory, of which is told; `RunError` where `size` cannot be made smaller."""
    if not _is_out_of_memory(error):
        raise error
    if size <= 1:
        raise RunError(
            "out of memory, even in the smallest pieces; close what else runs, or take a smaller model.", topic="memory"
        ) from error
    if listener := _LISTENER.get():
        listener.tell()


def _give_back() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _is_out_of_memory(error: Exception) -> bool:
    """On a CPU torch says it in words."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
