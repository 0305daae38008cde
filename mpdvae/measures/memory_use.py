"""Memory of tensors: the bytes that an evaluation needs, measured in a trial, and the chunk sizes that fit a given budget.

The bytes for n items are the maximum of several increasing linear functions of n (intermediate weights count in their
intercepts), so the bytes per item measured at n = `TRIAL` are an upper bound for larger n. Memory that kernels allocate
internally is not seen: half of the budget is left for it.
"""

import math
from typing import Any
from weakref import finalize

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mpdvae.errors import InputError
from mpdvae.measures.fitted_proposal import fit_bytes, joint_density
from mpdvae.models.acceleration import uncompiled
from mpdvae.vae import VAE

TRIAL = 8
"""Images, or samples of one image, in the memory trial."""

CPU_PIECE = 2**28
"""Bytes of a chunk on the CPU, whatever the budget: doubling it gains less than a tenth (`python -m benchmarks speed`)."""


class LiveBytes(TorchDispatchMode):
    """Context that measures the peak bytes of the live tensors created inside it."""

    now = peak = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch's compiler is imported, which is not needed here and takes a second or more

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        made = {s._cdata: s for s in (t.untyped_storage() for t in tree_leaves(out) if isinstance(t, Tensor))}
        for key in made.keys() - given:  # neither views nor in-place results
            self._add(made[key].nbytes())
            finalize(made[key], self._add, -made[key].nbytes())
        return out

    def _add(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)


def usable_bytes(memory_budget: int, like: Tensor, least: int) -> int:
    """Returns the bytes that a chunk may use on the device of `like`: on the CPU at least `least`, if it fits."""
    half = memory_budget // 2
    return min(half, max(CPU_PIECE, least)) if like.device.type == "cpu" else half


def piece_sizes(
    vae: VAE,
    x: Tensor,
    samples: int,
    memory_budget: int,
    most_draws: int,
    approximated: bool = False,
    fitted: bool = False,
) -> tuple[int, int]:
    """Returns how many images, and how many samples of each (at most `most_draws`), to pass through the decoder at once;
    `approximated`: whether log-weights are kept twice, of two decoders; `fitted`: whether a proposal is fitted to each image.

    Raises `InputError` if the budget is too small for one image.
    """
    with uncompiled(), LiveBytes() as encoding:
        mean = vae.encoder(x[:TRIAL]).mean[:1]
    z = mean.expand(TRIAL, *mean.shape).clone()
    with uncompiled(), LiveBytes() as decoding:
        _ = vae.decoder(z).log_prob(x[:1]), vae.prior().log_prob(z)
    draws = min(samples, most_draws)
    of_sample = 112 if approximated else 64
    noise, statistics = 3 * most_draws * mean.nbytes, of_sample * samples + 1536 * math.ceil(3 * math.sqrt(samples))
    of_fit = fit_bytes(mean[0].numel()) if fitted else 0
    image = encoding.peak // min(TRIAL, len(x)) + noise + statistics + of_fit
    pair = decoding.peak // TRIAL
    usable = usable_bytes(memory_budget, x, image + pair)
    if usable < image + pair:
        raise InputError(
            f"memory_budget: one image with {samples:,} samples needs {2 * (image + pair):,} bytes, "
            f"got {memory_budget:,}; raise the budget or use fewer samples.",
            topic="memory",
        )
    images = usable // (image + draws * pair)
    return (min(images, len(x)), draws) if images else (1, (usable - image) // pair)


def gradient_draws(vae: VAE, x: Tensor, memory_budget: int) -> int:
    """Returns how many codes of each of the images `x` may pass through the decoder at once, with gradients: at least one."""
    mean = vae.encoder(x[:1]).mean
    with uncompiled(), LiveBytes() as decoding:
        _ = joint_density(vae, x[:1], mean.expand(TRIAL, *mean.shape).clone())
    pair = decoding.peak // TRIAL
    return max(1, usable_bytes(memory_budget, x, pair) // (2 * len(x) * pair))
