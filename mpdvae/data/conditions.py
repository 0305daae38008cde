"""Conditioned images: an image and what a conditional model is told of it, in one tensor.

A model may be told the class of an image, the values of covariates (an age, an angle, a dose), or both. A conditioned image
has one channel more than the image for each of these numbers, the class first, with the number in each of its pixels. Every
function that takes images [batch channel height width] therefore takes conditioned ones, too, and whatever splits a batch,
moves or repeats it keeps each image with its condition. They are the input of conditional models
(`mpdvae.models.conditional`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mpdvae.errors import InputError


@runtime_checkable
class Column(Protocol):
    """A column of a table, such as a Series or a Categorical of pandas."""

    def __array__(self, dtype: Any = ..., /) -> np.ndarray: ...


Labels = int | str | Sequence[int] | Sequence[str] | np.ndarray | Tensor | Column
"""One class for all images, or the class of each: numbers or, where a model knows the names of its classes, names
(`mpdvae.data.text_labels`)."""
Covariates = float | Sequence[float] | Sequence[Sequence[float]] | np.ndarray | Tensor
"""The covariates of all images, or a row of them for each."""

CovariatesOf = Callable[[Int64[Tensor, " n"]], Float[Tensor, "n covariate"]]
"""Draws covariates for images of given classes."""


class Condition(NamedTuple):
    """What a model is told of every image."""

    classes: int = 0
    """Number of classes; 0: the class is not told."""
    covariates: int = 0
    """Number of covariates."""

    @property
    def channels(self) -> int:
        """Channels that a conditioned image has beyond those of the image."""
        return bool(self.classes) + self.covariates

    @property
    def in_words(self) -> str:
        """What is told: "one of 10 classes and 2 covariates"."""
        numbers = f"{self.covariates} covariate{'s' if self.covariates > 1 else ''}"
        told = [(self.classes, f"one of {self.classes} classes"), (self.covariates, numbers)]
        return " and ".join(words for there, words in told if there)


class Known(NamedTuple):
    """What is known of some images."""

    labels: Int64[Tensor, " n"] | None = None
    covariates: Float[Tensor, "n covariate"] | None = None

    def take(self, indices: Int64[Tensor, " chosen"]) -> "Known":
        """Returns what is known of the images with these indices, in this order."""
        return Known(*(None if table is None else table[indices.to(table.device)] for table in self))

    def repeat(self, times: int) -> "Known":
        """Returns what is known of the images, `times` times one after the other."""
        return Known(*(None if table is None else torch.cat([table] * times) for table in self))

    def to(self, device: torch.device | str) -> "Known":
        """Returns the same on `device`."""
        return Known(*(None if table is None else table.to(device) for table in self))


NOTHING = Known()


class Conditioned(NamedTuple):
    """A conditioned image in its two parts."""

    images: Float[Tensor, "*batch channel height width"]
    told: Float[Tensor, "*batch number"]


class Labelled(NamedTuple):
    """An image conditioned on its class alone, in its two parts."""

    images: Float[Tensor, "*batch channel height width"]
    labels: Int64[Tensor, "*batch"]


def with_condition(
    images: Float[Tensor, "*batch channel height width"], told: Float[Tensor, "*batch number"]
) -> Float[Tensor, "*batch channel+number height width"]:
    """Returns conditioned images."""
    planes = told.to(images)[..., None, None].expand(*told.shape, *images.shape[-2:])
    return torch.cat([images, planes], -3)


def split_condition(x: Float[Tensor, "*batch channel height width"], condition: Condition) -> Conditioned:
    """Returns conditioned images in their two parts."""
    at = x.shape[-3] - condition.channels
    return Conditioned(x[..., :at, :, :], x[..., at:, 0, 0])


def known_from(told: Float[Tensor, "n number"], condition: Condition) -> Known:
    """Returns labels and covariates from the numbers that a model is told."""
    labels = told[:, 0].long() if condition.classes else None
    return Known(labels, told[:, bool(condition.classes) :] if condition.covariates else None)


def with_labels(
    images: Float[Tensor, "*batch channel height width"], labels: Int64[Tensor, "*batch"]
) -> Float[Tensor, "*batch channel+1 height width"]:
    """Returns images conditioned on their class."""
    return with_condition(images, labels[..., None].to(images))


def split_labels(x: Float[Tensor, "*batch channel height width"]) -> Labelled:
    """Returns images conditioned on their class in their two parts."""
    images, told = split_condition(x, Condition(classes=1))
    return Labelled(images, told[..., 0].long())


def told_numbers(condition: Condition, known: Known) -> Float[Tensor, "n number"]:
    """Returns the numbers that a model is told, the class first. Raises `InputError` if labels or covariates are needed and
    missing, or do not fit."""
    labels, covariates = known
    parts = []
    if condition.classes:
        if labels is None:
            raise InputError(
                f"images: expected a label for each, as the model is conditioned on {condition.classes} classes, got none; "
                "give labels, or pictures in a folder of each class.",
                topic="conditional",
            )
        refuse_other_classes(labels, condition.classes, "labels")
        parts.append(labels.float()[:, None])
    if condition.covariates:
        if covariates is None:
            raise InputError(
                f"images: expected {condition.covariates} covariates of each, on which the model is conditioned, got none; "
                "give covariates, an archive that holds them, or a folder of pictures with a covariates.csv.",
                topic="conditional",
            )
        refuse_other_covariates(covariates, condition.covariates)
        parts.append(covariates.float())
    return torch.cat([part.to(parts[0].device) for part in parts], 1)


def told_for(
    condition: Condition,
    labels: Labels | None,
    covariates: Covariates | None,
    count: int,
    covariates_of: CovariatesOf | None = None,
) -> Float[Tensor, "count number"] | None:
    """Returns the condition of `count` images that a caller gives, one for all or one for each; None if none is given.
    Covariates that are missing beside labels are drawn by `covariates_of`. Raises `InputError` for a condition that a model
    is not told, and for covariates without labels."""
    known = checked_known(condition, labels, covariates, count)
    if known.labels is None and known.covariates is None:
        return None
    if condition.classes and known.labels is None:
        raise InputError(
            f"labels: expected them, too, as this model is conditioned on {condition.in_words}, got covariates alone; give "
            "both, or labels alone, or neither.",
            topic="conditional",
        )
    if known.labels is not None and condition.covariates and covariates is None and covariates_of is not None:
        known = known._replace(covariates=covariates_of(known.labels))
    return told_numbers(condition, known)


def checked_known(condition: Condition, labels: Labels | None, covariates: Covariates | None, count: int) -> Known:
    """Returns the labels and covariates of each of `count` images, those that are given. Raises `InputError` as `told_for`
    does."""
    refuse_unused(condition, labels, covariates)
    return Known(
        None if labels is None else checked_labels(labels, condition.classes, count),
        None if covariates is None else checked_covariates(covariates, condition.covariates, count),
    )


def refuse_unused(condition: Condition, labels: object, covariates: object) -> None:
    """Raises `InputError` if labels or covariates are given to a model that is not conditioned on them."""
    if labels is not None and not condition.classes:
        _refuse_unused("labels", "classes")
    if covariates is not None and not condition.covariates:
        _refuse_unused("covariates", "covariates")


def _refuse_unused(name: str, what: str) -> NoReturn:
    raise InputError(
        f"{name}: this model is not conditioned on {what}; leave them out, or train one with --data.condition-{what} COUNT.",
        topic="conditional",
    )


def checked_labels(labels: Labels, classes: int, count: int) -> Int64[Tensor, " count"]:
    """Returns the class of each of `count` images. Raises `InputError` unless there is one number of a class for all, or
    one for each."""
    wrong = f"labels: expected the number of a class, or {count} of them"
    given = _as_numbers(labels, wrong)
    if given.is_floating_point() or tuple(given.shape) not in ((), (count,)):
        raise InputError(f"{wrong}, got {given.dtype} of shape {tuple(given.shape)}.", topic="conditional")
    given = given.long()
    refuse_other_classes(given, classes, "labels")
    return given.expand(count)


def checked_covariates(covariates: Covariates, number: int, count: int) -> Float[Tensor, "count number"]:
    """Returns the `number` covariates of each of `count` images. Raises `InputError` unless there is one row of finite
    numbers for all, or one for each; a single covariate may be a number instead of a row."""
    wrong = f"covariates: expected {number} numbers for all images, or [{count} {number}]"
    given = _as_numbers(covariates, wrong)
    if number == 1 and tuple(given.shape) in ((), (count,)):
        given = given.view(-1, 1)
    if tuple(given.shape) not in ((number,), (1, number), (count, number)):
        raise InputError(f"{wrong}, got shape {tuple(given.shape)}.", topic="conditional")
    refuse_other_covariates(given.float().view(-1, number), number)
    return given.float().expand(count, number)


def _as_numbers(given: object, wrong: str) -> Tensor:
    """Returns real numbers as a tensor. Raises `InputError`, which begins with `wrong`, for anything else."""
    try:
        # A copy: torch takes no array with a negative step.
        numbers = torch.as_tensor(given.copy() if isinstance(given, np.ndarray) else given)
    except (ValueError, TypeError, RuntimeError):
        raise InputError(
            f"{wrong}, got a {type(given).__name__} that is no table of them.", topic="conditional"
        ) from None
    if numbers.is_complex() or numbers.dtype == torch.bool:
        raise InputError(f"{wrong}, got {numbers.dtype} of shape {tuple(numbers.shape)}.", topic="conditional")
    return numbers


def refuse_other_classes(labels: Tensor, classes: int, name: str) -> None:
    """Raises `InputError`, which calls the labels `name`, for a number that is none of the classes 0, 1, ..."""
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong.flatten()):
        raise InputError(
            f"{name}: expected classes 0 to {classes - 1}, as the model was conditioned on {classes}, got "
            f"{wrong.flatten()[0].item():g}.",
            topic="conditional",
        )


def refuse_other_covariates(covariates: Float[Tensor, "n covariate"], number: int) -> None:
    """Raises `InputError` unless there are as many covariates as `number`, and all are finite."""
    if covariates.shape[1] != number:
        raise InputError(
            f"covariates: expected {number}, on which the model is conditioned, got {covariates.shape[1]}.",
            topic="conditional",
        )
    if not covariates.isfinite().all():
        image = int((~covariates.isfinite()).any(1).nonzero()[0])
        raise InputError(
            f"covariates: expected finite numbers, got {covariates[image].tolist()} for image {image}; leave the image out, "
            "or fill in the value.",
            topic="conditional",
        )
