"""Families: variants that differ in the strength of one dial, read from their configurations and not from their names.

Two variants belong together in a dial where everything but the dial's field is the same. One variant may belong to several
families: the plain ELBO is a KL of weight 1, no free bits and no committed rate.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpdvae.report.collect import LABELS_ONLY, Study, Variant, flatten

DIVERSITY, SMOOTHNESS = "objective.diversity_weight", "objective.smoothness_weight"
Flat = Mapping[str, Any]
"""A configuration as dotted names and values."""


@dataclass(frozen=True)
class Dial:
    """A part of a configuration that has a strength."""

    title: str
    field: str
    """Its dotted name; what is below it belongs to it, too."""
    strength: Callable[[Flat], float | None]
    """None where the part holds something without a strength."""


@dataclass(frozen=True)
class Family:
    """At least two variants that differ in one dial, by ascending strength."""

    title: str
    members: tuple[tuple[float, Variant], ...]


def number_at(flat: Flat, field: str, absent: float = 0.0) -> float | None:
    """A finite number of a configuration, `absent` where it has no such field; None for anything else."""
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


def _field(title: str, field: str) -> Dial:
    return Dial(title, field, lambda flat: number_at(flat, field))


DIALS = (
    Dial("KL weight", "objective.kl_weight", _kl_weight),
    _field("free bits (nats)", "objective.free_bits_nats"),
    _field("free bits per dimension (nats)", "objective.free_bits_per_dimension_nats"),
    Dial("committed rate (nats)", "encoder.head", _committed),
    _field("diversity", DIVERSITY),
)


def families(study: Study) -> list[Family]:
    """All families of a study, with titles that differ."""
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
                found.append(Family(_title(dial, members[0][1]), members))
    counted = Counter(family.title for family in found)
    return [_told_apart(family) if counted[family.title] > 1 else family for family in found]


def configuration(variant: Variant) -> Flat:
    """What the runs of a variant have in common."""
    return flatten(variant.runs[0].configuration)


def without(flat: Flat, fields: Sequence[str]) -> str:
    """Everything but these fields, what is below them, and names: equal for variants that differ in nothing else."""
    left_out = {*LABELS_ONLY, "model", *fields}
    kept = {k: v for k, v in flat.items() if k not in left_out and not k.startswith(tuple(f"{f}." for f in fields))}
    return json.dumps(kept, sort_keys=True)


def _title(dial: Dial, variant: Variant) -> str:
    smoothness = number_at(configuration(variant), SMOOTHNESS)
    return (
        f"{dial.title} (smoothness {smoothness:g})"
        if dial.field == DIVERSITY and smoothness is not None
        else dial.title
    )


def _told_apart(family: Family) -> Family:
    return Family(f"{family.title}, from {family.members[0][1].label}", family.members)
