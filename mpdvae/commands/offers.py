"""Completions of a command: its options with their values, and its positional arguments.

They are derived from the signatures of commands and, for `mpdvae train`, from the fields of an experiment, including those
of every kind of part. Names follow tyro's convention: dashes for underscores, dots between groups.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from tyro.conf import Positional

from mpdvae.commands.help_text import IN_PYTHON
from mpdvae.commands.kind_options import is_chosen_by_kind
from mpdvae.experiments.fields import Config


@dataclass(frozen=True)
class Value:
    """The value of an option or a positional argument: fixed choices, files, or free text without completions."""

    choices: tuple[str, ...] = ()
    files: bool = False
    repeats: bool = False
    help: str = ""


@dataclass(frozen=True)
class Offers:
    """Completions of one command."""

    summary: str
    options: Mapping[str, Value]
    """Options that take a value."""
    flags: Mapping[str, str]
    """Options without a value, with their help."""
    positions: tuple[Value, ...]
    """Positional arguments, in order; the last one may repeat."""


def offers(command: Callable[..., None], known: Mapping[str, Value]) -> Offers:
    """Returns the completions of a command.

    `known` gives, by parameter name, the values of parameters whose type does not determine them.
    """
    doc = inspect.getdoc(command) or ""
    helps = dict(re.findall(r"^    (\w+): (.+?)[.:;]?$", doc, flags=re.MULTILINE))
    options, flags, positions = {}, {"--help": "show the help of this command"}, []
    for name, annotation in get_type_hints(command, include_extras=True).items():
        if name == "return":
            continue
        about = helps.get(name, "")
        if isinstance(annotation, type) and issubclass(annotation, Config):
            of_fields, flags_of_fields = field_offers(annotation, known)
            options, flags = options | of_fields, flags | flags_of_fields
        elif annotation is bool:
            flags[_option(name)] = about
        elif _is_positional(annotation):
            positions.append(_value(annotation, known.get(name), about))
        else:
            options[_option(name)] = _value(annotation, known.get(name), about)
    return Offers(doc.split("\n")[0].rstrip("."), options, flags, tuple(positions))


def field_offers(
    config: type[Config], known: Mapping[str, Value], prefix: str = ""
) -> tuple[dict[str, Value], dict[str, str]]:
    """Returns options and flags of all fields of `config`; for a union, those of every member."""
    options: dict[str, Value] = {}
    flags: dict[str, str] = {}
    for name, field in config.model_fields.items():
        if name in IN_PYTHON.get(config, ()):
            continue
        path = f"{prefix}{name.replace('_', '-')}"
        leaves = list(_leaves(field.annotation))
        members = [leaf for leaf in leaves if isinstance(leaf, type) and issubclass(leaf, Config)]
        for member in members:
            of_member, flags_of_member = field_offers(member, known, f"{path}.")
            options, flags = options | of_member, flags | flags_of_member
        if is_chosen_by_kind(name, field):
            options[f"--{path}.kind"] = Value(tuple(member.model_fields["kind"].default for member in members))
        elif bool in leaves:
            flags |= {f"--{path}": "", f"--{prefix}no-{name.replace('_', '-')}": ""}
        elif not members and name != "kind":
            options[f"--{path}"] = _value(field.annotation, known.get(path), "")
    return options, flags


def _value(annotation: Any, known: Value | None, about: str) -> Value:
    leaves = list(_leaves(annotation))
    listed = tuple(str(choice) for leaf in leaves if get_origin(leaf) is Literal for choice in get_args(leaf))
    return replace(known or Value(listed, files=Path in leaves), repeats=Ellipsis in leaves, help=about)


def _leaves(annotation: Any) -> Iterator[Any]:
    """Yields the elementary types of an annotation: the members of its unions and tuples."""
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        yield from _leaves(parts[0])
    elif get_origin(annotation) is Literal or not parts:
        yield from () if annotation is NoneType else (annotation,)
    else:
        for part in parts:
            yield from _leaves(part)


def _is_positional(annotation: Any) -> bool:
    marks = (Positional, *get_args(Positional[int])[1:])
    return get_origin(annotation) is Annotated and any(mark in marks for mark in get_args(annotation)[1:])


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
