"""Configuration of an objective that was built in Python, so that a run folder holds names and numbers, and no code.

    Objective({"reconstruction": reconstruction, "kl": KL(Linear(1000)), "diversity": Diversity(1.0), "mine": my_term})

A term of the package becomes its fields, under its own name whatever the objective called it. A function of the user's
becomes a kind of regulariser: one under `@mpdvae.part("regulariser")` is one already, any other by its name
(`mpdvae.experiments.plain_functions`). `functools.partial` sets its options, which are recorded. A term alone is added to the
ELBO.

`configuration(config.build())` is `config`. An adaptive weight starts anew.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mpdvae.errors import InputError, listed
from mpdvae.experiments.objective_config import ObjectiveConfig
from mpdvae.experiments.own_parts import part, regulariser_of
from mpdvae.experiments.plain_functions import kind_named, of_options
from mpdvae.objectives.aggregate_terms import MMD, DensityGap, TotalCorrelation
from mpdvae.objectives.kl_weights import GECO, AdaptiveWeight, Constant, Cyclical, Linear, SoftFreeBits
from mpdvae.objectives.latent_reconstruction import LatentReconstruction
from mpdvae.objectives.terms import (
    KL,
    Diversity,
    MutualPosteriorDivergence,
    Objective,
    Smoothness,
    importance_weighted,
    reconstruction,
)

FIELDS: Mapping[type, Mapping[str, str]] = {
    Diversity: {"weight": "diversity_weight", "form": "mpd_form"},
    Smoothness: {"weight": "smoothness_weight", "over": "smoothness_over"},
    MMD: {"weight": "mmd_weight", "kernel": "mmd_kernel"},
    TotalCorrelation: {"weight": "total_correlation_weight"},
    MutualPosteriorDivergence: {"weight": "mpd_weight", "limit_nats": "mpd_limit_nats"},
    LatentReconstruction: {"weight": "latent_reconstruction_weight"},
    DensityGap: {"weight": "density_gap_weight", "over": "density_gap_over"},
    KL: {name: name for name in ("free_bits_nats", "free_bits_per_dimension_nats")},
}
"""Fields of `ObjectiveConfig` by attribute, for each term of the package that is not a function."""
WEIGHTS: Mapping[type, tuple[str, tuple[str, ...]]] = {
    Constant: ("constant", ("value",)),
    Linear: ("linear", ("warm_up_steps", "start")),
    Cyclical: ("cyclical", ("total_steps", "cycles", "rising_fraction")),
    SoftFreeBits: ("soft-free-bits", ("target_nats", "change", "tolerance")),
    GECO: ("geco", ("goal_nats", "rate", "smoothing")),
}
"""Kind and fields of each weight of the KL."""
GIVEN = "expected weights of terms, such as {'diversity_weight': 1.0}, an mpdvae.objectives.Objective, or a term of your own"


def configuration(objective: Any) -> ObjectiveConfig | dict[str, Any]:
    """Returns an objective as an `ObjectiveConfig` or its fields, which are not validated yet. Functions become kinds.

    Arguments:
        objective: None, an `ObjectiveConfig`, fields of one (whose `regulariser` may be a function), an `Objective`, or a
            term.

    Raises:
        InputError: for anything else, and for an objective that no configuration can hold.
    """
    if objective is None or isinstance(objective, ObjectiveConfig):
        return objective or {}
    if isinstance(objective, Objective):
        return _of_objective(objective)
    if isinstance(objective, Mapping):
        return _of_fields(objective)
    if not callable(objective):
        raise InputError(f"objective: {GIVEN}, got a {type(objective).__name__}.", topic="own-parts")
    added: dict[str, Any] = {"added": objective}
    return _of_objective(Objective({"reconstruction": reconstruction, "kl": KL(), **added}))


def _of_fields(given: Mapping[Any, Any]) -> dict[str, Any]:
    fields = {str(name): value for name, value in given.items()}
    if callable(term := fields.get("regulariser")) and not _is_of_package(term):
        fields["regulariser"] = _own(term)
    if terms := [name for name, value in fields.items() if callable(value)]:
        raise InputError(
            f"objective: {GIVEN}, got a dictionary with the term {terms[0]}; put it in mpdvae.objectives.Objective({{...}}).",
            topic="own-parts",
        )
    return fields


def _of_objective(objective: Objective) -> dict[str, Any]:
    terms = list(objective.terms.values())
    _check_settings(objective, terms)
    fields: dict[str, Any] = {"samples": objective.samples, "estimator": objective.estimator}
    for term in terms:
        fields |= _of_package(term) if _is_of_package(term) else {}
    elbo = {"reconstruction": reconstruction in terms, "kl": any(type(term) is KL for term in terms)}
    present = [name for name, there in elbo.items() if there]
    if not objective.noise:
        fields["autoencoder"] = True
    elif not fields.get("importance_weighted"):
        fields["elbo_terms"] = "both" if len(present) == 2 else (present or ["none"])[0]
    elif present:
        raise InputError(
            f"objective: importance_weighted takes the place of reconstruction and KL, got {present[0]} too; leave it out."
        )
    own = [_own(term) for term in terms if not _is_of_package(term)]
    return fields | ({"regulariser": own[0], "further_regularisers": own[1:]} if own else {})


def _check_settings(objective: Objective, terms: list[Any]) -> None:
    """Raises `InputError` for an objective that differs from its terms in a way that no configuration holds."""
    families = [type(term) if type(term) in FIELDS else term for term in terms if _is_of_package(term)]
    if twice := [family for family in families if families.count(family) > 1]:
        raise InputError(f"objective: expected each term of the package once, got {_named(twice[0])} twice; drop one.")
    if not objective.noise and terms != [reconstruction]:
        raise InputError(
            "objective: noise=False makes an autoencoder, of reconstruction alone, got the terms "
            f"{listed(list(objective.terms))}; leave them out, or noise=False."
        )
    if objective.images_at_once is not None:
        raise InputError(
            "objective: images_at_once is a setting of training, got one of the objective; pass it to mpdvae.fit."
        )
    weights = [term.weight for term in terms if type(term) is KL]
    adaptive = next((weight for weight in weights if isinstance(weight, AdaptiveWeight)), None)
    if objective.adaptive is not adaptive:
        raise InputError(
            "objective: expected a weight that adapts as that of the KL and as `adaptive`, got one of the two alone; pass "
            "Objective({..., 'kl': KL(weight)}, adaptive=weight)."
        )


def _is_of_package(term: Any) -> bool:
    return term is reconstruction or term is importance_weighted or type(term) in FIELDS


def _of_package(term: Any) -> dict[str, Any]:
    if type(term) not in FIELDS:
        return {"importance_weighted": True} if term is importance_weighted else {}
    fields = {field: getattr(term, attribute) for attribute, field in FIELDS[type(term)].items()}
    return fields | {"kl_weight": _weight(term.weight)} if type(term) is KL else fields


def _weight(weight: Any) -> dict[str, Any]:
    """Returns the configuration of the weight of a KL. Raises `InputError` for one of the user's."""
    if type(weight) not in WEIGHTS:
        raise InputError(
            f"objective: expected a weight of the KL from mpdvae.objectives (Linear, Cyclical ...), got {_named(weight)}; "
            "write the whole term as a function, which returns weight(step) * forward.kl.mean().",
            topic="own-parts",
        )
    kind, attributes = WEIGHTS[type(weight)]
    return {"kind": kind} | {name: getattr(weight, name) for name in attributes}


def _own(term: Callable[..., Any]) -> dict[str, Any]:
    """Returns the configuration of a term of the user's, which becomes a kind if it is none."""
    function, options = (term.func, term.keywords) if isinstance(term, partial) else (term, {})
    if not inspect.isfunction(function) or (isinstance(term, partial) and term.args):
        raise InputError(
            f"objective: expected a term of your own to be a function (def), got {_named(function)}; write one, with numbers "
            "as parameters (*, weight: float = 0.1), which functools.partial(term, weight=0.2) sets by name.",
            topic="own-parts",
        )
    kind = regulariser_of(function)
    if kind is None:
        kind = kind_named(function.__name__, "term")
        part("regulariser", name=kind)(of_options(function))
    return {**options, "kind": kind}


def _named(term: Any) -> str:
    return getattr(term, "__name__", None) or f"a {type(term).__name__}"
