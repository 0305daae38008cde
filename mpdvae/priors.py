"""Priors p(z): modules without input whose forward pass is a distribution over latent codes."""

import torch
from torch import nn
from torch.distributions import Distribution, Independent, Normal

from mpdvae.distributions import FlowTransformed
from mpdvae.errors import InputError
from mpdvae.flows import AutoregressiveFlow


def standard_normal(shape: tuple[int, ...], like: torch.Tensor) -> Independent:
    """N(0, I) with event shape `shape`, in the dtype and on the device of `like`."""
    if not shape or min(shape) < 1:
        raise InputError(f"latent shape: expected sizes >= 1, got {shape}.")
    return Independent(Normal(like.new_zeros(shape), like.new_ones(shape)), len(shape))


class StandardNormal(nn.Module):
    """p(z) = N(0, I) over codes of shape `latent_shape`."""

    def __init__(self, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.latent_shape = latent_shape
        self.register_buffer("anchor", torch.zeros(()), persistent=False)
        self.anchor: torch.Tensor

    def forward(self) -> Distribution:
        return standard_normal(self.latent_shape, self.anchor)

    def extra_repr(self) -> str:
        return f"N(0, I), latent_shape={self.latent_shape}"


class FlowPrior(nn.Module):
    """p(z): codes that `flow` maps to standard normal noise (Chen et al. 2017, section 3.2).

    Arguments:
        flow: over codes.
        latent_shape: of a code.
    """

    def __init__(self, flow: AutoregressiveFlow, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.flow, self.latent_shape = flow, latent_shape

    def forward(self) -> Distribution:
        return FlowTransformed(standard_normal(self.latent_shape, next(self.flow.parameters())), self.flow)
