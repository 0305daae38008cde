"""Handles out-of-memory errors in evaluations: smaller chunks, same results.

When memory runs out, chunks shrink until they fit. Results do not change beyond rounding: noise is tied to images, or each
chunk draws the noise of all images (`drawn_in_pieces`). A callback set by `shortage_told` is notified once. A training step
is not split, because its gradient needs the whole batch at once: there, running out of memory ends in a one-sentence error
(`shortage_ends`). `memory_use` measures how much memory a chunk takes.
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
"""Random operations whose noise has the shape of the tensor they act on, and that consume the same number of random numbers
per element whatever its value."""


class _Listener:
    """Notifies its callback once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.told = say, False

    def tell(self) -> None:
        if not self.told:
            self.told = True
            self.say("out of memory: continuing with smaller chunks, as small as necessary")


_LISTENER: ContextVar[_Listener | None] = ContextVar("listener", default=None)


@contextmanager
def shortage_told(say: Callable[[str], None]) -> Iterator[None]:
    """Context in which `say` is called the first time that memory runs out."""
    token = _LISTENER.set(_Listener(say))
    try:
        yield
    finally:
        _LISTENER.reset(token)


@contextmanager
def shortage_ends(advice: str) -> Iterator[None]:
    """Context in which running out of memory raises a `RunError` with `advice`: for work that cannot be split."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(f"out of memory; {advice}", topic="memory") from error


class Budget:
    """A memory budget of `size` bytes that is halved each time memory runs out."""

    def __init__(self, size: int = 2**30) -> None:
        self.bytes, self.first = size, size

    def spend(self, compute: Callable[[int], T]) -> T:
        """Returns `compute(bytes)`, halving the budget after each out-of-memory error.

        Raises `RunError` if not even the smallest chunk fits.
        """
        while True:
            try:
                return compute(self.bytes)
            except InputError as error:
                if self.bytes == self.first:
                    raise
                raise RunError(f"out of memory, even with the smallest chunks ({error}).", topic="memory") from error
            except (RuntimeError, MemoryError) as error:
                _refuse_unless_smaller(error, self.bytes)
            self.bytes //= 2
            _give_back()


def in_pieces(
    compute: Callable[[slice], Tensor], rows: int, at_once: int | None = None, axis: int = 0, alike: bool = False
) -> Tensor:
    """Computes `rows` rows in chunks and concatenates the results along `axis`, in order.

    Chunks have `at_once` rows (default: all), and half as many after each out-of-memory error. The result of a row must not
    depend on the other rows of its chunk. If `alike`, the last chunk is as large as the others and repeats some of their
    rows, because code compiled for one size is compiled again for another.

    Raises `RunError` if not even one row fits.
    """
    size, parts, done = min(at_once or rows, rows), [], 0
    while done < rows or not parts:
        start = max(0, min(done, rows - size)) if alike else done
        try:
            part = compute(slice(start, min(start + size, rows)))
            parts.append(part.narrow(axis, done - start, part.shape[axis] - (done - start)))
            done = start + size
            continue
        except (RuntimeError, MemoryError) as error:
            _refuse_unless_smaller(error, size)
        size = math.ceil(size / 2)
        _give_back()  # only now: the error kept the tensors of the failed attempt alive
    return torch.cat(parts, axis)


def drawn_in_pieces(draw: Callable[[slice], Tensor], rows: int, *key: int | str) -> Tensor:
    """Like `in_pieces`, for samples drawn along the first axis with torch's generators, seeded by `key`.

    Each chunk draws the noise of all rows and keeps its part, so that the result does not depend on the chunks.
    """

    def part(of: slice) -> Tensor:
        whole = of == slice(0, rows)
        with seeded(*key), nullcontext() if whole else NoiseOfAll(of, rows):
            return draw(of)

    return in_pieces(part, rows)


class NoiseOfAll(TorchDispatchMode):
    """Context in which a chunk of a batch gets the noise that its rows would get if the whole batch were drawn at once.

    torch's generators fill tensors in memory order, so that a row's noise depends on the rows before it. A chunk therefore
    draws the noise of all rows, from the same generator state, and keeps its part. Inside the context, the first axis of
    tensors that noise is drawn for holds the rows `of` a batch of `rows`.

    Raises `NotImplementedError` for unsupported random operations.
    """

    def __init__(self, of: slice, rows: int) -> None:
        super().__init__()
        self.of, self.rows = of, rows

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch's compiler is imported, which is not needed here and takes a second or more

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        name, x = func.overloadpacket.__name__, args[0]
        if name not in _DRAWS:
            raise NotImplementedError(f"cannot draw {name} in chunks")
        drawn = func(self._like_all(x), *args[1:], **kwargs)[self.of]
        return x.copy_(drawn) if name.endswith("_") else drawn

    def _like_all(self, x: Tensor) -> Tensor:
        """Returns a tensor of all rows, laid out in memory like `x`; values of rows outside `of` are arbitrary."""
        whole = x.new_empty_strided((self.rows, *x.shape[1:]), x.stride()).fill_(0.5)
        whole[self.of] = x
        return whole


def _refuse_unless_smaller(error: Exception, size: int) -> None:
    """Notifies of an out-of-memory error; raises any other `error`, and `RunError` if `size` cannot be reduced."""
    if not is_out_of_memory(error):
        raise error
    if size <= 1:
        raise RunError(
            "out of memory, even with the smallest chunks; close other programs or use a smaller model.", topic="memory"
        ) from error
    if listener := _LISTENER.get():
        listener.tell()


def _give_back() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    """On the CPU, torch reports it only in the message of a `RuntimeError`."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
