r"""A Gaussian that is stationary in time but not white: a first-order autoregression, AR(1), over the positions of a code.

.. math:: z_1 \sim N(0, 1), \qquad z_t = \alpha z_{t-1} + \varepsilon_t, \quad \varepsilon_t \sim N(0, 1 - \alpha^2),

independently for each channel, so that every z_t is N(0, 1). A factorised posterior cannot match it: over all diagonal
Gaussians q of a sequence of n steps and C channels,

.. math:: KL(q || p) \ge \frac{C}{2} \big[ (n - 2) \ln(1 + \alpha^2) - \ln(1 - \alpha^2) \big],

with equality at mean 0 and the variances 1 - alpha^2 at the two ends, (1 - alpha^2) / (1 + alpha^2) between. A model with
this prior is committed to that rate whatever it learns (delta-VAE: Razavi et al., ICLR 2019,
https://arxiv.org/abs/1901.03416, section 2.2; the bound follows from KL = 1/2 [ sum_t ln Q_tt - ln det Q ] at the best q,
where Q is the precision of p).
"""

import math

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, Normal, register_kl

from mpdvae.errors import InputError


class GaussianAR1(Distribution):
    """Codes that are sequences of an AR(1) process in each channel.

    Arguments:
        latent_shape: of a code: (numbers,), read as `length` steps of numbers / length channels; or (channels, height,
            width), read as height * width steps in raster order.
        correlation: alpha between consecutive steps, in (0, 1).
        like: a tensor with the dtype and device of the samples.
        length: steps of a vector; None: every number is a step.

    Raises:
        InputError: for fewer than two steps, a length that does not divide the code, or a correlation outside (0, 1).
    """

    arg_constraints = {}  # noqa: RUF012  # pyright: ignore[reportAssignmentType] - the form that torch requires
    has_rsample = False

    def __init__(
        self, latent_shape: tuple[int, ...], correlation: float, like: Tensor, length: int | None = None
    ) -> None:
        self.steps, self.channels = steps_and_channels(latent_shape, length)
        if not 0 < correlation < 1:
            raise InputError(f"correlation: an AR(1) prior needs a number in (0, 1), got {correlation}.")
        self.correlation, self.like = correlation, like
        super().__init__(Size(), Size(latent_shape), validate_args=False)

    @property
    def innovation_variance(self) -> float:
        """1 - alpha^2."""
        return 1 - self.correlation**2

    @property
    def least_rate_nats(self) -> float:
        """Smallest KL of a diagonal Gaussian to this distribution; see the module docstring."""
        a2 = self.correlation**2
        return self.channels / 2 * ((self.steps - 2) * math.log1p(a2) - math.log1p(-a2))

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Returns log p(z) in nats."""
        z = self.to_sequence(value)
        start, innovations = z[..., 0, :], z[..., 1:, :] - self.correlation * z[..., :-1, :]
        return self._log_prob_of_squares(start.square().sum(-1), innovations.square().sum((-2, -1)))

    def expected_log_prob(self, q: Normal) -> Float[Tensor, " *batch"]:
        """Returns E log p(z) over factorised normal codes, in closed form."""
        m, v = self.to_sequence(q.loc), self.to_sequence(q.scale.square())
        start = m[..., 0, :].square() + v[..., 0, :]
        mean = m[..., 1:, :] - self.correlation * m[..., :-1, :]
        variance = v[..., 1:, :] + self.correlation**2 * v[..., :-1, :]
        return self._log_prob_of_squares(start.sum(-1), (mean.square() + variance).sum((-2, -1)))

    @torch.no_grad()
    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        """Draws codes, one step after the other."""
        noise = torch.randn(*sample_shape, self.steps, self.channels, dtype=self.like.dtype, device=self.like.device)
        z = [noise[..., 0, :]]
        for t in range(1, self.steps):
            z.append(self.correlation * z[-1] + math.sqrt(self.innovation_variance) * noise[..., t, :])
        return self.from_sequence(torch.stack(z, -2))

    def to_sequence(self, z: Float[Tensor, "..."]) -> Float[Tensor, "*batch step channel"]:
        """Returns codes as sequences."""
        if len(self.event_shape) == 1:
            return z.unflatten(-1, (self.steps, self.channels))
        return z.flatten(-2).mT

    def from_sequence(self, z: Float[Tensor, "*batch step channel"]) -> Float[Tensor, "..."]:
        """Returns sequences as codes."""
        if len(self.event_shape) == 1:
            return z.flatten(-2)
        return z.mT.unflatten(-1, self.event_shape[1:])

    def _log_prob_of_squares(self, start: Tensor, innovations: Tensor) -> Tensor:
        normaliser = self.steps * self.channels * math.log(2 * math.pi)
        normaliser += (self.steps - 1) * self.channels * math.log(self.innovation_variance)
        return -0.5 * (normaliser + start + innovations / self.innovation_variance)


def steps_and_channels(latent_shape: tuple[int, ...], length: int | None = None) -> tuple[int, int]:
    """Returns how a code is read as a sequence: its steps and channels. Raises `InputError` if it cannot be read as one."""
    if len(latent_shape) == 1:
        (numbers,) = latent_shape
        steps = numbers if length is None else length
        if numbers % steps:
            raise InputError(
                f"length: a code of {numbers} numbers cannot be read as {steps} equal steps; give a divisor of {numbers}."
            )
        channels = numbers // steps
    else:
        channels, steps = latent_shape[0], math.prod(latent_shape[1:])
        if length is not None and length != steps:
            raise InputError(
                f"length: for map-shaped codes the {steps} positions are the steps, got {length}; leave it out."
            )
    if steps < 2:
        raise InputError(
            f"latent shape: an AR(1) prior needs a sequence of at least 2 steps, got {steps} in {latent_shape}."
        )
    return steps, channels


@register_kl(Independent, GaussianAR1)
def _kl_diagonal_ar1(q: Independent, p: GaussianAR1) -> Tensor:
    if not isinstance(q.base_dist, Normal):
        raise NotImplementedError
    return -q.entropy() - p.expected_log_prob(q.base_dist)
