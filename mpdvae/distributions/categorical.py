"""Categorical pixels: any distribution over the levels, a softmax for each pixel and channel.

It assumes nothing about how levels relate, and so fits histograms with gaps and several peaks, which no mixture of a few
logistics does; it pays with as many maps of parameters per channel as there are levels. Channels are independent given the
parameters: unlike the networks of its source, those of this package do not see the earlier channels of the same pixel.

van den Oord, Kalchbrenner & Kavukcuoglu, "Pixel Recurrent Neural Networks", ICML 2016, https://arxiv.org/abs/1601.06759
(section 3.3).
"""

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Categorical, Distribution, constraints

from mpdvae.distributions.levels import LEVELS, level_images, level_index, level_value
from mpdvae.errors import InputError


class CategoricalPixels(Distribution):
    """Images of levels in [-1, 1] whose pixels and channels are independent given `parameters`.

    Arguments:
        parameters: [*batch c*levels height width]: the logits of the first channel's levels, then of the second's, ...
        levels: number of levels.
    """

    arg_constraints = {}  # noqa: RUF012  # pyright: ignore[reportAssignmentType] - the form that torch requires
    has_rsample = False

    def __init__(self, parameters: Float[Tensor, "*batch parameter height width"], levels: int = LEVELS) -> None:
        channels, left = divmod(parameters.shape[-3], levels)
        if left or not channels:
            raise InputError(
                f"parameters: expected {levels} logits for each channel, one a level, got {parameters.shape[-3]} maps."
            )
        self.levels = levels
        self.logits: Tensor = parameters.unflatten(-3, (channels, levels)).movedim(-3, -1)
        """[*batch channel height width level]"""
        self._levels = Categorical(logits=self.logits, validate_args=False)
        super().__init__(parameters.shape[:-3], self.logits.shape[-4:-1], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return level_images(self.levels)

    def log_prob(self, value: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, " *batch"]:
        """Returns log p(x) in nats of images with levels in [-1, 1]."""
        return self._levels.log_prob(level_index(value, self.levels)).sum((-3, -2, -1))

    @torch.no_grad()
    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        """Draws images of levels: [*sample_shape, *batch, channel, height, width]."""
        return self._values(self._levels.sample(Size(sample_shape)))

    @property
    def mean(self) -> Float[Tensor, "*batch channel height width"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The expected value of each pixel."""
        values = self._values(torch.arange(self.levels, device=self.logits.device))
        return (self._levels.probs * values).sum(-1)

    @property
    @torch.no_grad()
    def mode(self) -> Float[Tensor, "*batch channel height width"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The most probable level of each pixel."""
        return self._values(self.logits.argmax(-1))

    def _values(self, k: Tensor) -> Tensor:
        return level_value(k.to(self.logits.dtype), self.levels)
