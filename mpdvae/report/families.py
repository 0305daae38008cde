"""Families: variants that differ in one setting only, as their configurations show; names are ignored.

Two variants belong to one family if everything except the field of that setting is equal. A variant may belong to several
families: the plain ELBO has a KL of weight 1, no free bits and no committed rate.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mpdvae.report.collect import LABELS_ONLY, Study, Variant, flatten

DIVERSITY, SMOOTHNESS = "objective.diversity_weight", "objective.smoothness_weight"
Flat = Mapping[str, Any]
"""A configuration as dotted names and values."""


@dataclass(frozen=True)
class Dial:
    """A setting of a configuration that has a strength, such as a weight."""

    title: str
    unit: str
    """Of the strength; may be empty."""
    field: str
    """Its dotted name; the fields below it are part of the setting."""
    strength: Callable[[Flat], float | None]
    """Returns the strength; None if the configuration has none, for instance because the weight is annealed."""


@dataclass(frozen=True)
class Family:
    """At least two variants that differ in one setting, by ascending strength."""

    dial: Dial
    members: tuple[tuple[float, Variant], ...]
    beside: str = ""
    """What is the same in all of them and sets them apart from other families, in words; may be empty."""

    @property
    def title(self) -> str:
        """The setting in words."""
        return f"{self.dial.title}{self.beside}"

    def in_words(self, strength: float) -> str:
        """Returns the setting with one strength in words."""
        return f"{self.dial.title} {strength:g}{f' {self.dial.unit}' if self.dial.unit else ''}{self.beside}"


def number_at(flat: Flat, field: str, absent: float = 0.0) -> float | None:
    """Returns a finite number of a configuration, `absent` if the field is missing, and None for any other value."""
    value = flat.get(field, absent)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _kl_weight(flat: Flat) -> float | None:
    constant = flat.get("objective.kl_weight.kind", "constant") == "constant"
    return number_at(flat, "objective.kl_weight.value", 1.0) if constant else None


def _committed(flat: Flat) -> float | None:
    kind = flat.get("encoder.head.kind", "gaussian")
    if kind == "delta":
        return number_at(flat, "encoder.head.rate_nats")
    return 0.0 if kind == "gaussian" else None


def _field(title: str, unit: str, field: str) -> Dial:
    return Dial(title, unit, field, lambda flat: number_at(flat, field))


DIALS = (
    Dial("KL weight", "", "objective.kl_weight", _kl_weight),
    _field("free bits", "nats", "objective.free_bits_nats"),
    _field("free bits per dimension", "nats", "objective.free_bits_per_dimension_nats"),
    Dial("committed rate", "nats", "encoder.head", _committed),
    _field("diversity weight", "", DIVERSITY),
)


def families(study: Study) -> list[Family]:
    """Returns all families of a study, with distinct titles."""
    found = []
    for dial in DIALS:
        groups: dict[str, list[tuple[float, Variant]]] = defaultdict(list)
        for variant in study.variants:
            flat = configuration(variant)
            if (strength := dial.strength(flat)) is not None:
                groups[without(flat, (dial.field,))].append((strength, variant))
        for group in groups.values():
            if len({strength for strength, _ in group}) > 1:
                members = tuple(sorted(group, key=lambda member: member[0]))
                found.append(Family(dial, members, _beside(dial, members[0][1])))
    counted = Counter(family.title for family in found)
    return [_told_apart(family) if counted[family.title] > 1 else family for family in found]


def configuration(variant: Variant) -> Flat:
    """Returns the flattened configuration of a variant, which its runs share apart from the fields in `LABELS_ONLY`."""
    return flatten(variant.runs[0].configuration)


def without(flat: Flat, fields: Sequence[str]) -> str:
    """Returns the configuration as JSON without these fields, the fields below them, and names: a key for grouping."""
    left_out = {*LABELS_ONLY, "model", *fields}
    kept = {k: v for k, v in flat.items() if k not in left_out and not k.startswith(tuple(f"{f}." for f in fields))}
    return json.dumps(kept, sort_keys=True)


def _beside(dial: Dial, variant: Variant) -> str:
    smoothness = number_at(configuration(variant), SMOOTHNESS)
    return f" at smoothness {smoothness:g}" if dial.field == DIVERSITY and smoothness is not None else ""


def _told_apart(family: Family) -> Family:
    return replace(family, beside=f"{family.beside}, from {family.members[0][1].label}")
