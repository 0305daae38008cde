"""Rejects non-finite values: the error names the first affected image, counts all of them, and says what to check."""

from jaxtyping import Float
from torch import Tensor

from mpdvae.errors import RunError


def refuse_not_finite(what: str, values: Float[Tensor, "images ..."]) -> None:
    """Raises `RunError`, naming the first affected image, if `values`, called `what`, contain NaN or infinity."""
    broken = (~values.isfinite()).reshape(len(values), -1).any(1).nonzero()
    if len(broken):
        raise not_finite(what, int(broken[0].item()), f" ({len(broken):,} of {len(values):,} are not)")


def not_finite(what: str, image: int, how_many: str = "") -> RunError:
    """Returns the error for one image."""
    return RunError(
        f"the {what} of image {image} is not finite{how_many}; check that training did not diverge and that x is in the "
        "model's range.",
        topic="not-a-number",
    )
