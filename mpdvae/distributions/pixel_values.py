"""Values of pixels, and which distribution of pixels is a likelihood of which values. Needs no torch.

    values         made by binarisation     distributions
    binary         dynamic, static          bernoulli
    levels         levels                   discretised-logistic, discretised-logistic-mixture, categorical; density: gaussian
    intensities    intensities              densities: continuous-bernoulli, gaussian

A distribution of one kind of values gives the others no probability, although its formula yields numbers for them
(`mpdvae.distributions.support`). The distributions themselves are in `mpdvae.distributions.pixel_laws`.

A *density* is no probability: its logarithm can be positive, depends on the unit of the values, and cannot be compared with
the log-probability of levels, nor expressed in bits per dimension of them.
"""

from collections.abc import Mapping
from typing import Literal

PixelValues = Literal["binary", "levels", "intensities"]
PixelDistribution = Literal[
    "bernoulli",
    "discretised-logistic",
    "discretised-logistic-mixture",
    "categorical",
    "gaussian",
    "continuous-bernoulli",
]
"""Distributions that decoders offer, all for any number of channels."""

IN_WORDS: Mapping[PixelValues, str] = {
    "binary": "pixels that are 0 or 1",
    "levels": "pixels of levels",
    "intensities": "pixels from 0 to 1",
}
RANGES: Mapping[PixelValues, tuple[float, float]] = {
    "binary": (0.0, 1.0),
    "levels": (-1.0, 1.0),
    "intensities": (0.0, 1.0),
}
"""Smallest and largest value."""

MODELLED: Mapping[PixelDistribution, tuple[PixelValues, ...]] = {
    "bernoulli": ("binary",),
    "discretised-logistic": ("levels",),
    "discretised-logistic-mixture": ("levels",),
    "categorical": ("levels",),
    "gaussian": ("levels", "intensities"),
    "continuous-bernoulli": ("intensities",),
}
"""The values that each distribution is a likelihood of."""

AS_DENSITY = "density of pixel values, not a probability"
"""What the name of a protocol says of likelihoods that are densities, so that they are never compared with others."""

SUITED: Mapping[PixelValues, PixelDistribution] = {
    "binary": "bernoulli",
    "levels": "discretised-logistic",
    "intensities": "continuous-bernoulli",
}
"""The distribution that a decoder with independent pixels has if none is given."""
SUITED_AUTOREGRESSIVE: Mapping[PixelValues, PixelDistribution] = {**SUITED, "levels": "discretised-logistic-mixture"}
"""The same for a decoder of autoregressive pixels, and for those of the paper's colour images."""
