"""Rejects images that a distribution gives no probability: a formula evaluated outside its support is no likelihood.

A Bernoulli log-density of a pixel of -0.7 is a finite number, and the mean over such pixels can be minus millions of nats,
without any error. Every distribution of images therefore states its `support`, and whoever computes a likelihood checks the
images against it once, at a cost of a few comparisons per pixel.

`tensor_for` comes before that: it takes tensors of floating-point images in the shape that a model takes, in any precision,
and rejects everything else, which would otherwise fail somewhere within torch.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import constraints

from mpdvae.data.conditions import refuse_other_classes, refuse_other_covariates, split_condition
from mpdvae.distributions.given_condition import ConditionedSupport
from mpdvae.errors import InputError

BINARY = "0 and 1"
PREPARE = "vae.preprocess(images) prepares arrays, pictures, bytes and files."


def check_values(
    p: object, x: Float[Tensor, "batch channel height width"], indices: Sequence[int] | None = None
) -> None:
    """Raises `InputError`, naming the image and a value, unless all images lie in the support of `p`. Distributions that do
    not state their support are not checked.

    Arguments:
        p: a distribution of images [channel height width], or anything with its `log_prob`; its batch shape does not matter.
        x: the images.
        indices: index of each image in its data set, for the message; default: 0, 1, 2, ...
    """
    try:
        support = getattr(p, "support", None)
    except NotImplementedError:  # torch's distributions raise it
        return
    if support is not None:
        refuse_outside(support, x, indices)


def refuse_outside(
    support: constraints.Constraint,
    x: Float[Tensor, "batch channel height width"],
    indices: Sequence[int] | None = None,
) -> None:
    """Raises `InputError`, naming the image and a value, unless all images lie in `support`."""
    if isinstance(support, ConditionedSupport):
        x, support = _unconditioned(support, x), support.images
    if support.check(x).all():
        return
    single = getattr(support, "base_constraint", support)
    if x.element_size() == 2 and single.is_discrete and in_words(single) != BINARY:
        raise InputError(
            f"x: expected images of {in_words(single)}, got them in {x.dtype}, which rounds levels to other numbers; keep "
            "the model in float32, vae.float(), and compute in half precision within torch.autocast.",
            topic="own-data",
        )
    inside = single.check(x)
    inside = (
        inside.flatten(0, inside.ndim - x.ndim - 1).all(0) if inside.ndim > x.ndim else inside
    )  # limits of each code
    index = int((~inside).flatten(1).any(1).nonzero()[0])
    value = x[index][~inside[index]].flatten()[0].item()
    raise InputError(
        f"x: expected images of {in_words(single)}, as the decoder's pixels are distributed, but image "
        f"{index if indices is None else indices[index]} has the value {value:.4g}, for which log p(x|z) would be no "
        "likelihood; give images in the model's value range, or build the decoder with a distribution of such pixels.",
        topic="own-data",
    )


def tensor_for(model: nn.Module, x: object, image_shape: tuple[int, ...] | None = None) -> Tensor:
    """Returns the images `x` in the precision of `model`.

    Arguments:
        model: module whose first floating-point parameter has the device and the precision; without one, `x` stays as is.
        x: images [batch channel height width], a floating-point tensor in the value range of the model.
        image_shape: (channel, height, width) of the images that the model takes; None: not known.

    Raises:
        InputError: for anything else, with the way to convert it.
    """
    x = floating(x)
    expected = "[batch channel height width]" if image_shape is None else f"[batch {' '.join(map(str, image_shape))}]"
    if x.ndim != 4 or len(x) == 0 or image_shape not in (None, tuple(x.shape[1:])):
        raise InputError(
            f"x: expected images {expected} (batch, channel, height, width), at least one, got shape {tuple(x.shape)}; "
            f"{PREPARE}",
            topic="image-shape",
        )
    return like_parameters(model, x, "x")


def floating(x: object) -> Tensor:
    """Returns the images `x`. Raises `InputError` for anything but a floating-point tensor, with the way to convert it."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = str(x.dtype) if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise InputError(
            f"x: expected a tensor of floating-point images in the model's value range, got {given}; {PREPARE}",
            topic="own-data",
        )
    return x


