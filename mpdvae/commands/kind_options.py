"""Selects the kind of a part by an option: `--prior.kind vamp --prior.components 200`.

Fields of an experiment that are unions (encoder, prior, weight of the KL ...) hold one of several configurations that
differ in their `kind`. The command line has the options of only one member of each union. Therefore the requested kinds are
set in the experiment first, with the defaults of each kind; the remaining options then apply to them.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any, TypeVar, get_args

import tyro

from mpdvae.errors import refuse_unknown
from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.fields import Config

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
        if field.discriminator is not None:
            kind = _given(f"--{option}.kind", arguments)
            members = _members(field.annotation)
            if kind is not None and kind not in members:
                refuse_unknown(f"kind of {option}", kind, list(members))
            if kind is not None and not isinstance(value, members[kind]):
                value = _of_defaults(members[kind])
        changes[name] = with_kinds(value, arguments, f"{option}.")
    return config.model_copy(update=changes)


def kinds_beside(member: type[Config], root: type[Config] = Experiment) -> tuple[str, ...]:
    """Returns all kinds of the union that `member` belongs to; empty if it belongs to none."""
    for members in _unions(root):
        if member in members.values():
            return tuple(members)
    return ()


def _unions(config: type[Config]) -> Iterator[dict[str, type[Config]]]:
    """Yields every union below `config`, as a dictionary of its members by kind."""
    for field in config.model_fields.values():
        if field.discriminator is not None:
            members = _members(field.annotation)
            yield members
            for member in members.values():
                yield from _unions(member)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            yield from _unions(field.annotation)


def _members(union: Any) -> dict[str, type[Config]]:
    return {member.model_fields["kind"].default: member for member in get_args(union)}


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
