"""Values of pixels, and which distribution of pixels is a likelihood of which values. Needs no torch.

    values     made by binarisation     distributions
    binary     dynamic, static          bernoulli
    levels     levels                   discretised-logistic, discretised-logistic-mixture

A distribution of one kind of values gives the others no probability, although its formula yields numbers for them
(`mpdvae.distributions.support`). The distributions themselves are in `mpdvae.distributions.pixel_laws`.
"""

from collections.abc import Mapping
from typing import Literal

PixelValues = Literal["binary", "levels"]
IndependentPixels = Literal["bernoulli", "discretised-logistic"]
"""Distributions that decoders with independent pixels offer, for any number of channels."""

IN_WORDS: Mapping[PixelValues, str] = {"binary": "pixels that are 0 or 1", "levels": "pixels of 256 levels"}

MODELLED: Mapping[str, PixelValues] = {
    "bernoulli": "binary",
    "discretised-logistic": "levels",
    "discretised-logistic-mixture": "levels",
}
"""The values that each distribution is a likelihood of."""

SUITED: Mapping[PixelValues, IndependentPixels] = {"binary": "bernoulli", "levels": "discretised-logistic"}
"""The distribution of independent pixels that is chosen if none is given."""
