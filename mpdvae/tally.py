"""Sums of the loss between two evaluation points, and the refusal of numbers that are none.

On a CPU every step is checked at once. Reading a result from another device would keep it waiting: there the check happens at
evaluation points, for all steps since the last one.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mpdvae.errors import InputError, RunError
from mpdvae.objective import Loss


class Tally:
    """Sums of the terms of the loss since the last evaluation point."""

    def __init__(self) -> None:
        self.terms: dict[str, Tensor] = {}
        self.count = 0
        self.unchecked: list[Tensor] = []
        """Loss plus norm of the gradient of the latest steps: finite if both are."""

    def add(self, loss: Loss, norm: Tensor) -> None:
        for name, value in loss.terms.items():
            self.terms[name] = self.terms.get(name, 0) + value.detach().double()
        self.count += 1
        self.unchecked.append(loss.total.detach() + norm)

    def refuse_broken(self, done: int) -> None:
        """Raises `RunError` where a loss or gradient was not finite, naming its step; `done` steps are done."""
        broken = (~torch.stack(self.unchecked).isfinite()).nonzero()
        if len(broken):
            raise diverged(done - len(self.unchecked) + int(broken[0].item()))
        self.unchecked.clear()

    def means(self) -> dict[str, float]:
        return {name: value.item() / self.count for name, value in self.terms.items()}


def refuse_not_finite(measured: dict[str, Any], step: int) -> None:
    """Raises `RunError` where a number anywhere in `measured` is not finite."""
    if not all(map(math.isfinite, _numbers(measured))):
        raise diverged(step)


def _numbers(tree: Any) -> Iterator[float]:
    """All numbers with a fraction anywhere in `tree`."""
    if isinstance(tree, float):
        yield tree
    elif isinstance(tree, dict | list):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _numbers(part)


@contextmanager
def overflow_is_told(step: int) -> Iterator[None]:
    """torch's laws refuse parameters that are no finite numbers by a `ValueError`; here that is a run that failed."""
    try:
        yield
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise diverged(step) from error


def diverged(step: int) -> RunError:
    return RunError(
        f"training: the loss or its gradient is no longer a finite number at step {step}; checkpoints before it are whole. "
        "Train again with a smaller training.learning-rate, in another --out."
    )
