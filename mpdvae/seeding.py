"""Randomness as a pure function of a key.

A run must not depend on how often it was interrupted, so generator states are never carried over or saved. Every draw - the
order of an epoch, the binarisation of a batch, the noise of a reparameterisation - happens inside

    with seeded(seed, "reparameterise", step): ...

which sets torch's generators to a state that depends only on the key and restores the caller's state afterwards. The key is
hashed (BLAKE2b), so that neighbouring seeds and steps give unrelated streams.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch


def derive_seed(*key: int | str) -> int:
    """Returns a seed in [0, 2^63) that is a function of `key`, for any generator that takes an integer."""
    digest = blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def seeded(*key: int | str) -> Iterator[None]:
    """Makes every torch draw on every device a function of `key`; restores the caller's state on exit."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), _apple_gpu_kept():
        torch.manual_seed(derive_seed(*key))
        yield


@contextmanager
def _apple_gpu_kept() -> Iterator[None]:
    """Restores the state of the generator of Apple's GPU, if there is one."""
    if not torch.backends.mps.is_available():
        yield
        return
    state = torch.mps.get_rng_state()
    try:
        yield
    finally:
        torch.mps.set_rng_state(state)
