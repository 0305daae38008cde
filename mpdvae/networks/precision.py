"""The precision of weights: float32, also where a program has set another default for new tensors."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def in_float32() -> Iterator[None]:
    """Context in which tensors without a stated precision are made in float32; the former default is restored afterwards.

    The default belongs to all threads, so the context encloses no more than the building of a model.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
