r"""Discretised logistic mixture: a distribution of pixels with levels, of any number of channels.

A pixel's level in each of C channels is a number in [-1, 1], a bin of half-width h (`levels`). A mixture of n components is
shared by the channels; inside component c the channels are logistic with scale s and means that depend linearly on the true
values of the preceding channels, for three channels

    mu_R              mu_G + a x_R              mu_B + b x_R + c x_G

.. math:: \log p(x) = \log \sum_c \pi_c \prod_{ch}
          \Big[ \sigma\big(\tfrac{x + h - \mu}{s}\big) - \sigma\big(\tfrac{x - h - \mu}{s}\big) \Big]

where the lowest bin extends to -infinity and the highest to +infinity: the probabilities of the levels sum to one. If a
bin's mass is below 1e-5, it is replaced by the density at its centre times its width; with very small scales this changes
the sum by up to 2e-5. A component has 1 + 2 C + C (C - 1) / 2 parameters: a weight, means, log-scales and coefficients, of
which a grey pixel has none.

Salimans, Karpathy, Chen & Kingma, "PixelCNN++", ICLR 2017, https://arxiv.org/abs/1701.05517; layout of the parameters and
thresholds as in the released code of MAE, whose law is the one of three channels and 256 levels.
"""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import log_softmax, logsigmoid, softplus

from mpdvae.distributions.levels import LEVELS, half_bin, least_log_scale, level_images, nearest_level
from mpdvae.errors import InputError, refuse_unknown

COLOURS = 3
LEAST_MASS = 1e-5
"""Below this mass, a bin's probability is computed from the density at its centre."""

ComponentChoice = Literal["drawn", "most-probable"]


def parameters_for_each_pixel(components: int, channels: int = COLOURS) -> int:
    """Returns the number of parameters per pixel: a weight, and for each channel a mean, a log-scale and a coefficient for
    each earlier channel, for each component."""
    return components * (channels + 1) * (channels + 2) // 2


