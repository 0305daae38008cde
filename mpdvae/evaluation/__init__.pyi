from .collapse_diagnosis import Diagnosis, diagnose
from .exploration import explore
from .image_codes import ImageCodes, encode_images
from .image_grids import png
from .interpolation import bilinear, linear
from .likelihood_check import judge
from .representation_baselines import score
from .run_evaluation import evaluate
from .run_likelihood import Request

__all__ = [
    "Diagnosis",
    "ImageCodes",
    "Request",
    "bilinear",
    "diagnose",
    "encode_images",
    "evaluate",
    "explore",
    "judge",
    "linear",
    "png",
    "score",
]
