from . import density, disentanglement, representation
from .annealed_importance import AnnealedEstimate, Sandwich, estimate_by_annealing, sandwich
from .code_diagnostics import Diagnostics, active_units, information_per_dimension, measure_code, mutual_information
from .code_use import CodeUse, measure_code_use
from .density import DensityEstimate, estimate_density
from .disentanglement.scores import Disentanglement, measure_disentanglement
from .encoder_lag import EncoderLag, measure_encoder_lag
from .information import Information, measure_information
from .intervals import Estimate
from .linear_threshold import LinearThreshold, linear_collapse_threshold, measure_linear_threshold
from .random_subsets import mean_and_error

__all__ = [
    "AnnealedEstimate",
    "CodeUse",
    "DensityEstimate",
    "Diagnostics",
    "Disentanglement",
    "EncoderLag",
    "Estimate",
    "Information",
    "LinearThreshold",
    "Sandwich",
    "active_units",
    "density",
    "disentanglement",
    "estimate_by_annealing",
    "estimate_density",
    "information_per_dimension",
    "linear_collapse_threshold",
    "mean_and_error",
    "measure_code",
    "measure_code_use",
    "measure_disentanglement",
    "measure_encoder_lag",
    "measure_information",
    "measure_linear_threshold",
    "mutual_information",
    "representation",
    "sandwich",
]
