"""Bytes of tensors: what an evaluation needs, measured by a trial, the pieces that fit a stated budget, and what is done
where the machine has not so much.

A lack of memory makes pieces smaller, as small as it takes. It changes no number beyond rounding: noise belongs to images,
or is drawn for all of them in each piece (`drawn_in_pieces`). Whoever listens by `shortage_told` is told once. A training
step is not made smaller: its gradient needs the whole batch at once; there, a lack of memory ends in one sentence
(`shortage_ends`).

The bytes for n items are the largest of some increasing straight lines in n (weights computed on the way count in their
intercepts), so the bytes for one item, measured at n = `TRIAL`, are an upper bound for larger n. What a kernel uses
inside itself is not seen: half of the budget is left to it.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import finalize

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mpdvae.errors import InputError, RunError
from mpdvae.measures.noise import NoiseOfAll
from mpdvae.models.acceleration import uncompiled
from mpdvae.seeding import seeded
from mpdvae.vae import VAE

TRIAL = 8
"""Images, or samples of one image, in the trial that measures memory."""

CPU_PIECE = 2**28
"""Bytes of a piece on the CPU, whatever the budget: twice as much gains less than a tenth (`benchmarks/speed.py`)."""

T = TypeVar("T")


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


class LiveBytes(TorchDispatchMode):
    """Measures the most bytes of tensors, made inside, that lived at one time."""

    now = peak = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch's compiler, which has no part here, is imported: a second or more

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        made = {s._cdata: s for s in (t.untyped_storage() for t in tree_leaves(out) if isinstance(t, Tensor))}
        for key in made.keys() - given:  # neither a view nor work in place
            self._add(made[key].nbytes())
            finalize(made[key], self._add, -made[key].nbytes())
        return out

    def _add(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)


def usable_bytes(memory_budget: int, like: Tensor, least: int) -> int:
    """What a piece on the device of `like` may take of the budget; on the CPU not less than `least`, if that fits."""
    half = memory_budget // 2
    return min(half, max(CPU_PIECE, least)) if like.device.type == "cpu" else half


def piece_sizes(vae: VAE, x: Tensor, samples: int, memory_budget: int, most_draws: int) -> tuple[int, int]:
    """How many images, and how many samples of each (at most `most_draws`), go through the decoder at a time.

    Raises `InputError` where the budget is too small for one image.
    """
    with uncompiled(), LiveBytes() as encoding:
        mean = vae.encoder(x[:TRIAL]).mean[:1]
    z = mean.expand(TRIAL, *mean.shape).clone()
    with uncompiled(), LiveBytes() as decoding:
        _ = vae.decoder(z).log_prob(x[:1]), vae.prior().log_prob(z)
    draws = min(samples, most_draws)
    noise, statistics = 3 * most_draws * mean.nbytes, 64 * samples + 1536 * math.ceil(3 * math.sqrt(samples))
    image = encoding.peak // min(TRIAL, len(x)) + noise + statistics
    pair = decoding.peak // TRIAL
    usable = usable_bytes(memory_budget, x, image + pair)
    if usable < image + pair:
        raise InputError(
            f"memory_budget: one image with {samples:,} samples needs {2 * (image + pair):,} bytes, "
            f"got {memory_budget:,}; raise the budget or take fewer samples.",
            topic="memory",
        )
    images = usable // (image + draws * pair)
    return (min(images, len(x)), draws) if images else (1, (usable - image) // pair)
