"""Selects the kind of a part by an option: `--prior.kind vamp --prior.components 200`.

Fields of an experiment that are unions (encoder, prior, weight of the KL ...) hold one of several configurations that
differ in their `kind`. The command line has the options of only one member of each union. Therefore the requested kinds are
set in the experiment first, with the defaults of each kind; the remaining options then apply to them.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any, TypeVar, get_args

import tyro
from pydantic.fields import FieldInfo

from mpdvae.errors import refuse_unknown
from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.fields import Config
from mpdvae.experiments.own_parts import OF_PACKAGE, find, known

Given = TypeVar("Given", bound=Config)


def with_kinds(config: Given, arguments: Sequence[str], prefix: str = "") -> Given:
    """Returns `config` with the kinds that `arguments` request, not validated yet.

    A newly selected member has its defaults, and `tyro.MISSING` for fields without a default.

    Raises:
        InputError: if a kind does not exist.
    """
    changes: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if not isinstance(value, Config):
            continue
        option = f"{prefix}{name.replace('_', '-')}"
        kind = _given(f"--{option}.kind", arguments)
        if kind is not None and is_chosen_by_kind(name, field):
            member = _members(field.annotation).get(kind) or (find(name, kind) if name in OF_PACKAGE else None)
            if member is None:
                refuse_unknown(f"kind of {option}", kind, [*_members(field.annotation), *_own(name)])
            if not isinstance(value, member):
                value = _of_defaults(member)
        changes[name] = with_kinds(value, arguments, f"{option}.")
    return config.model_copy(update=changes)


def kinds_beside(member: type[Config], root: type[Config] = Experiment) -> tuple[str, ...]:
    """Returns all kinds of the union that `member` belongs to, those of the user's own parts included; empty if it belongs to
    none."""
    for members in _unions(root):
        if member in members.values():
            return tuple(members)
    return ()


def _unions(config: type[Config]) -> Iterator[dict[str, type[Config]]]:
    """Yields every union below `config`, as a dictionary of its members by kind."""
    for name, field in config.model_fields.items():
        if is_chosen_by_kind(name, field):
            members = _members(field.annotation)
            yield members | _own(name)
            for member in members.values():
                yield from _unions(member)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            yield from _unions(field.annotation)


def is_chosen_by_kind(name: str, field: FieldInfo) -> bool:
    """Returns whether a field of this name holds one of several kinds, of the package or of the user."""
    return field.discriminator is not None or name in OF_PACKAGE


def _members(union: Any) -> dict[str, type[Config]]:
    """Returns the members of a union, or a single configuration, by kind."""
    return {member.model_fields["kind"].default: member for member in get_args(union) or (union,)}


def _own(name: str) -> dict[str, type[Config]]:
    """Returns the user's own parts for the field `name`, by kind."""
    return {**known(name)} if name in OF_PACKAGE else {}


def _of_defaults(member: type[Config]) -> Config:
    required = {name: tyro.MISSING for name, field in member.model_fields.items() if field.is_required()}
    return member.model_construct(**required)


def _given(option: str, arguments: Sequence[str]) -> str | None:
    """Returns the last value of `option`, given as `--option value` or `--option=value`."""
    value = None
    for word, following in zip_longest(arguments, arguments[1:]):
        name, equals, rest = word.partition("=")
        if name.replace("_", "-") == option:
            value = rest if equals else following
    return value
