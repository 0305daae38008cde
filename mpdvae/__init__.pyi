from . import (
    data,
    density,
    distributions,
    divergence,
    errors,
    evaluation,
    experiments,
    interop,
    measures,
    models,
    networks,
    objectives,
    report,
    runs,
    seeding,
    sharing,
    training,
    vae,
    workflows,
)
from .divergence import PosteriorDivergence, mutual_posterior_divergence
from .errors import InputError, RunError
from .sharing import load
from .sklearn import MPDVAE
from .vae import VAE
from .version import __version__

__all__ = [
    "MPDVAE",
    "VAE",
    "InputError",
    "PosteriorDivergence",
    "RunError",
    "__version__",
    "data",
    "density",
    "distributions",
    "divergence",
    "errors",
    "evaluation",
    "experiments",
    "interop",
    "load",
    "measures",
    "models",
    "mutual_posterior_divergence",
    "networks",
    "objectives",
    "report",
    "runs",
    "seeding",
    "sharing",
    "training",
    "vae",
    "workflows",
]
