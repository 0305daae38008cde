r"""Distributions of codes: Gaussians with a diagonal covariance, and base distributions transformed by a flow.

`FlowTransformed`: z with u = f(z), u ~ base,

.. math:: \log p(z) = \log p_{base}(f(z)) + \log |\det \partial f / \partial z|.

A density takes one pass of the flow; samples are computed with its inverse. Rezende & Mohamed, "Variational Inference with
Normalizing Flows", ICML 2015, https://arxiv.org/abs/1505.05770.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, Normal, constraints


def diagonal_gaussian(
    mean: Float[Tensor, "*batch"], stddev: Float[Tensor, "*batch"], batch_ndim: int = 1
) -> Independent:
    """Returns N(mean, diag stddev^2) over all axes but the first `batch_ndim`.

    On a CPU torch validates parameters and values; elsewhere that would synchronise with the device, and non-finite values
    show up in the loss.
    """
    checked = None if mean.device.type == "cpu" else False
    return Independent(Normal(mean, stddev, validate_args=checked), mean.ndim - batch_ndim)


@runtime_checkable
class Flow(Protocol):
    """An invertible map between latent codes z and base noise u: vectors or maps, with any leading axes."""

    def to_base(self, z: Float[Tensor, "..."]) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """Returns u = f(z), and log |det du/dz|."""
        ...

    def from_base(self, u: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Returns z with f(z) = u."""
        ...


class FlowTransformed(Distribution):
    """z such that `flow.to_base(z)` follows `base`: cheap densities, samples by inversion."""

    arg_constraints = {}  # noqa: RUF012  # pyright: ignore[reportAssignmentType] - the form that torch requires
    has_rsample = False

    def __init__(self, base: Distribution, flow: Flow) -> None:
        self.base, self.flow = base, flow
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.base.support

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Returns log p(z) in nats."""
        u, log_det = self.flow.to_base(value)
        return self.base.log_prob(u) + log_det

    @torch.no_grad()
    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        """Draws base noise and maps it to codes by the inverse of the flow."""
        return self.flow.from_base(self.base.sample(Size(sample_shape)))
