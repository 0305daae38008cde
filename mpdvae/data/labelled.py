"""Labelled images: an image and its class in one tensor.

A labelled image has one channel more than the image, with the number of the class in each of its pixels. Every function
that takes images [batch channel height width] therefore takes labelled ones, too, and whatever splits a batch, moves or
repeats it keeps each image with its class. They are the input of conditional models
(`mpdvae.models.class_conditional`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mpdvae.errors import InputError

Labels = int | Sequence[int] | Tensor
"""One class for all images, or the class of each."""


class Labelled(NamedTuple):
    """A labelled image in its two parts."""

    images: Float[Tensor, "*batch channel height width"]
    labels: Int64[Tensor, "*batch"]


def with_labels(
    images: Float[Tensor, "*batch channel height width"], labels: Int64[Tensor, "*batch"]
) -> Float[Tensor, "*batch channel+1 height width"]:
    """Returns labelled images."""
    plane = labels.to(images)[..., None, None, None].expand(*labels.shape, 1, *images.shape[-2:])
    return torch.cat([images, plane], -3)


def split_labels(x: Float[Tensor, "*batch channel height width"]) -> Labelled:
    """Returns labelled images in their two parts."""
    return Labelled(x[..., :-1, :, :], x[..., -1, 0, 0].long())


def checked_labels(labels: Labels, classes: int, count: int) -> Int64[Tensor, " count"]:
    """Returns the class of each of `count` images. Raises `InputError` unless there is one number of a class for all, or
    one for each."""
    given = torch.as_tensor(labels)
    if given.is_floating_point() or given.dtype == torch.bool or tuple(given.shape) not in ((), (count,)):
        raise InputError(
            f"labels: expected the number of a class, or {count} of them, got {given.dtype} of shape {tuple(given.shape)}.",
            topic="options",
        )
    refuse_other_classes(given, classes, "labels")
    return given.long().expand(count)


def refuse_other_classes(labels: Tensor, classes: int, name: str) -> None:
    """Raises `InputError`, which calls the labels `name`, for a number that is none of the classes 0, 1, ..."""
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong.flatten()):
        raise InputError(
            f"{name}: expected classes 0 to {classes - 1}, as the model was conditioned on {classes}, got "
            f"{wrong.flatten()[0].item():g}.",
            topic="conditional",
        )
