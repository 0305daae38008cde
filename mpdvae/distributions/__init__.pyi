from .categorical_pixels import CategoricalPixels
from .codes import Flow, FlowTransformed, diagonal_gaussian
from .continuous_bernoulli import ContinuousBernoulliPixels
from .discretised_logistic import DiscretisedLogistic
from .gaussian_ar1 import GaussianAR1
from .gaussian_pixels import GaussianPixels
from .logistic_mixture import DiscretisedLogisticMixture
from .pixel_laws import (
    PixelLaw,
    bernoulli_pixels,
    categorical_pixels,
    continuous_bernoulli_pixels,
    discretised_logistic_pixels,
    gaussian_pixels,
    logistic_mixture_pixels,
    logistic_pixels,
    pixel_law,
)
from .pixels import AutoregressivePixels, PixelParameters
from .support import check_values

__all__ = [
    "AutoregressivePixels",
    "CategoricalPixels",
    "ContinuousBernoulliPixels",
    "DiscretisedLogistic",
    "DiscretisedLogisticMixture",
    "Flow",
    "FlowTransformed",
    "GaussianAR1",
    "GaussianPixels",
    "PixelLaw",
    "PixelParameters",
    "bernoulli_pixels",
    "categorical_pixels",
    "check_values",
    "continuous_bernoulli_pixels",
    "diagonal_gaussian",
    "discretised_logistic_pixels",
    "gaussian_pixels",
    "logistic_mixture_pixels",
    "logistic_pixels",
    "pixel_law",
]
