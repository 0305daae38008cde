"""The table of distributions of pixels: what a decoder's last layer means.

A `PixelLaw` maps the maps of parameters that a network computes to a distribution of images whose pixels are independent
given these parameters. Decoders with independent pixels and autoregressive decoders take one as an argument.

    law                               values    maps of parameters for c channels
    bernoulli_pixels                  0, 1      c: logits
    discretised_logistic_pixels       levels    2c: means, log-scales
    logistic_mixture_pixels(n)        levels    10n for 3 channels, see `logistic_mixture`

To add one, write a torch `Distribution` of images with `log_prob`, `sample`, `mean` and `support`, a `PixelLaw` for it here,
and its name and values in `pixel_values`; tests/distributions/test_pixel_laws.py then tests it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, constraints

from mpdvae.distributions.discretised_logistic import DiscretisedLogistic
from mpdvae.distributions.levels import BINARY_IMAGES, LEVEL_IMAGES
from mpdvae.distributions.logistic_mixture import (
    ComponentChoice,
    DiscretisedLogisticMixture,
    parameters_for_each_pixel,
)
from mpdvae.distributions.pixel_values import IndependentPixels


@dataclass(frozen=True)
class PixelLaw:
    """A distribution of pixels given maps of parameters. Laws are equal if they make the same distribution."""

    make: Callable[[Tensor], Distribution]
    """Maps parameters [*batch parameter height width] to a distribution of images [channel height width]."""
    maps: Callable[[int], int] = field(compare=False)
    """Maps the number of channels to the number of maps of parameters."""
    support: constraints.Constraint = field(compare=False)
    """The images that have a probability."""

    def __call__(self, parameters: Float[Tensor, "*batch parameter height width"]) -> Distribution:
        return self.make(parameters)


def _bernoulli(logits: Float[Tensor, "*batch channel height width"]) -> Independent:
    return Independent(Bernoulli(logits=logits, validate_args=False), 3)


def _one_each(channels: int) -> int:
    return channels


def _two_each(channels: int) -> int:
    return 2 * channels


def _of_components(components: int, channels: int) -> int:
    return parameters_for_each_pixel(components)


bernoulli_pixels = PixelLaw(_bernoulli, _one_each, BINARY_IMAGES)
"""Binary pixels, independent given their logits."""

discretised_logistic_pixels = PixelLaw(DiscretisedLogistic, _two_each, LEVEL_IMAGES)
"""Pixels of 256 levels, grey or colour, independent given their means and log-scales."""

INDEPENDENT_PIXELS: Mapping[IndependentPixels, PixelLaw] = {
    "bernoulli": bernoulli_pixels,
    "discretised-logistic": discretised_logistic_pixels,
}
"""Laws of pixels that are independent given the code, by the name that `--decoder.pixels` takes."""
"""The laws that decoders with independent pixels offer by name."""


def logistic_mixture_pixels(components: int, component: ComponentChoice = "drawn") -> PixelLaw:
    """Returns the law of colour pixels of 256 levels as a mixture of so many discretised logistics; `component`: how samples
    choose one, see `DiscretisedLogisticMixture`."""
    make = partial(DiscretisedLogisticMixture, component=component)
    return PixelLaw(make, partial(_of_components, components), LEVEL_IMAGES)
