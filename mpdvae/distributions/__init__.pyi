from .codes import Flow, FlowTransformed, diagonal_gaussian
from .discretised_logistic import DiscretisedLogistic
from .gaussian_ar1 import GaussianAR1
from .logistic_mixture import DiscretisedLogisticMixture
from .pixel_laws import (
    INDEPENDENT_PIXELS,
    PixelLaw,
    bernoulli_pixels,
    discretised_logistic_pixels,
    logistic_mixture_pixels,
)
from .pixels import AutoregressivePixels, PixelParameters
from .support import check_values

__all__ = [
    "INDEPENDENT_PIXELS",
    "AutoregressivePixels",
    "DiscretisedLogistic",
    "DiscretisedLogisticMixture",
    "Flow",
    "FlowTransformed",
    "GaussianAR1",
    "PixelLaw",
    "PixelParameters",
    "bernoulli_pixels",
    "check_values",
    "diagonal_gaussian",
    "discretised_logistic_pixels",
    "logistic_mixture_pixels",
]
