"""Bytes of tensors: what an evaluation needs, measured by a trial, and the pieces that fit a stated budget.

The bytes for n items are the largest of some increasing straight lines in n (weights computed on the way count in their
intercepts), so the bytes for one item, measured at n = `TRIAL`, are an upper bound for larger n. What a kernel uses
inside itself is not seen: half of the budget is left to it.
"""

import math
from typing import Any
from weakref import finalize

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mpdvae.errors import InputError
from mpdvae.models.acceleration import uncompiled
from mpdvae.vae import VAE

TRIAL = 8
"""Images, or samples of one image, in the trial that measures memory."""

CPU_PIECE = 2**28
"""Bytes of a piece on the CPU, whatever the budget: twice as much gains less than a tenth (`benchmarks/speed.py`)."""


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
