"""Rejects images that a distribution gives no probability: a formula evaluated outside its support is no likelihood.

A Bernoulli log-density of a pixel of -0.7 is a finite number, and the mean over such pixels can be minus millions of nats,
without any error. Every distribution of images therefore states its `support`, and whoever computes a likelihood checks the
images against it once, at a cost of a few comparisons per pixel.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from mpdvae.errors import InputError

BINARY = "0 and 1"


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
    inside = support.check(x)
    if inside.all():
        return
    index = int((~inside).flatten(1).any(1).nonzero()[0]) if inside.ndim > 1 else int((~inside).nonzero()[0])
    single = getattr(support, "base_constraint", support)
    value = x[index][~single.check(x[index])].flatten()[0].item()
    raise InputError(
        f"x: expected images of {_in_words(single)}, as the decoder's pixels are distributed, but image "
        f"{index if indices is None else indices[index]} has the value {value:.4g}, for which log p(x|z) would be no "
        "likelihood; give images in the model's value range, or build the decoder with a distribution of such pixels.",
        topic="own-data",
    )


def _in_words(constraint: constraints.Constraint) -> str:
    return BINARY if isinstance(constraint, type(constraints.boolean)) else str(constraint)
