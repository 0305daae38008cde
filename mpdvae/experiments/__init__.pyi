from .experiment import Data, Evaluation, Experiment, Origin, from_json, with_changes
from .objective_config import ObjectiveConfig
from .recipes import all_recipes, matrix, recipe
from .remedies import REMEDIES, Remedy
from .scales import SCALES, Scale, Study
from .training_config import Training

__all__ = [
    "REMEDIES",
    "SCALES",
    "Data",
    "Evaluation",
    "Experiment",
    "ObjectiveConfig",
    "Origin",
    "Remedy",
    "Scale",
    "Study",
    "Training",
    "all_recipes",
    "from_json",
    "matrix",
    "recipe",
    "with_changes",
]
