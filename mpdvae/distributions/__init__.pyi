from .categorical import CategoricalPixels
from .codes import Flow, FlowTransformed, diagonal_gaussian
from .continuous_bernoulli import ContinuousBernoulliPixels
from .discretised_logistic import DiscretisedLogistic
from .gaussian import GaussianPixels
from .gaussian_ar1 import GaussianAR1
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
    ten_logistics_pixels,
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
    "ten_logistics_pixels",
]
