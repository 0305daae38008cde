r"""Discretised logistic mixture: a distribution of colour pixels with 256 levels.

A pixel's level in each channel is x = level / 127.5 - 1 in [-1, 1], a bin of half-width h = 1/255. A mixture of n
components is shared by the three channels; inside component c the channels are logistic with scale s and means that depend
on the true values of the preceding channels,

    mu_R              mu_G + a x_R              mu_B + b x_R + c x_G

.. math:: \log p(x) = \log \sum_c \pi_c \prod_{ch}
          \Big[ \sigma\big(\tfrac{x + h - \mu}{s}\big) - \sigma\big(\tfrac{x - h - \mu}{s}\big) \Big]

where the lowest bin extends to -infinity and the highest to +infinity: the probabilities of the 256 levels sum to one. If a
bin's mass is below 1e-5, it is replaced by the density at its centre times its width; with very small scales this changes
the sum by up to 2e-5.

Salimans, Karpathy, Chen & Kingma, "PixelCNN++", ICLR 2017, https://arxiv.org/abs/1701.05517; layout of the parameters and
thresholds as in the released code of MAE.
"""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import log_softmax, logsigmoid, softplus

from mpdvae.distributions.levels import HALF_BIN, LEVEL_IMAGES, nearest_level
from mpdvae.errors import InputError, refuse_unknown

COLOURS = 3
LEAST_LOG_SCALE = -7.0
LEAST_MASS = 1e-5
"""Below this mass, a bin's probability is computed from the density at its centre."""

ComponentChoice = Literal["drawn", "most-probable"]


def parameters_for_each_pixel(components: int) -> int:
    """Returns the number of parameters per pixel: a weight, 3 means, 3 log-scales and 3 coefficients for each component."""
    return components * (1 + 3 * COLOURS)


class DiscretisedLogisticMixture(Distribution):
    """Colour images whose pixels are independent given `parameters`.

    Arguments:
        parameters: [*batch 10n height width]: n logits of the weights, then 3n means, 3n log-scales and 3n coefficients
            before tanh, each group ordered component by component.
        component: how `sample` chooses a pixel's component. "drawn" samples from the distribution; "most-probable" always
            takes the most probable one, as the released code of MAE does; the result is not a sample of the model, and is
            for comparison only.
    """

    arg_constraints = {}  # noqa: RUF012  # pyright: ignore[reportAssignmentType] - the form that torch requires
    has_rsample = False

    def __init__(
        self, parameters: Float[Tensor, "*batch parameter height width"], component: ComponentChoice = "drawn"
    ) -> None:
        if component not in get_args(ComponentChoice):
            refuse_unknown("choice of the component", component, list(get_args(ComponentChoice)))
        components, left = divmod(parameters.shape[-3], 1 + 3 * COLOURS)
        if left:
            raise InputError(
                f"parameters: expected {1 + 3 * COLOURS} channels for each component, got {parameters.shape[-3]}."
            )
        self.component = component
        logits, rest = parameters.split([components, 3 * COLOURS * components], dim=-3)
        means, log_scales, coefficients = rest.unflatten(-3, (3, components, COLOURS)).unbind(-5)
        self.log_weights: Tensor = log_softmax(logits, -3)
        """[*batch n height width]"""
        self.means, self.log_scales, self.coefficients = (
            means,
            log_scales.clamp_min(LEAST_LOG_SCALE),
            coefficients.tanh(),
        )
        """Each [*batch n 3 height width]; means before adding the contribution of the other channels."""
        height, width = parameters.shape[-2:]
        super().__init__(parameters.shape[:-3], Size((COLOURS, height, width)), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return LEVEL_IMAGES

    def log_prob(self, value: Float[Tensor, "*#batch 3 height width"]) -> Float[Tensor, " *batch"]:
        """Returns log p(x) in nats of images with levels in [-1, 1]."""
        x = value.unsqueeze(-4)  # [*batch 1 3 height width]
        centred = x - self._means_given(x)
        inverse_scale = torch.exp(-self.log_scales)
        upper, lower = inverse_scale * (centred + HALF_BIN), inverse_scale * (centred - HALF_BIN)
        mass = upper.sigmoid() - lower.sigmoid()
        middle = inverse_scale * centred
        from_density = middle - self.log_scales - 2 * softplus(middle) + math.log(2 * HALF_BIN)
        inside = torch.where(mass > LEAST_MASS, mass.clamp_min(1e-12).log(), from_density)
        log_bin = torch.where(
            x < -1 + HALF_BIN, logsigmoid(upper), torch.where(x > 1 - HALF_BIN, logsigmoid(-lower), inside)
        )
        return (log_bin.sum(-3) + self.log_weights).logsumexp(-3).sum((-2, -1))

    @torch.no_grad()
    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Float[Tensor, "*batch 3 height width"]:
        """Draws images of the 256 levels: a component for each pixel, then channel by channel."""
        shape = Size(sample_shape)
        log_weights = self.log_weights.expand(*shape, *self.log_weights.shape)
        if self.component == "drawn":
            noise = -torch.empty_like(log_weights, memory_format=torch.contiguous_format).exponential_().log()
            chosen = (log_weights + noise).argmax(-3)  # the Gumbel trick
        else:
            chosen = log_weights.argmax(-3)
        u = torch.empty(
            *chosen.shape[:-2], COLOURS, *chosen.shape[-2:], dtype=log_weights.dtype, device=log_weights.device
        )
        u.uniform_(1e-5, 1 - 1e-5)
        return self._levels_of(chosen, u.logit())

    @property
    @torch.no_grad()
    def mode(self) -> Float[Tensor, "*batch 3 height width"]:
        """The levels nearest to the means of each pixel's most probable component: greedy decoding."""
        chosen = self.log_weights.argmax(-3)
        return self._levels_of(chosen, chosen.new_zeros(()).to(self.means))

    def _levels_of(self, chosen: Tensor, noise: Tensor) -> Tensor:
        """Levels of the `chosen` components [*batch height width], with logistic `noise` [*batch 3 height width]."""
        index = chosen[..., None, None, :, :]

        def of_component(values: Tensor) -> Tensor:
            values = values.expand(*chosen.shape[:-2], *values.shape[-4:])
            return values.gather(-4, index.expand(*index.shape[:-3], COLOURS, *index.shape[-2:])).squeeze(-4)

        means, scales, coefficients = map(of_component, (self.means, self.log_scales.exp(), self.coefficients))
        a, b, c = coefficients.unbind(-3)
        red, green, blue = (means + scales * noise).unbind(-3)
        red = nearest_level(red)
        green = nearest_level(green + a * red)
        return torch.stack([red, green, nearest_level(blue + b * red + c * green)], -3)

    def _means_given(self, x: Tensor) -> Tensor:
        """Means of all channels given the true values of the preceding channels; `x` [*batch 1 3 height width]."""
        a, b, c = self.coefficients.unbind(-3)
        red, green = x[..., 0, :, :], x[..., 1, :, :]
        shift = torch.stack(torch.broadcast_tensors(torch.zeros_like(a), a * red, b * red + c * green), -3)
        return self.means + shift
