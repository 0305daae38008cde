"""What is done about a loss, a gradient or a measure that is no finite number.

    a step           is skipped: weights, moments, averages and adaptive weights stay, the step is counted
    several in a row the run goes back to its last checkpoint, with a smaller learning rate
    an evaluation    the same at once: weights are what is broken
    too many returns the run ends and says which number it was

One odd batch costs its step only, while weights that have left the region where numbers are finite are given up. How many
in a row, how much smaller and how many returns is said by `Training.recovery`. All that is counted is in the checkpoints, and
what follows is a function of the configuration as before: a run that is interrupted on its way makes the same returns.

On a CPU every step is looked at before it moves anything. Reading a result from another device would keep it waiting: there
the check comes at evaluation points, for all steps since the last one, and the run goes back at once.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mpdvae.errors import InputError, RunError
from mpdvae.objectives.terms import Loss
from mpdvae.vae import VAE

if TYPE_CHECKING:
    from mpdvae.training.learner_state import Progress


class NotFinite(Exception):
    """A number of training that is none; says which."""


def check_loss(loss: Loss) -> None:
    """On a CPU, raises `NotFinite` naming the terms of `loss` that are no finite numbers."""
    if loss.total.device.type == "cpu" and not loss.total.isfinite():
        broken = [f"{name} is {value.item()}" for name, value in loss.terms.items() if not value.isfinite()]
        raise NotFinite(", ".join(broken) or f"the loss is {loss.total.item()}")


def check_norm(norm: Tensor) -> None:
    """On a CPU, raises `NotFinite` where the norm of the gradient is no finite number."""
    if norm.device.type == "cpu" and not norm.isfinite():
        raise NotFinite(f"the norm of the gradient is {norm.item()}")


def check_measured(measured: dict[str, Any]) -> None:
    """Raises `NotFinite` where a number of an evaluation point is no finite number, naming it."""
    broken = [name for name, part in measured.items() if not all(map(math.isfinite, _numbers(part)))]
    if broken:
        raise NotFinite(f"of the evaluation, {', '.join(broken)} has no finite number")


def _numbers(tree: Any) -> Iterator[float]:
    """All numbers with a fraction anywhere in `tree`."""
    if isinstance(tree, float):
        yield tree
    elif isinstance(tree, dict | list):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _numbers(part)


@contextmanager
def overflow_is_told() -> Iterator[None]:
    """torch's laws refuse parameters that are no finite numbers by a `ValueError`, measures by a `RunError`; here that is a
    `NotFinite`."""
    try:
        yield
    except (ValueError, RunError) as error:
        if isinstance(error, InputError):
            raise
        raise NotFinite("a distribution has parameters that are no finite numbers") from error


@contextmanager
def kept_if_skipped(vae: VAE) -> Iterator[None]:
    """Inside is an attempt at a step. Where it ends in `NotFinite`, running statistics of batches are as they were before."""
    statistics = [s for part in vae.modules() if isinstance(part, _BatchNorm) for s in part.buffers(recurse=False)]
    before = [s.clone() for s in statistics]
    try:
        yield
    except NotFinite:
        for now, then in zip(statistics, before, strict=True):
            now.copy_(then)
        raise


def returned(before: "Progress", to: "Progress", learning_rate: float, why: NotFinite) -> list[dict[str, Any]]:
    """The returns of a run, with that from `before` to the checkpoint `to`, from where it goes on at `learning_rate`."""
    this = {"from_step": before.step, "to_step": to.step, "learning_rate": learning_rate, "because": str(why)}
    return [*before.rollbacks, this]


def in_words(rollback: dict[str, Any]) -> str:
    """One return, for people."""
    return "from step {from_step} back to step {to_step}, learning rate {learning_rate:.3g} ({because})".format_map(
        rollback
    )


def diverged(progress: "Progress", why: NotFinite) -> RunError:
    """The error of a run that has no returns left."""
    returns = "; ".join(map(in_words, progress.rollbacks))
    after = f", after {len(progress.rollbacks)} returns ({returns})" if returns else ""
    skipped = f", {progress.skipped_in_a_row} steps in a row" if progress.skipped_in_a_row > 1 else ""
    first = progress.step - progress.skipped_in_a_row
    return RunError(
        f"training: the loss or its gradient is no longer a finite number at step {first}: {why}{skipped}{after}; "
        "checkpoints before it are whole. Train again with a smaller training.learning-rate, in another --out.",
        topic="not-a-number",
    )