def like_parameters(model: nn.Module, x: Tensor, name: str) -> Tensor:
    """Returns the floating-point tensor `x` in the precision of `model`. Raises `InputError`, which calls it `name`, if it is
    on another device."""
    like = next((p for p in model.parameters() if p.is_floating_point()), None)
    if like is None:
        return x
    if like.device != x.device:
        raise InputError(
            f"{name}: expected a tensor on the model's device, {like.device}, got one on {x.device}; move it there with "
            f"{name}.to({str(like.device)!r}).",
            topic="device",
        )
    return x.to(like.dtype)


def refuse_out_of_range(support: constraints.Constraint | None, x: Float[Tensor, "batch channel height width"]) -> None:
    """Raises `InputError`, naming the image and a value, for a pixel that is not finite or beyond the smallest and largest
    value in `support`. Between them every value is taken: grey levels of an image of black and white pixels, for example,
    which have no likelihood but a code."""
    if isinstance(support, ConditionedSupport):
        x, support = _unconditioned(support, x), support.images
    lowest, highest = (
        (-math.inf, math.inf) if support is None else _bounds(getattr(support, "base_constraint", support))
    )
    inside = (x >= lowest) & (x <= highest) & x.isfinite()
    if inside.all():
        return
    image, *pixel = (~inside).nonzero()[0].tolist()
    raise InputError(
        f"x: expected pixels from {lowest:g} to {highest:g}, the model's value range, but image {image} has the value "
        f"{x[(image, *pixel)].item():.4g}; vae.preprocess(images) maps pictures to that range.",
        topic="own-data",
    )


def _unconditioned(support: ConditionedSupport, x: Tensor) -> Tensor:
    """Returns the images of conditioned images. Raises `InputError` for an image without its condition, or of another
    class."""
    condition = support.condition
    images, told = split_condition(x, condition)
    planes = x[..., -condition.channels :, :, :]
    labels = told[..., 0] if condition.classes else told[..., :0]
    if (
        not ((planes == told[..., None, None]) | (planes.isnan() & told.isnan()[..., None, None])).all()
        or not (labels == labels.round()).all()
    ):
        last = "its last channel" if condition.channels == 1 else f"each of its last {condition.channels} channels"
        raise InputError(
            f"x: expected images with {condition.in_words}, the same number in all of {last}, got other numbers; "
            "vae.preprocess(images, labels=..., covariates=...) makes them.",
            topic="conditional",
        )
    if condition.classes:
        refuse_other_classes(labels, condition.classes, "x")
    if condition.covariates:
        refuse_other_covariates(told[..., -condition.covariates :], condition.covariates)
    return images


def in_words(support: constraints.Constraint) -> str:
    """Returns the values in `support`, as the end of a sentence."""
    single = getattr(support, "base_constraint", support)
    if isinstance(single, type(constraints.boolean)):
        return BINARY
    lowest, highest = _bounds(single)
    if hasattr(single, "bounds") or math.isinf(lowest):
        return str(single)
    if math.isinf(highest):
        return f"whole numbers from {lowest:g} on" if single.is_discrete else str(single)
    return f"{'whole ' if single.is_discrete else ''}numbers from {lowest:g} to {highest:g}"


def _bounds(single: constraints.Constraint) -> tuple[float, float]:
    """Returns the smallest and the largest value in the support of a pixel."""
    if isinstance(single, type(constraints.boolean)):
        return 0.0, 1.0
    if (own := getattr(single, "bounds", None)) is not None:
        return own
    lowest, highest = getattr(single, "lower_bound", -math.inf), getattr(single, "upper_bound", math.inf)
    return float(torch.as_tensor(lowest).min()), float(torch.as_tensor(highest).max())
