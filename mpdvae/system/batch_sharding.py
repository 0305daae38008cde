r"""Shards one batch over several processes: each holds some of the images, and all compute what a single process would.

Inside `divided(N)`, process p of P holds images [start_p, stop_p) of a batch of N. `own` selects that part of a tensor, and
`gathered` is its inverse:

.. math:: \mathrm{gathered}(x) = \sum_p E_p x_p, \qquad E_p \text{ places rows at their positions among zeros.}

`added` is the sum over processes, :math:`\sum_p x_p`, for quantities that are sums over images.

The networks, which take most of the time, process own images only. Quantities that couple images (divergences, batch
statistics, the mean over the batch) are computed by every process from sums over the batch or from gathered values, which
are few: a code has tens of numbers, an image thousands of activations. The formulas therefore stay unchanged, and every
process knows the loss of the whole batch.

**Gradients.** Each process backpropagates L / P (`gradient_sums.backward`), and the gradients of all processes sum to that
of :math:`\sum_p L / P = L`. `gathered` and `added` are linear, and their gradients are their adjoints. For `gathered`,
gradients with respect to all rows are summed over processes, and each process takes its own rows; for `added`, gradients
with respect to the sum are summed over processes, and each part of the sum receives the result. Nothing is averaged or
approximated.

**Noise** is drawn by every process for the whole batch, from the same seed, and each takes its part (`like_all`): the noise
does not depend on the number of processes, and the generators stay in sync.

Outside `divided`, and in a single process, the functions here return their input unchanged.
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
    """The images of a batch that this process holds."""

    images: int
    """Number of images in the whole batch."""
    start: int
    stop: int


_division: Division | None = None


@contextmanager
def divided(images: int) -> Iterator[None]:
    """Shares a batch of `images` images among the processes, within the context: equally, with one more for the first
    processes if there is a remainder. With fewer images than processes, every process holds all of them."""
    global _division
    before, _division = _division, share_of(images, process_group.rank(), process_group.world())
    try:
        yield
    finally:
        _division = before


def share_of(images: int, rank: int, world: int) -> Division | None:
    """Returns the images that process `rank` of `world` holds; None if the batch is not divided."""
    if world == 1 or images < world:
        return None
    least, more = divmod(images, world)
    start = rank * least + min(rank, more)
    return Division(images, start, start + least + (rank < more))


def is_divided() -> bool:
    """Returns whether this process holds only a part of a batch."""
    return _division is not None


def own(x: Shaped[Tensor, "..."], axis: int = 0) -> Shaped[Tensor, "..."]:
    """Returns the part of `x` that belongs to own images. Along `axis`, `x` has one row per image of the batch, or the
    rows of the whole batch several times over."""
    if _division is None:
        return x
    d = _division
    return x.unflatten(axis, (-1, d.images)).narrow(axis + 1, d.start, d.stop - d.start).flatten(axis, axis + 1)


def gathered(x: Shaped[Tensor, "..."], axis: int = 0) -> Shaped[Tensor, "..."]:
    """Returns the rows of the whole batch along `axis`, to which each process contributes its own; differentiable."""
    return x if _division is None else _Gathered.apply(x, axis, _division)


def added(x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """Returns the sum of `x` over processes, each of which contributes the value of its own images; differentiable."""
    return x if _division is None else _Added.apply(x)


def images_of_all(x: Shaped[Tensor, "image ..."]) -> int:
    """Returns the number of images in the whole batch, given `x` with one row per own image."""
    return len(x) if _division is None else _division.images


def like_all(x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """Returns an uninitialised tensor of the shape that `x` would have for the whole batch, for drawing noise of that
    shape; `x` itself if the batch is not divided. The first axis of `x` may hold the own images several times over."""
    if _division is None:
        return x
    times = len(x) // (_division.stop - _division.start)
    return x.new_empty(times * _division.images, *x.shape[1:])


def check_batch(batch_size: int) -> None:
    """Raises `InputError` if the batch has fewer images than there are processes."""
    if batch_size < process_group.world():
        raise InputError(
            f"training.batch_size: a batch of {batch_size} images cannot be divided among {process_group.world()} "
            f"processes; start at most {batch_size} processes."
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
