"""Any number of leading axes for functions that take exactly one batch axis."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor


def over_leading(
    function: Callable[[Float[Tensor, "batch *event"]], Float[Tensor, "batch *result"]],
    x: Float[Tensor, "..."],
    event_ndim: int,
) -> Float[Tensor, "..."]:
    """Applies `function` to `x` [*leading, *event] with its leading axes flattened to one; returns [*leading, *result]."""
    leading, event = x.shape[: x.ndim - event_ndim], x.shape[x.ndim - event_ndim :]
    y = function(x.reshape(-1, *event))
    return y.reshape(*leading, *y.shape[1:])
