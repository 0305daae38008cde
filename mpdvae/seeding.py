"""Randomness as a pure function of a key.

A run must not depend on how often it was interrupted, so no generator's state is ever carried along or saved. Every
draw - the order of an epoch, the binarisation of a batch, the noise of a reparameterisation - happens inside

    with seeded(seed, "reparameterise", step): ...

which sets torch's generators to a state that depends on the key alone and puts the caller's state back afterwards.
The key is hashed (BLAKE2b), so that neighbouring seeds and steps give unrelated streams.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch


def derive_seed(*key: int | str) -> int:
    """A seed in [0, 2^63) that is a function of `key`, for any generator that takes an integer."""
    digest = blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def seeded(*key: int | str) -> Iterator[None]:
    """Inside, every torch draw on every device is a function of `key`; afterwards the caller's state is back."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derive_seed(*key))
        yield
