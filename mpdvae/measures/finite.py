"""Refusing what is no number: which image of how many it is, and what to check."""

from jaxtyping import Float
from torch import Tensor

from mpdvae.errors import RunError


def refuse_not_finite(what: str, values: Float[Tensor, "images ..."]) -> None:
    """Raises `RunError`, naming the first image, where a value of an image is infinite or not a number; `what` they are."""
    broken = (~values.isfinite()).reshape(len(values), -1).any(1).nonzero()
    if len(broken):
        raise not_finite(what, int(broken[0].item()), f" ({len(broken):,} of {len(values):,} are not)")


def not_finite(what: str, image: int, how_many: str = "") -> RunError:
    """The error for one image."""
    return RunError(
        f"the {what} of image {image} is not finite{how_many}; check that training did not diverge and that x is in the "
        "model's range.",
        topic="not-a-number",
    )
