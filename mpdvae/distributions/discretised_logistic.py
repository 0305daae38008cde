r"""Discretised logistic: a distribution of pixels with levels, 256 or another number, independent over pixels and channels.

A pixel with mean mu and scale s has the level x (`levels`) with the probability that a logistic variable falls into its
bin,

.. math:: P(x) = \sigma(a) - \sigma(b), \qquad a = \tfrac{x + h - \mu}{s}, \quad b = \tfrac{x - h - \mu}{s},
          \quad h = \tfrac{1}{L - 1} \text{ for } L \text{ levels},

with the tails in the outermost bins: :math:`\sigma(a)` at the lowest level and :math:`1 - \sigma(b)` at the highest. The
logarithm is computed without cancellation, for bins of any mass, from

.. math:: \log(\sigma(a) - \sigma(b)) = \log \sigma(a) + \log \sigma(-b) + \log(1 - e^{b - a}).

Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling, "Improved Variational Inference with Inverse Autoregressive Flow",
NeurIPS 2016, https://arxiv.org/abs/1606.04934 (section 5.2: the discretised logistic likelihood).
"""

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import logsigmoid, softplus

from mpdvae.distributions.levels import LEVELS, half_bin, least_log_scale, level_images, level_value, nearest_level
from mpdvae.errors import InputError

GREATEST_LOG_SCALE = 7.0
"""Upper limit of log s, at which the lowest and the highest level together have 99.9% of the mass. For the lower one see
`least_log_scale`."""
SUMMED_LEVELS = 4096
"""Most levels whose expectation is summed exactly."""


class DiscretisedLogistic(Distribution):
    """Images of levels in [-1, 1] whose pixels and channels are independent given `parameters`.

    Arguments:
        parameters: [*batch 2c height width]: the means of the c channels, then their log-scales, which are clamped to
            `least_log_scale(levels)` and `GREATEST_LOG_SCALE`.
        levels: number of levels.
    """

    arg_constraints = {}  # noqa: RUF012  # pyright: ignore[reportAssignmentType] - the form that torch requires
    has_rsample = False

    def __init__(self, parameters: Float[Tensor, "*batch parameter height width"], levels: int = LEVELS) -> None:
        if parameters.shape[-3] % 2:
            raise InputError(
                f"parameters: expected a mean and a log-scale for each channel, got {parameters.shape[-3]} maps."
            )
        self.levels, self._half = levels, half_bin(levels)
        self.location, log_scale = parameters.chunk(2, -3)
        self.log_scale = log_scale.clamp(least_log_scale(levels), GREATEST_LOG_SCALE)
        super().__init__(parameters.shape[:-3], self.location.shape[-3:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return level_images(self.levels)

    def log_prob(self, value: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, " *batch"]:
        """Returns log p(x) in nats of images with levels in [-1, 1]."""
        return self._log_bins(value).sum((-3, -2, -1))

    def _log_bins(self, value: Tensor) -> Tensor:
        """The log-probability of the level of each pixel and channel."""
        inverse_scale, centred = (-self.log_scale).exp(), value - self.location
        below = logsigmoid(inverse_scale * (centred + self._half))
        above = logsigmoid(-inverse_scale * (centred - self._half))
        width = torch.log(-torch.expm1(-2 * self._half * inverse_scale))
        lowest, highest = value < -1 + self._half, value > 1 - self._half
        return torch.where(lowest, below, torch.where(highest, above, below + above + width))

    @torch.no_grad()
    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        """Draws images of levels: [*sample_shape, *batch, channel, height, width]."""
        shape = self._extended_shape(Size(sample_shape))
        uniform = torch.rand(shape, dtype=self.location.dtype, device=self.location.device)
        return nearest_level(self.location + self.log_scale.exp() * uniform.logit(), self.levels)

    @property
    def mean(self) -> Float[Tensor, "*batch channel height width"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The expected value of each pixel: the expected level is the sum over k >= 1 of P(level >= k). For more than
        `SUMMED_LEVELS` levels, that of the logistic variable clipped to [-1, 1], which differs by half a bin at most."""
        inverse_scale = (-self.log_scale).exp()
        if self.levels > SUMMED_LEVELS:
            reach = [softplus(inverse_scale * (self.location - end)) for end in (-1, 1)]
            return (self.log_scale.exp() * (reach[0] - reach[1]) - 1).clamp(-1, 1)
        expected = torch.zeros_like(self.location)
        for level in range(1, self.levels):
            boundary = 2 * self._half * level - 1 - self._half
            expected += (inverse_scale * (self.location - boundary)).sigmoid()
        return level_value(expected, self.levels)

    @property
    @torch.no_grad()
    def mode(self) -> Float[Tensor, "*batch channel height width"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The most probable level of each pixel: the one nearest to the mean, or an outermost one with its tail."""
        nearest = nearest_level(self.location, self.levels)
        candidates = torch.stack([nearest, -torch.ones_like(nearest), torch.ones_like(nearest)])
        return candidates.gather(0, self._log_bins(candidates).argmax(0, keepdim=True)).squeeze(0)