class DiscretisedLogisticMixture(Distribution):
    """Images of levels in [-1, 1] whose pixels are independent given `parameters`.

    Arguments:
        parameters: [*batch parameter height width]: n logits of the weights, then n C means, n C log-scales and
            n C (C - 1) / 2 coefficients before tanh, each group ordered component by component; the coefficients of a
            component are those of the second channel, then those of the third, ...
        component: how `sample` chooses a pixel's component. "drawn" samples from the distribution; "most-probable" always
            takes the most probable one, as the released code of MAE does; the result is not a sample of the model, and is
            for comparison only.
        channels: C.
        levels: number of levels.
    """

    arg_constraints = {}  # noqa: RUF012  # pyright: ignore[reportAssignmentType] - the form that torch requires
    has_rsample = False

    def __init__(
        self,
        parameters: Float[Tensor, "*batch parameter height width"],
        component: ComponentChoice = "drawn",
        channels: int = COLOURS,
        levels: int = LEVELS,
    ) -> None:
        if component not in get_args(ComponentChoice):
            refuse_unknown("choice of the component", component, list(get_args(ComponentChoice)))
        of_each = parameters_for_each_pixel(1, channels)
        components, left = divmod(parameters.shape[-3], of_each)
        if left:
            raise InputError(f"parameters: expected {of_each} channels for each component, got {parameters.shape[-3]}.")
        self.component: ComponentChoice = component
        self.levels, self._half = levels, half_bin(levels)
        counts = (1, channels, channels, channels * (channels - 1) // 2)
        groups = parameters.split([components * count for count in counts], dim=-3)
        weights, means, log_scales, raw = (
            group.unflatten(-3, (components, count)) for group, count in zip(groups, counts, strict=True)
        )
        self.log_weights: Tensor = log_softmax(weights.squeeze(-3), -3)
        """[*batch n height width]"""
        self.means, self.log_scales = means, log_scales.clamp_min(least_log_scale(levels))
        """Each [*batch n C height width]; means before adding the contribution of the other channels."""
        self.coefficients = raw.tanh()
        """[*batch n C(C-1)/2 height width]"""
        super().__init__(parameters.shape[:-3], Size((channels, *parameters.shape[-2:])), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return level_images(self.levels)

    def log_prob(self, value: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, " *batch"]:
        """Returns log p(x) in nats of images with levels in [-1, 1]."""
        x = value.unsqueeze(-4)  # [*batch 1 channel height width]
        centred = x - self._means_given(x)
        inverse_scale = torch.exp(-self.log_scales)
        upper, lower = inverse_scale * (centred + self._half), inverse_scale * (centred - self._half)
        mass = upper.sigmoid() - lower.sigmoid()
        middle = inverse_scale * centred
        from_density = middle - self.log_scales - 2 * softplus(middle) + math.log(2 * self._half)
        inside = torch.where(mass > LEAST_MASS, mass.clamp_min(1e-12).log(), from_density)
        log_bin = torch.where(
            x < -1 + self._half, logsigmoid(upper), torch.where(x > 1 - self._half, logsigmoid(-lower), inside)
        )
        return (log_bin.sum(-3) + self.log_weights).logsumexp(-3).sum((-2, -1))

    @torch.no_grad()
    def sample(
        self, sample_shape: Size | list[int] | tuple[int, ...] = ()
    ) -> Float[Tensor, "*batch channel height width"]:
        """Draws images of levels: a component for each pixel, then channel by channel."""
        shape = Size(sample_shape)
        log_weights = self.log_weights.expand(*shape, *self.log_weights.shape)
        if self.component == "drawn":
            noise = -torch.empty_like(log_weights, memory_format=torch.contiguous_format).exponential_().log()
            chosen = (log_weights + noise).argmax(-3)  # the Gumbel trick
        else:
            chosen = log_weights.argmax(-3)
        u = torch.empty(*chosen.shape[:-2], *self.event_shape, dtype=log_weights.dtype, device=log_weights.device)
        u.uniform_(1e-5, 1 - 1e-5)
        return self._levels_of(chosen, u.logit())

    @property
    @torch.no_grad()
    def mode(self) -> Float[Tensor, "*batch channel height width"]:
        """The levels nearest to the means of each pixel's most probable component: greedy decoding."""
        chosen = self.log_weights.argmax(-3)
        return self._levels_of(chosen, chosen.new_zeros(()).to(self.means))

    def _levels_of(self, chosen: Tensor, noise: Tensor) -> Tensor:
        """Levels of the `chosen` components [*batch height width], with logistic `noise` [*batch channel height width]."""
        index = chosen[..., None, None, :, :]

        def of_component(values: Tensor) -> Tensor:
            values = values.expand(*chosen.shape[:-2], *values.shape[-4:])
            return values.gather(-4, index.expand(*index.shape[:-3], *values.shape[-3:])).squeeze(-4)

        means, scales, coefficients = map(of_component, (self.means, self.log_scales.exp(), self.coefficients))
        before = means + scales * noise
        drawn = before[..., :0, :, :]
        for channel, of_earlier in enumerate(self._of_each_channel(coefficients)):
            mean = before[..., channel : channel + 1, :, :] + (of_earlier * drawn).sum(-3, keepdim=True)
            drawn = torch.cat([drawn, nearest_level(mean, self.levels)], -3)
        return drawn

    def _means_given(self, x: Tensor) -> Tensor:
        """Means of all channels given the true values of the preceding ones; `x` [*batch 1 channel height width]."""
        of_earlier = self._of_each_channel(self.coefficients)
        shifts = [(a * x[..., :channel, :, :]).sum(-3) for channel, a in enumerate(of_earlier)]
        return self.means + torch.stack(torch.broadcast_tensors(*shifts), -3)

    def _of_each_channel(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        """The coefficients of each channel, [... earlier height width], one for each channel before it."""
        return coefficients.split(list(range(self.event_shape[0])), -3)
