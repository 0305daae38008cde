"""The search space: fields of an experiment by their dotted names, each with a range or a list of choices.

    training.learning_rate=1e-4:1e-2:log     objective.diversity_weight=0:2     training.optimizer=adam,adamax

The ends of a range, and all choices, are validated like the field itself, so that no value is tried that `mpdvae train`
rejects.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from mpdvae.errors import InputError, refuse_unknown
from mpdvae.experiments.experiment import Experiment, with_changes

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

DEFAULT = (
    "training.learning_rate=1e-4:1e-2:log",
    "objective.diversity_weight=0:2",
    "objective.smoothness_weight=0:1",
    "objective.kl_weight.value=0.1:1:log",
)
"""Learning rate, the paper's two weights, and beta; fields that a recipe does not have are left out."""
FORM = "FIELD=LOW:HIGH, FIELD=LOW:HIGH:log or FIELD=a,b,c"


@dataclass(frozen=True)
class Range:
    """An interval of numbers, including both ends."""

    low: float
    high: float
    log: bool
    whole: bool
    """Whether it holds integers only."""

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choices:
    """One of several values."""

    values: tuple[Any, ...]

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)


Space = dict[str, Range | Choices]
"""The values that each field may take, by its dotted name."""


def space(experiment: Experiment, texts: Sequence[str]) -> Space:
    """Parses the search space of `experiment` from `texts`, or from `DEFAULT` if there are none.

    Raises:
        InputError: if a text has the wrong form, names an unknown field or one that was named before, or gives a value that
            the field cannot take.
    """
    known = _leaves(experiment)
    found: Space = {}
    for text in texts or [text for text in DEFAULT if text.split("=")[0] in known]:
        name, equals, values = text.partition("=")
        field = name.strip().replace("-", "_")
        if not equals or not values:
            raise InputError(f"--vary: expected {FORM}, got {text!r}.", topic="options")
        if field not in known:
            refuse_unknown("field", name, list(known), "`mpdvae train RECIPE --help-all` lists them all.")
        if field in found:
            raise InputError(f"--vary: {field} is given twice; give it once.", topic="options")
        if field == "training.precision" and "auto" in values.split(","):
            raise InputError(
                "--vary: training.precision: expected float32 and bfloat16, got auto, which is one choice for the whole "
                "search; give --precision auto instead.",
                topic="options",
            )
        found[field] = _range(text, known[field], values) if ":" in values else _choices(values)
        for value in _tried(found[field]):
            changed(experiment, {field: value})
    return found


def fits(experiment: Experiment, varied: Space) -> bool:
    """Returns whether `experiment` accepts each of the values that `varied` gives its fields."""
    try:
        for field, what in varied.items():
            for value in _tried(what):
                changed(experiment, {field: value})
    except InputError:
        return False
    return True


def changed(experiment: Experiment, values: dict[str, Any]) -> Experiment:
    """Returns `experiment` with new `values` of fields, by dotted name. Raises `InputError` if a value is invalid."""
    return with_changes(experiment, **{name.replace(".", "__"): value for name, value in values.items()})


def _tried(what: Range | Choices) -> tuple[Any, ...]:
    if isinstance(what, Choices):
        return what.values
    return (int(what.low), int(what.high)) if what.whole else (what.low, what.high)


def _range(text: str, types: set[type], values: str) -> Range:
    low, high, *rest = values.split(":")
    if not types & {int, float}:
        raise InputError(
            f"--vary: {text.split('=')[0]} is not a number; list its choices: FIELD=a,b,c.", topic="options"
        )
    whole = float not in types
    try:
        ends = tuple(float(int(end)) if whole else float(end) for end in (low, high))
    except ValueError:
        expected = "whole numbers" if whole else "numbers"
        raise InputError(f"--vary: expected {expected} as ends of the range, got {text!r}.", topic="options") from None
    log = rest == ["log"]
    if (rest and not log) or not all(map(math.isfinite, ends)) or ends[0] >= ends[1] or (log and ends[0] <= 0):
        raise InputError(f"--vary: expected LOW < HIGH, above 0 with :log, got {text!r}.", topic="options")
    return Range(*ends, log=log, whole=whole)


def _choices(text: str) -> Choices:
    return Choices(tuple(dict.fromkeys(_value(part.strip()) for part in text.split(","))))


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, dict | list) else value


def _leaves(config: BaseModel, prefix: str = "") -> dict[str, set[type]]:
    """Returns the dotted names of all fields that hold a single value, with the types that they may have."""
    leaves: dict[str, set[type]] = {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            leaves |= _leaves(value, f"{prefix}{name}.")
        elif name not in {"name", "model", "scale", "reproduces", "kind"}:
            leaves[prefix + name] = _types(field.annotation)
    return leaves


def _types(annotation: Any) -> set[type]:
    """Returns the plain types in an annotation such as `Annotated[float, ...] | None`."""
    if isinstance(annotation, type) and not get_args(annotation):
        return {annotation}
    return set().union(*(_types(part) for part in get_args(annotation) if isinstance(part, type) or get_args(part)))
