"""Recovery from a non-finite loss, gradient or measure.

    a step              is skipped: weights, moments, averages and adaptive weights stay unchanged, the step is counted
    several in a row    the run rolls back to its last checkpoint, with a smaller learning rate
    an evaluation       the same at once, because the weights themselves are broken
    too many rollbacks  the run ends with an error that names the value

One odd batch costs only its step, while weights that have left the region where values are finite are discarded.
`Training.recovery` specifies how many steps in a row cause a rollback, how much smaller the learning rate becomes, and how
many rollbacks there may be. All counts are in the checkpoints, and recovery is a function of the configuration, too: a run
that is interrupted on its way makes the same rollbacks.

On a CPU, every step is checked before it updates anything. Reading a result from another device would keep it waiting:
there, all steps since the last evaluation point are checked at the next one, and the run rolls back at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mpdvae.errors import InputError, RunError
from mpdvae.objectives.terms import Loss
from mpdvae.runs.records import LARGEST
from mpdvae.vae import VAE

if TYPE_CHECKING:
    from mpdvae.training.learner_state import Progress


class NotFinite(Exception):
    """A value in training is not finite; the message names it."""


def check_loss(loss: Loss) -> None:
    """On a CPU, raises `NotFinite`, naming the terms of `loss` that are not finite."""
    if loss.total.device.type == "cpu" and not loss.total.isfinite():
        broken = [f"{name} is {value.item()}" for name, value in loss.terms.items() if not value.isfinite()]
        raise NotFinite(", ".join(broken) or f"the loss is {loss.total.item()}")


def check_norm(norm: Tensor) -> None:
    """On a CPU, raises `NotFinite` if the norm of the gradient is not finite."""
    if norm.device.type == "cpu" and not norm.isfinite():
        raise NotFinite(f"the norm of the gradient is {norm.item()}")


def check_measured(measured: dict[str, Any]) -> None:
    """Raises `NotFinite`, naming the measure, if a value of an evaluation point is not finite, or so large that its square
    may not be and no record holds it."""
    broken = [name for name, part in measured.items() if not all(abs(number) <= LARGEST for number in _numbers(part))]
    if broken:
        raise NotFinite(f"of the evaluation, {', '.join(broken)} has no finite number up to {LARGEST:g}")


def _numbers(tree: Any) -> Iterator[float]:
    """Yields all floats anywhere in `tree`."""
    if isinstance(tree, float):
        yield tree
    elif isinstance(tree, dict | list):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _numbers(part)


@contextmanager
def overflow_is_told() -> Iterator[None]:
    """Turns the `ValueError` by which torch's distributions reject non-finite parameters, and the `RunError` of measures,
    into `NotFinite`."""
    try:
        yield
    except (ValueError, RunError) as error:
        if isinstance(error, InputError):
            raise
        raise NotFinite("a distribution has parameters that are no finite numbers") from error


@contextmanager
def kept_if_skipped(vae: VAE) -> Iterator[None]:
    """Encloses an attempt at a step. If it ends in `NotFinite`, the running batch statistics are restored."""
    statistics = [s for part in vae.modules() if isinstance(part, _BatchNorm) for s in part.buffers(recurse=False)]
    before = [s.clone() for s in statistics]
    try:
        yield
    except NotFinite:
        for now, then in zip(statistics, before, strict=True):
            now.copy_(then)
        raise


def returned(before: "Progress", to: "Progress", learning_rate: float, why: NotFinite) -> list[dict[str, Any]]:
    """Returns the rollbacks of a run, including the one from `before` to the checkpoint `to`, from which the run continues
    with `learning_rate`."""
    this = {"from_step": before.step, "to_step": to.step, "learning_rate": learning_rate, "because": str(why)}
    return [*before.rollbacks, this]


def in_words(rollback: dict[str, Any]) -> str:
    """Returns a description of one rollback."""
    return "from step {from_step} back to step {to_step}, learning rate {learning_rate:.3g} ({because})".format_map(
        rollback
    )


def diverged(progress: "Progress", why: NotFinite) -> RunError:
    """Returns the error of a run that has no rollbacks left."""
    returns = "; ".join(map(in_words, progress.rollbacks))
    after = f", after {len(progress.rollbacks)} rollbacks ({returns})" if returns else ""
    skipped = f", {progress.skipped_in_a_row} steps in a row" if progress.skipped_in_a_row > 1 else ""
    first = progress.step - progress.skipped_in_a_row
    return RunError(
        f"training: the loss or its gradient is no longer a finite number at step {first}: {why}{skipped}{after}; "
        "earlier checkpoints are intact; train again with a smaller training.learning-rate, in another --out.",
        topic="not-a-number",
    )
