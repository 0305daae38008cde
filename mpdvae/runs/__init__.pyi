from .checksums import run_files
from .model_folder import load, save_model
from .observer import Observer
from .run_folder import Run

__all__ = [
    "Observer",
    "Run",
    "load",
    "run_files",
    "save_model",
]
