"""Remedies for collapse that exist here, as data: what each is against, and the change of an experiment that tries it.

A remedy is a function from an experiment to the fields that it changes, under their dotted path with `__` for the dot (as
`experiment.with_changes` takes them). Everything else follows from that: whether it suits a run (the changed experiment is
valid, and has not all of it already), and the options of `mpdvae train` that try it. A new remedy is one more line of
`REMEDIES`.

Causes, by what went wrong: `price` - the KL is paid before the decoder has learned what z is good for; `decoder` - the
decoder models the images well enough without z; `encoder` - the encoder is behind the decoder, which finds z of no use.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

from mpdvae.errors import InputError
from mpdvae.experiment import Experiment, with_changes
from mpdvae.recipes import DIVERSITY_WEIGHT, SMOOTHNESS_WEIGHT

Cause = Literal["price", "decoder", "encoder"]
Changes = Mapping[str, Any]


@dataclass(frozen=True)
class Remedy:
    """One thing to try."""

    name: str
    against: Cause
    changes: Callable[[Experiment], Changes]
    source: str


REMEDIES = (
    Remedy("mutual posterior divergence (MAE)", "price",
           lambda e: {"objective__diversity_weight": DIVERSITY_WEIGHT, "objective__smoothness_weight": SMOOTHNESS_WEIGHT},
           "Ma et al. 2019"),
    Remedy("KL annealing", "price",
           lambda e: {"objective__kl_weight": {"kind": "linear", "warm_up_steps": half(e.training.steps)}},
           "Bowman et al. 2016"),
    Remedy("cyclical KL annealing", "price",
           lambda e: {"objective__kl_weight": {"kind": "cyclical", "total_steps": e.training.steps}}, "Fu et al. 2019"),
    Remedy("beta below 1", "price", lambda e: {"objective__kl_weight__value": 0.5}, "Higgins et al. 2017"),
    Remedy("free bits", "price", lambda e: {"objective__free_bits_nats": 0.25 * e.latent_dim}, "Kingma et al. 2016"),
    Remedy("free bits per dimension", "price",
           lambda e: {"objective__free_bits_per_dimension_nats": 0.25}, "Kingma et al. 2016"),
    Remedy("autoregressive-flow prior", "price", lambda e: {"prior": {"kind": "flow"}}, "Chen et al. 2017"),
    Remedy("autoregressive-flow prior over maps", "price", lambda e: {"prior": {"kind": "map-flow"}}, "Chen et al. 2017"),
    Remedy("smaller receptive field", "decoder", lambda e: {"decoder__kernel_sizes": smaller(e)}, "Chen et al. 2017"),
)  # fmt: skip
"""In the order in which they are shown."""


@dataclass(frozen=True)
class Advice:
    """A remedy for one run, and how to try it."""

    remedy: Remedy
    options: str
    """Options of `mpdvae train`; empty where the command line cannot make the change."""
    edit: str
    """The change of experiment.json that does the same, where there are no options for it; else empty."""


def advise(experiment: Experiment) -> tuple[Advice, ...]:
    """The remedies that suit `experiment` and that it does not apply yet."""
    found = []
    for remedy in REMEDIES:
        changes = remedy.changes(experiment)
        try:
            with_changes(experiment, **changes)
        except InputError:
            continue  # it does not fit the experiment's parts
        if not all(_applied(experiment, path, value) for path, value in changes.items()):
            kinds = any(isinstance(value, Mapping) for value in changes.values())
            found.append(Advice(remedy, "" if kinds else options(changes), edit(changes) if kinds else ""))
    return tuple(found)


def options(changes: Changes) -> str:
    """`changes` as options of `mpdvae train`."""
    words = []
    for path, value in changes.items():
        *groups, field = path.replace("_", "-").split("--")
        if value is False:
            field = f"no-{field}"
        words.append("--" + ".".join([*groups, field]))
        if not isinstance(value, bool):
            words += map(_in_words, value if isinstance(value, tuple) else [value])
    return " ".join(words)


def edit(changes: Changes) -> str:
    """`changes` as they stand in experiment.json."""
    return ", ".join(f"{path.replace('__', '.')}: {json.dumps(value)}" for path, value in changes.items())


def _applied(experiment: Experiment, path: str, value: object) -> bool:
    """Whether a field has this value; of parts, whether it is of this kind, whatever its sizes."""
    present: Any = reduce(getattr, path.split("__"), experiment)
    return present.kind == value["kind"] if isinstance(value, Mapping) else present == value


def half(steps: int) -> int:
    """Half of the run, at least one step."""
    return max(1, steps // 2)


def smaller(experiment: Experiment) -> tuple[int, ...]:
    """Kernels of 3x3, a layer less than the experiment's decoder has; for other decoders two, which they refuse."""
    layers = len(getattr(experiment.decoder, "kernel_sizes", ())) or 3
    return (3,) * max(1, layers - 1)


def _in_words(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
