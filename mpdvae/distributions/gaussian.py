r"""Gaussian pixels with one standard deviation for all: the likelihood of the sigma-VAE.

.. math:: \log p(x) = -\sum_i \Big[ \frac{(x_i - \mu_i)^2}{2 \sigma^2} + \log \sigma + \tfrac12 \log 2\pi \Big]

The decoder computes the means and learns log sigma beside its weights. A fixed sigma is a weight of the reconstruction that
somebody has to choose, as in a beta-VAE; the learned one settles where sigma^2 is the mean squared error, which balances
reconstruction and KL by maximum likelihood.

This is a *density* of real numbers, not a probability of levels. It grows without bound as sigma falls on images that a code
determines, so log sigma is kept above `LEAST_LOG_SIGMA` by a soft limit, through which a gradient always passes. At the limit
sigma is 0.0025, about the standard deviation of rounding to 256 levels in [-1, 1]: below it, a density measures the grid of
the levels. To bound the probability of levels, a density would have to be averaged over images with uniform noise of one bin
added (Theis, van den Oord & Bethge, ICLR 2016, https://arxiv.org/abs/1511.01844).

Rybkin, Daniilidis & Levine, "Simple and Effective VAE Training with Calibrated Decoders", ICML 2021,
https://arxiv.org/abs/2006.13202; the soft limit at -6 as in its released code.
"""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Independent, Normal, constraints
from torch.nn.functional import softplus

from mpdvae.errors import InputError

LEAST_LOG_SIGMA, GREATEST_LOG_SIGMA = -6.0, 7.0


class _Finite(constraints.Constraint):
    """Real numbers other than infinity."""

    def check(self, value: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        return value.isfinite()

    def __repr__(self) -> str:
        return "finite numbers"


REAL_IMAGES = constraints.independent(_Finite(), 3)
"""Images [channel height width] of finite numbers."""


class GaussianPixels(Independent):
    """Images of real numbers whose pixels and channels are independent given `parameters`.

    Arguments:
        parameters: [*batch c+1 height width]: the means of the c channels, then log sigma before its limits.
    """

    def __init__(self, parameters: Float[Tensor, "*batch parameter height width"]) -> None:
        channels = parameters.shape[-3] - 1
        if channels < 1:
            raise InputError("parameters: expected a mean for each channel and one log sigma, got 1 map.")
        means, raw = parameters.split([channels, 1], -3)
        above = softplus(raw.clamp_max(GREATEST_LOG_SIGMA) - LEAST_LOG_SIGMA)
        self.log_sigma: Tensor = LEAST_LOG_SIGMA + above
        """[*batch 1 height width]"""
        super().__init__(Normal(means, self.log_sigma.exp().expand_as(means), validate_args=False), 3)

    @property
    def support(self) -> constraints.Constraint:  # pyright: ignore[reportIncompatibleVariableOverride]
        return REAL_IMAGES
