from .estimator import MPDVAE
from .job import complete
from .matrix import Job, run_all
from .matrix_cost import plan
from .repetition import Repetition
from .search import Outcome
from .verification import Verification, verify

__all__ = [
    "MPDVAE",
    "Job",
    "Outcome",
    "Repetition",
    "Verification",
    "complete",
    "plan",
    "run_all",
    "verify",
]
