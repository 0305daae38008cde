from .codes import Flow, FlowTransformed, diagonal_gaussian
from .gaussian_ar1 import GaussianAR1
from .logistic_mixture import DiscretisedLogisticMixture
from .pixels import AutoregressivePixels, PixelLaw, PixelParameters, bernoulli_pixels

__all__ = [
    "AutoregressivePixels",
    "DiscretisedLogisticMixture",
    "Flow",
    "FlowTransformed",
    "GaussianAR1",
    "PixelLaw",
    "PixelParameters",
    "bernoulli_pixels",
    "diagonal_gaussian",
]
