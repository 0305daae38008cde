r"""Discretised logistic: a distribution of pixels with 256 levels, independent over pixels and channels, grey or colour.

A pixel with mean mu and scale s has the level x (`levels`) with the probability that a logistic variable falls into its
bin,

.. math:: P(x) = \sigma(a) - \sigma(b), \qquad a = \tfrac{x + h - \mu}{s}, \quad b = \tfrac{x - h - \mu}{s},
          \quad h = \tfrac{1}{255},

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
from torch.nn.functional import logsigmoid

from mpdvae.distributions.levels import HALF_BIN, LEVEL_IMAGES, LEVELS, nearest_level
from mpdvae.errors import InputError

LOG_SCALES = (-7.0, 7.0)
"""Limits of log s: at the lower one, the level at the mean has 97% of the mass; at the upper one, the lowest and the highest
level together have 99.9% of it."""


class DiscretisedLogistic(Distribution):
    """Images of 256 levels in [-1, 1] whose pixels and channels are independent given `parameters`.

    Arguments:
        parameters: [*batch 2c height width]: the means of the c channels, then their log-scales, which are clamped to
            `LOG_SCALES`.
    """

    arg_constraints = {}  # noqa: RUF012  # pyright: ignore[reportAssignmentType] - the form that torch requires
    has_rsample = False

    def __init__(self, parameters: Float[Tensor, "*batch parameter height width"]) -> None:
        if parameters.shape[-3] % 2:
            raise InputError(
                f"parameters: expected a mean and a log-scale for each channel, got {parameters.shape[-3]} maps."
            )
        self.location, log_scale = parameters.chunk(2, -3)
        self.log_scale = log_scale.clamp(*LOG_SCALES)
        super().__init__(parameters.shape[:-3], self.location.shape[-3:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return LEVEL_IMAGES

    def log_prob(self, value: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, " *batch"]:
        """Returns log p(x) in nats of images with levels in [-1, 1]."""
        inverse_scale, centred = (-self.log_scale).exp(), value - self.location
        below = logsigmoid(inverse_scale * (centred + HALF_BIN))
        above = logsigmoid(-inverse_scale * (centred - HALF_BIN))
        width = torch.log(-torch.expm1(-2 * HALF_BIN * inverse_scale))
        lowest, highest = value < -1 + HALF_BIN, value > 1 - HALF_BIN
        return torch.where(lowest, below, torch.where(highest, above, below + above + width)).sum((-3, -2, -1))

    @torch.no_grad()
    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        """Draws images of the 256 levels: [*sample_shape, *batch, channel, height, width]."""
        shape = self._extended_shape(Size(sample_shape))
        uniform = torch.rand(shape, dtype=self.location.dtype, device=self.location.device)
        return nearest_level(self.location + self.log_scale.exp() * uniform.logit())

    @property
    @torch.no_grad()
    def mean(self) -> Float[Tensor, "*batch channel height width"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The expected value of each pixel: the expected level is the sum over k = 1..255 of P(level >= k)."""
        expected, inverse_scale = torch.zeros_like(self.location), (-self.log_scale).exp()
        for level in range(1, LEVELS):
            boundary = level / 127.5 - 1 - HALF_BIN
            expected += (inverse_scale * (self.location - boundary)).sigmoid()
        return expected / 127.5 - 1
