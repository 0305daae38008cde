"""The order in which training images are visited, as a function of seed and step.

An epoch is a permutation of all images, cut into batches; images that do not fill a whole batch are left out of this epoch
(the next one leaves out others). Steps and epochs count from the beginning of the run, so a resumed run requests step 1234
and gets what the uninterrupted run would have got, without any saved state.
"""

from functools import lru_cache

import torch
from jaxtyping import Int64
from torch import Tensor

from mpdvae.errors import InputError
from mpdvae.seeding import seeded


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Returns how many whole batches `n` images give. Raises `InputError` if there are none."""
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, but {batch_size} was given.")
    if batch_size > n:
        raise InputError(f"batch_size is {batch_size}, but there are only {n} training images: choose at most {n}.")
    return n // batch_size


def batch_indices(n: int, batch_size: int, seed: int, step: int) -> Int64[Tensor, " batch"]:
    """Returns the indices of the images of training step `step` (from 0) of the run with seed `seed`, on the CPU."""
    if step < 0:
        raise InputError(f"step must not be negative, but {step} was given.")
    epoch, batch = divmod(step, steps_per_epoch(n, batch_size))
    return _permutation(n, seed, epoch)[batch * batch_size : (batch + 1) * batch_size].clone()


@lru_cache(maxsize=2)
def _permutation(n: int, seed: int, epoch: int) -> Int64[Tensor, " n"]:
    with seeded(seed, "epoch", epoch):
        return torch.randperm(n)
