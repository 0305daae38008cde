r"""Priors p(z): modules without input whose forward pass returns a distribution over latent codes.

N(0, I); an autoregressive flow (Chen et al. 2017); AR(1) sequences, which no factorised posterior can approximate closely
(`mpdvae.distributions.gaussian_ar1`); and the mixture of the posteriors of learned pseudo-inputs u_c,

.. math:: p(z) = \frac{1}{C} \sum_c q(z | u_c)

(VampPrior: Tomczak & Welling, AISTATS 2018, https://arxiv.org/abs/1705.07120), which follows the aggregate posterior.
"""

import torch
from torch import nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily

from mpdvae.distributions.codes import FlowTransformed, diagonal_gaussian
from mpdvae.distributions.gaussian_ar1 import GaussianAR1
from mpdvae.errors import InputError
from mpdvae.models.flows import AutoregressiveFlow


def standard_normal(shape: tuple[int, ...], like: torch.Tensor) -> Independent:
    """Returns N(0, I) with event shape `shape`, in the dtype and on the device of `like`."""
    if not shape or min(shape) < 1:
        raise InputError(f"latent shape: expected sizes >= 1, got {shape}.")
    return diagonal_gaussian(like.new_zeros(shape), like.new_ones(shape), batch_ndim=0)


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


class AR1Prior(nn.Module):
    """p(z): AR(1) sequences; see `mpdvae.distributions.gaussian_ar1.GaussianAR1` for the arguments."""

    def __init__(self, latent_shape: tuple[int, ...], correlation: float, length: int | None = None) -> None:
        super().__init__()
        self.latent_shape, self.correlation, self.length = latent_shape, correlation, length
        self.register_buffer("anchor", torch.zeros(()), persistent=False)
        self.anchor: torch.Tensor
        self()  # raises if codes cannot be read as sequences

    def forward(self) -> GaussianAR1:
        return GaussianAR1(self.latent_shape, self.correlation, self.anchor, self.length)

    def extra_repr(self) -> str:
        return f"AR(1), correlation={self.correlation:g}, rate of at least {self().least_rate_nats:.3g} nats"


class VampPrior(nn.Module):
    """p(z): the mixture of the posteriors of `components` learned images.

    Arguments:
        encoder: of the VAE, which owns it: it is not part of the prior's state.
        image_shape: (channel, height, width).
        components: C.
        image_range: smallest and largest value of a pixel.
    """

    INITIAL_LOGIT_DEVIATION = 0.1

    def __init__(
        self,
        encoder: nn.Module,
        image_shape: tuple[int, int, int],
        components: int = 100,
        image_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        if components < 1:
            raise InputError(f"components: expected a number >= 1, got {components}.")
        self._encoder = (encoder,)  # in a tuple, so that it is not registered as a submodule
        self.image_range = image_range
        self.logits = nn.Parameter(self.INITIAL_LOGIT_DEVIATION * torch.randn(components, *image_shape))

    @property
    def pseudo_inputs(self) -> torch.Tensor:
        """u_c, [components channel height width]."""
        low, high = self.image_range
        return low + (high - low) * self.logits.sigmoid()

    def forward(self) -> Distribution:
        posteriors = self._encoder[0](self.pseudo_inputs)
        uniform = Categorical(logits=self.logits.new_zeros(len(self.logits)), validate_args=False)
        return MixtureSameFamily(uniform, posteriors, validate_args=False)

    def extra_repr(self) -> str:
        return f"{len(self.logits)} pseudo-inputs"
