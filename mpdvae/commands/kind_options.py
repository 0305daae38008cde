"""Choosing the kind of a part by an option: `--prior.kind vamp --prior.components 200`.

Fields of an experiment that are unions (encoder, prior, weight of the KL ...) hold one of several configurations that
differ in their `kind`. A command line has the options of one member of each union, so the kinds that it asks for are put
into the experiment first, with the defaults of that kind; its other options then apply to those.
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
    """`config` with the kinds that `arguments` ask for, not validated yet; a member that is new has its defaults, and
    `tyro.MISSING` where there is none.

    Raises:
        InputError: for a kind that there is not.
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
    """All kinds of the union that `member` belongs to; empty where it belongs to none."""
    for members in _unions(root):
        if member in members.values():
            return tuple(members)
    return ()


def _unions(config: type[Config]) -> Iterator[dict[str, type[Config]]]:
    """Every union below `config`, as its members by kind."""
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
    """The last value of `option`, as `--option value` or `--option=value`."""
    value = None
    for word, following in zip_longest(arguments, arguments[1:]):
        name, equals, rest = word.partition("=")
        if name.replace("_", "-") == option:
            value = rest if equals else following
    return value
