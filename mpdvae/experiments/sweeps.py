"""Sweeps: one setting of a model (its dial) is varied and all others stay fixed, so that the runs trace a curve in the
rate-distortion plane (`mpdvae.report.plane`).

    on mae             eta x gamma   the weights of diversity and smoothness, on the grid of MAE's released code
    on vae-pixelcnn    beta          a constant weight of the KL (beta-VAE: Higgins et al., ICLR 2017)
                       free bits     a floor of the total KL (Kingma et al., NeurIPS 2016; total: MAE's released code)
                       delta         a committed rate of the posteriors (delta-VAE: Razavi et al., ICLR 2019)

`vae-pixelcnn` itself is the starting point of the last three (beta 1, no free bits, no committed rate); `vlae` is MAE with
both weights set to 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpdvae.experiments.experiment import Experiment, with_changes

GRID = [(eta, gamma) for eta in (0.5, 1.0, 2.0) for gamma in (0.1, 0.5, 1.0)]
"""Weights of diversity and smoothness."""
NATS_PER_DIMENSION = (0.1, 0.3, 1.0)
"""Floors and committed rates per dimension of the code."""


@dataclass(frozen=True)
class Dial:
    """A setting of the model that collapses, varied in a sweep."""

    title: str
    source: str
    """Authors and year."""
    strengths: tuple[float, ...]
    """Values at which the dial has an effect."""
    changes: Callable[[float, int], dict[str, Any]]
    """A function from a strength and the code length to fields, as accepted by `with_changes`."""


DIALS = {
    "beta": Dial(
        "a constant weight of the KL",
        "Higgins et al. 2017",
        (0.25, 0.5, 2.0),
        lambda weight, _: {"objective__kl_weight": {"kind": "constant", "value": weight}},
    ),
    "free-bits": Dial(
        "free bits for the whole code, in nats per dimension",
        "Kingma et al. 2016",
        NATS_PER_DIMENSION,
        lambda nats, dimensions: {"objective__free_bits_nats": nats * dimensions},
    ),
    "delta": Dial(
        "a committed rate, in nats per dimension",
        "Razavi et al. 2019",
        NATS_PER_DIMENSION,
        lambda nats, dimensions: {"encoder__head": {"kind": "delta", "rate_nats": nats * dimensions}},
    ),
}


def grid_model(eta: float, gamma: float) -> str:
    """Returns the name of MAE with these weights."""
    return f"mae-eta{eta:g}-gamma{gamma:g}"


def dial_model(dial: str, strength: float) -> str:
    """Returns the name of the model that collapses with this dial at this strength."""
    return f"{dial}-{strength:g}"


MODELS = (
    "vae-pixelcnn",
    "vlae",
    *(grid_model(eta, gamma) for eta, gamma in GRID),
    *(dial_model(name, strength) for name, dial in DIALS.items() for strength in dial.strengths),
)
"""Models that `mpdvae reproduce --figure rate-distortion` compares."""


def turned(base: Experiment) -> list[Experiment]:
    """Returns one experiment, which should be the model that collapses, with every dial at every strength."""
    return [
        with_changes(
            base,
            name=f"{dial_model(name, strength)}-{base.data.dataset}-{base.scale}",
            model=dial_model(name, strength),
            reproduces=f"Sweep: {dial.title}, {strength:g} ({dial.source})",
            **dial.changes(strength, base.latent_dim),
        )
        for name, dial in DIALS.items()
        for strength in dial.strengths
    ]
