from .aggregate_terms import MMD, DensityGap, TotalCorrelation
from .forward_pass import ForwardPass
from .kl_weights import GECO, AdaptiveWeight, Constant, Cyclical, Linear, Schedule, SoftFreeBits
from .latent_reconstruction import LatentReconstruction
from .step_rules import Joint, Lagging, StepRule
from .term_gradients import gradient_norms
from .terms import (
    KL,
    Diversity,
    Loss,
    MutualPosteriorDivergence,
    Objective,
    Smoothness,
    Term,
    importance_weighted,
    reconstruction,
)

__all__ = [
    "GECO",
    "KL",
    "MMD",
    "AdaptiveWeight",
    "Constant",
    "Cyclical",
    "DensityGap",
    "Diversity",
    "ForwardPass",
    "Joint",
    "Lagging",
    "LatentReconstruction",
    "Linear",
    "Loss",
    "MutualPosteriorDivergence",
    "Objective",
    "Schedule",
    "Smoothness",
    "SoftFreeBits",
    "StepRule",
    "Term",
    "TotalCorrelation",
    "gradient_norms",
    "importance_weighted",
    "reconstruction",
]
