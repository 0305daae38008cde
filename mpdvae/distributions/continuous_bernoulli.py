r"""Continuous Bernoulli: a density of pixels in [0, 1], independent given their logits.

The Bernoulli's formula, with the constant that makes it integrate to one over [0, 1]. With the logit t,

.. math:: \log p(x) = t x - A(t), \qquad A(t) = \log \frac{e^t - 1}{t}.

Using the Bernoulli's own formula for grey values is a common error: it is no density of them, and what it lacks depends on
the logits. Near 0, A is computed from its series; elsewhere from exp(-|t|), so that values and gradients are exact for
logits of any size. `torch.distributions.ContinuousBernoulli` clamps the probability, which is wrong by 0.6 nats for a pixel
of logit 30 in float32, and by a gradient of 4e-4 around 0.

This is a *density*, not a probability of levels: see `gaussian`. Its samples are noisy by construction: at t = 0, a
pixel is uniform.

Loaiza-Ganem & Cunningham, "The continuous Bernoulli: fixing a pervasive error in variational autoencoders", NeurIPS 2019,
https://arxiv.org/abs/1907.06845.
"""

import torch
from jaxtyping import Bool, Float
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

SERIES = 0.1
"""Largest logit, in size, at which the series are used: their first missing term is below 1e-13."""
FLAT = 1e-6
"""Logits closer to 0 are drawn as one of this size, which moves the distribution function by 1e-7."""


class _Intensities(constraints.Constraint):
    """Numbers from 0 to 1."""

    bounds = (0.0, 1.0)

    def check(self, value: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        return (value >= 0) & (value <= 1)

    def __repr__(self) -> str:
        return "numbers from 0 to 1"


INTENSITY_IMAGES = constraints.independent(_Intensities(), 3)
"""Images [channel height width] of numbers from 0 to 1."""


class ContinuousBernoulliPixels(Distribution):
    """Images of numbers from 0 to 1 whose pixels and channels are independent given `logits`.

    Arguments:
        logits: [*batch channel height width].
    """

    arg_constraints = {}  # noqa: RUF012  # pyright: ignore[reportAssignmentType] - the form that torch requires
    has_rsample = False

    def __init__(self, logits: Float[Tensor, "*batch channel height width"]) -> None:
        self.logits = logits
        super().__init__(logits.shape[:-3], logits.shape[-3:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return INTENSITY_IMAGES

    def log_prob(self, value: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, " *batch"]:
        """Returns the log-density log p(x) in nats of images in [0, 1]."""
        return (self.logits * value - _log_partition(self.logits)).sum((-3, -2, -1))

    @torch.no_grad()
    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        """Draws images by the inverse of the distribution function: [*sample_shape, *batch, channel, height, width]."""
        t = self.logits.expand(self._extended_shape(Size(sample_shape)))
        falling = -t.abs().clamp_min(FLAT)  # the density of 1 - x has the logit -t
        x = torch.log1p(torch.rand_like(t) * falling.expm1()) / falling
        return torch.where(t > 0, 1 - x, x).clamp(0, 1)

    @property
    def mean(self) -> Float[Tensor, "*batch channel height width"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The expected value of each pixel, the derivative of A."""
        t, size = self.logits, self.logits.abs().clamp_min(SERIES)
        of_size = 1 / -(-size).expm1() - 1 / size
        far = torch.where(t > 0, of_size, 1 - of_size)
        return torch.where(t.abs() < SERIES, 0.5 + t / 12 - t**3 / 720 + t**5 / 30240, far)

    @property
    @torch.no_grad()
    def mode(self) -> Float[Tensor, "*batch channel height width"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The end of [0, 1] at which the density is highest."""
        return (self.logits > 0).to(self.logits)


def _log_partition(t: Tensor) -> Tensor:
    """A(t). Both branches have finite gradients everywhere: that of the discarded one is multiplied by 0."""
    size = t.abs().clamp_min(SERIES)
    far = t.clamp_min(0) + torch.log(-torch.expm1(-size)) - size.log()
    near = t.clamp(-SERIES, SERIES)
    series = near / 2 + near**2 / 24 - near**4 / 2880 + near**6 / 181440
    return torch.where(t.abs() < SERIES, series, far)
