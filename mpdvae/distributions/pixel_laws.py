"""The table of distributions of pixels: what a decoder's last layer means.

A `PixelLaw` maps the maps of parameters that a network computes to a distribution of images whose pixels are independent
given these parameters. Decoders with independent pixels and autoregressive decoders take one as an argument.

    law                               values        maps of parameters for c channels
    bernoulli_pixels                  0, 1          c: logits
    discretised_logistic_pixels       levels        2c: means, log-scales
    logistic_mixture_pixels(n)        levels        n (c + 1) (c + 2) / 2, see `logistic_mixture`
    categorical_pixels(L)             L levels      L c: logits
    gaussian_pixels                   numbers       c: means; shared by all pixels: log sigma
    continuous_bernoulli_pixels       [0, 1]        c: logits

The last two are densities (`pixel_values`). `pixel_law` finds a law by name, for any number of levels.

To add one, write a torch `Distribution` of images with `log_prob`, `sample`, `mode`, `support` and, if it has a formula,
`mean`; a `PixelLaw` for it here; and its name and values in `pixel_values`. tests/distributions/test_pixel_laws.py then tests
it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, constraints

from mpdvae.distributions.categorical import CategoricalPixels
from mpdvae.distributions.continuous_bernoulli import INTENSITY_IMAGES, ContinuousBernoulliPixels
from mpdvae.distributions.discretised_logistic import DiscretisedLogistic
from mpdvae.distributions.gaussian import REAL_IMAGES, GaussianPixels
from mpdvae.distributions.levels import BINARY_IMAGES, LEVELS, level_images
from mpdvae.distributions.logistic_mixture import (
    ComponentChoice,
    DiscretisedLogisticMixture,
    parameters_for_each_pixel,
)
from mpdvae.errors import refuse_unknown

COMPONENTS = 10
"""Components of a mixture, as in PixelCNN++."""


@dataclass(frozen=True)
class PixelLaw:
    """A distribution of pixels given maps of parameters. Laws are equal if they make the same distribution."""

    make: Callable[[Tensor], Distribution]
    """Maps parameters [*batch parameter height width] to a distribution of images [channel height width]."""
    maps: Callable[[int], int] = field(compare=False)
    """Maps the number of channels to the number of maps of parameters that a network computes."""
    support: constraints.Constraint = field(compare=False)
    """The images that have a probability."""
    shared: int = 0
    """Number of parameters that all pixels share: the last maps of the parameters, which a decoder learns beside its network;
    see `with_shared`."""

    def __call__(self, parameters: Float[Tensor, "*batch parameter height width"]) -> Distribution:
        return self.make(parameters)

    def with_shared(self, values: Float[Tensor, " shared"]) -> "PixelLaw":
        """Returns the law of a pixel given the other parameters."""
        return replace(self, make=partial(_with_shared, self.make, values), shared=0)


@dataclass(frozen=True)
class _Made:
    """A distribution with further arguments. Unlike partial functions, two are equal if all of this is."""

    distribution: Callable[..., Distribution]
    arguments: tuple[int | str, ...]

    def __call__(self, parameters: Tensor) -> Distribution:
        return self.distribution(parameters, *self.arguments)


def _with_shared(make: Callable[[Tensor], Distribution], values: Tensor, parameters: Tensor) -> Distribution:
    maps = values[:, None, None].expand(*parameters.shape[:-3], -1, *parameters.shape[-2:])
    return make(torch.cat([parameters, maps.to(parameters)], -3))


def _bernoulli(logits: Float[Tensor, "*batch channel height width"]) -> Independent:
    return Independent(Bernoulli(logits=logits, validate_args=False), 3)


def _mixture(parameters: Tensor, components: int, component: ComponentChoice, levels: int) -> Distribution:
    of_each = parameters.shape[-3] // components
    channels = (isqrt(8 * of_each + 1) - 3) // 2  # the inverse of `parameters_for_each_pixel`
    return DiscretisedLogisticMixture(parameters, component, channels, levels)


def _for_each_channel(count: int, channels: int) -> int:
    return count * channels


bernoulli_pixels = PixelLaw(_bernoulli, partial(_for_each_channel, 1), BINARY_IMAGES)
"""Binary pixels, independent given their logits."""

gaussian_pixels = PixelLaw(GaussianPixels, partial(_for_each_channel, 1), REAL_IMAGES, shared=1)
"""Pixels that are real numbers, independent given their means and one standard deviation for all."""

continuous_bernoulli_pixels = PixelLaw(ContinuousBernoulliPixels, partial(_for_each_channel, 1), INTENSITY_IMAGES)
"""Pixels from 0 to 1, independent given their logits."""


def logistic_pixels(levels: int = LEVELS) -> PixelLaw:
    """Returns the law of pixels of so many levels, independent given their means and log-scales."""
    return PixelLaw(_Made(DiscretisedLogistic, (levels,)), partial(_for_each_channel, 2), level_images(levels))


def logistic_mixture_pixels(components: int, component: ComponentChoice = "drawn", levels: int = LEVELS) -> PixelLaw:
    """Returns the law of pixels as a mixture of so many discretised logistics, shared by the channels; `component`: how
    samples choose one, see `DiscretisedLogisticMixture`."""
    make = _Made(_mixture, (components, component, levels))
    return PixelLaw(make, partial(parameters_for_each_pixel, components), level_images(levels))


def categorical_pixels(levels: int = LEVELS) -> PixelLaw:
    """Returns the law of pixels of so many levels, independent given the logits of every level."""
    return PixelLaw(_Made(CategoricalPixels, (levels,)), partial(_for_each_channel, levels), level_images(levels))


discretised_logistic_pixels = logistic_pixels()
"""Pixels of 256 levels, independent given their means and log-scales."""


ten_logistics_pixels = logistic_mixture_pixels(COMPONENTS)
"""Pixels of 256 levels as a mixture of ten discretised logistics: those of PixelCNN++ and of the paper's colour images."""


def pixel_law(
    name: str,
    levels: int = LEVELS,
    components: int = COMPONENTS,
    component: ComponentChoice = "drawn",
) -> PixelLaw:
    """Returns a law by its name in `mpdvae.distributions.pixel_values`.

    Arguments:
        name: bernoulli, discretised-logistic, discretised-logistic-mixture, categorical, gaussian or continuous-bernoulli.
        levels: number of levels, 2 to 65,536; for distributions of levels.
        components: of a mixture, like component; see `logistic_mixture_pixels`.

    Raises:
        InputError: for an unknown name or another number of levels.
    """
    laws: dict[str, Callable[[], PixelLaw]] = {
        "bernoulli": lambda: bernoulli_pixels,
        "discretised-logistic": lambda: logistic_pixels(levels),
        "discretised-logistic-mixture": lambda: logistic_mixture_pixels(components, component, levels),
        "categorical": lambda: categorical_pixels(levels),
        "gaussian": lambda: gaussian_pixels,
        "continuous-bernoulli": lambda: continuous_bernoulli_pixels,
    }
    if name not in laws:
        refuse_unknown("distribution of pixels", name, list(laws))
    return laws[name]()
