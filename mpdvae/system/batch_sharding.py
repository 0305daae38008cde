r"""One batch on several processes: each holds some of its images, and all come to the numbers that one process would.

Inside `divided(N)` process p of P holds images [start_p, stop_p) of a batch of N. `own` takes that part of a tensor, and
`gathered` is its inverse:

.. math:: \mathrm{gathered}(x) = \sum_p E_p x_p, \qquad E_p \text{ puts rows into their place among zeros.}

`added` is the sum of what each process has, :math:`\sum_p x_p`, for what is a sum over images.

The networks, which cost the time, see own images only. What couples images - divergences, batch statistics, the mean over the
batch - is computed by every process from sums over the batch, or from gathered numbers, of which there are few: a code has
tens of numbers, an image thousands of activations. So formulas stay as they are, and every process knows the loss of the
whole batch.

**Gradients.** With each process going back from L / P (`processes.backward`), what all of them find sums to the gradient of
:math:`\sum_p L / P = L`. `gathered` and `added` are linear, and their gradients are their adjoints: the sum over processes of
what each has to say about all rows, of which each takes its own; of what each has to say about the sum, which is for each of
its parts. Nothing is averaged and nothing is approximated.

**Noise** is drawn for the whole batch by every process, from the same seed, and each takes its part (`like_all`): it does
not depend on the number of processes, and generators stay in step.

Outside of `divided`, and in one process, everything here returns what it is given.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

from mpdvae.errors import InputError
from mpdvae.system import process_group


class Division(NamedTuple):
    """Which images of a batch this process holds."""

    images: int
    """Of the whole batch."""
    start: int
    stop: int


_division: Division | None = None


@contextmanager
def divided(images: int) -> Iterator[None]:
    """Inside, the processes share a batch of so many images: equally, the first ones getting one more where it does not
    divide. With fewer images than processes, every process holds all."""
    global _division
    before, _division = _division, share_of(images, process_group.rank(), process_group.world())
    try:
        yield
    finally:
        _division = before


def share_of(images: int, rank: int, world: int) -> Division | None:
    """What process `rank` of `world` holds; None where nothing is divided."""
    if world == 1 or images < world:
        return None
    least, more = divmod(images, world)
    start = rank * least + min(rank, more)
    return Division(images, start, start + least + (rank < more))


def is_divided() -> bool:
    """Whether this process holds a part of a batch."""
    return _division is not None


def own(x: Shaped[Tensor, "..."], axis: int = 0) -> Shaped[Tensor, "..."]:
    """The part of `x` that belongs to own images. Along `axis` it has one row for each image of the batch, or the rows of the
    whole batch several times."""
    if _division is None:
        return x
    d = _division
    return x.unflatten(axis, (-1, d.images)).narrow(axis + 1, d.start, d.stop - d.start).flatten(axis, axis + 1)


def gathered(x: Shaped[Tensor, "..."], axis: int = 0) -> Shaped[Tensor, "..."]:
    """The whole batch, of whose rows along `axis` each process gives its own; gradients flow."""
    return x if _division is None else _Gathered.apply(x, axis, _division)


def added(x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """The sum over processes of `x`, of which each gives what it has from own images; gradients flow."""
    return x if _division is None else _Added.apply(x)


def images_of_all(x: Shaped[Tensor, "image ..."]) -> int:
    """How many images the whole batch has, of which `x` has a row for each own one."""
    return len(x) if _division is None else _division.images


def like_all(x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """An empty tensor of the shape that `x` would have for the whole batch, to draw noise of that shape; `x` itself where it
    is whole. Its first axis may hold own images several times."""
    if _division is None:
        return x
    times = len(x) // (_division.stop - _division.start)
    return x.new_empty(times * _division.images, *x.shape[1:])


def check_batch(batch_size: int) -> None:
    """Raises `InputError` for a batch with fewer images than there are processes."""
    if batch_size < process_group.world():
        raise InputError(
            f"training.batch_size: a batch of {batch_size} images cannot be divided among {process_group.world()} processes; "
            f"start at most {batch_size}."
        )


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: int, division: Division) -> Tensor:
        ctx.axis, ctx.division = axis, division
        shape = list(x.shape)
        shape[axis] = division.images
        whole = x.new_zeros(shape)
        whole.narrow(axis, division.start, division.stop - division.start).copy_(x)
        return process_group.add_up(whole)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        d = ctx.division
        total = process_group.add_up(gradient.clone(memory_format=torch.contiguous_format))
        return total.narrow(ctx.axis, d.start, d.stop - d.start), None, None


class _Added(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return process_group.add_up(x.clone(memory_format=torch.contiguous_format))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return process_group.add_up(gradient.clone(memory_format=torch.contiguous_format))
