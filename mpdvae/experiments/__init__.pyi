from .data_config import Data
from .decoder_config import (
    ColourResNetDecoder,
    ConvNetDecoder,
    InjectiveDecoder,
    InjectivePixelCNNDecoder,
    MLPDecoder,
    PixelCNNDecoder,
    PixelCNNPPDecoder,
    ResNetDecoder,
)
from .encoder_config import ColourResNetEncoder, ConvNetEncoder, DenseNetEncoder, MLPEncoder, ResNetEncoder
from .evaluation_config import Evaluation
from .experiment import Experiment, Origin, from_json, with_changes
from .objective_config import ObjectiveConfig
from .prior_config import AR1Prior, FlowPrior, MapFlowPrior, StandardNormalPrior, VampPrior
from .recipes import all_recipes, matrix, recipe
from .remedies import REMEDIES, Remedy
from .scales import SCALES, Scale, Study
from .training_config import Training

__all__ = [
    "REMEDIES",
    "SCALES",
    "AR1Prior",
    "ColourResNetDecoder",
    "ColourResNetEncoder",
    "ConvNetDecoder",
    "ConvNetEncoder",
    "Data",
    "DenseNetEncoder",
    "Evaluation",
    "Experiment",
    "FlowPrior",
    "InjectiveDecoder",
    "InjectivePixelCNNDecoder",
    "MLPDecoder",
    "MLPEncoder",
    "MapFlowPrior",
    "ObjectiveConfig",
    "Origin",
    "PixelCNNDecoder",
    "PixelCNNPPDecoder",
    "Remedy",
    "ResNetDecoder",
    "ResNetEncoder",
    "Scale",
    "StandardNormalPrior",
    "Study",
    "Training",
    "VampPrior",
    "all_recipes",
    "from_json",
    "matrix",
    "recipe",
    "with_changes",
]
