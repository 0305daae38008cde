"""Numbers as callers have them - numpy arrays, tensors on any device, lists - as the arrays or tensors that measures take."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpdvae.errors import InputError

Table = np.ndarray | Tensor | Sequence[Any]
"""Numbers with any number of axes."""


def array_of(given: Table, name: str) -> np.ndarray:
    """Returns the numbers `given` as an array; an array is returned as it is. Raises `InputError`, which calls them `name`,
    for anything else."""
    try:
        found = _to_numpy(given) if isinstance(given, Tensor) else np.asarray(given)
    except (ValueError, TypeError, RuntimeError):  # rows of different lengths, a tensor without values
        raise _no_numbers(name, f"a {type(given).__name__}") from None
    if found.dtype.kind not in "biuf":
        raise _no_numbers(name, f"{found.dtype} of shape {found.shape}")
    return found


def tensor_of(given: Table, name: str) -> Tensor:
    """Returns the numbers `given` as a tensor; a tensor is returned as it is. Raises `InputError` as `array_of` does."""
    if isinstance(given, Tensor) and not given.is_complex():
        return given
    found = array_of(given, name)
    return torch.from_numpy(found.astype(found.dtype.newbyteorder("=")))  # a copy, in an order that torch takes


def _to_numpy(given: Tensor) -> np.ndarray:
    given = given.detach().cpu()
    return (given.float() if given.dtype == torch.bfloat16 else given).numpy()  # numpy has no bfloat16


def _no_numbers(name: str, given: str) -> InputError:
    return InputError(f"{name}: expected numbers, as an array, a tensor or lists of one length, got {given}.")
