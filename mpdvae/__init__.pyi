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
from .experiments.own_parts import part
from .sharing import load
from .sklearn import MPDVAE
from .vae import VAE
from .version import __version__
from .workflows.own_models import fit

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
    "fit",
    "interop",
    "load",
    "measures",
    "models",
    "mutual_posterior_divergence",
    "networks",
    "objectives",
    "part",
    "report",
    "runs",
    "seeding",
    "sharing",
    "training",
    "vae",
    "workflows",
]
