from .learner_state import Learner
from .loop import train
from .nonfinite_recovery import NotFinite
from .validation import Validation, validate

__all__ = [
    "Learner",
    "NotFinite",
    "Validation",
    "train",
    "validate",
]
