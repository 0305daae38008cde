"""The options that a command has, and those that were probably meant by a name it does not have.

The names are read from the signature of a command, and those of `mpdvae train RECIPE` from the experiment itself, whose kinds
of parts decide which options there are. A name is compared as people type it: without dots and group (`--learning-rate`), as
initials (`--lr`), as a beginning (`--batch`), as a part (`--rate`), with more (`--output`) or with a slip (`--stpes`). Only
the best kind of agreement that any option reaches is suggested. Of an option that other kinds of a part have, these kinds are
named.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, get_args

from mpdvae.commands.help_text import ALL, IN_PYTHON
from mpdvae.commands.kind_options import is_chosen_by_kind
from mpdvae.commands.offers import field_offers, offers
from mpdvae.errors import listed
from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.fields import Config
from mpdvae.experiments.own_part_configs import DECLARED, OwnPart

MOST = 3
"""Maximum number of suggestions."""
LEAST_ALIKE = 0.7
"""Similarity of two names, in [0, 1], below which one is not taken for a slip of the other."""
AS_ALIKE = 0.1
"""Similarities that differ by no more than this are equally good."""
LONGEST = 200
"""Number of characters of a name that are compared."""


def option_names(command: Callable[..., Any]) -> tuple[str, ...]:
    """Returns the options of a command, such as `--out`.

    An argument whose default is an experiment stands for the options of all its fields.
    """
    offered = offers(command, {})
    names = [*offered.options, *offered.flags]
    for parameter in inspect.signature(command).parameters.values():
        if isinstance(parameter.default, bool):
            names.append(f"--no-{parameter.name.replace('_', '-')}")
        if isinstance(parameter.default, Config):
            names.remove(f"--{parameter.name}")
            names += [*_of_fields(parameter.default), ALL]
    return tuple(names)


def unknown_option(arguments: Sequence[str], known: Sequence[str]) -> str:
    """Returns what is wrong with the first option in `arguments` that is not `known`, and which may be meant; empty if all
    are known."""
    for word in arguments:
        name = word.partition("=")[0]
        if not _is_option(name) or name.replace("_", "-") in (*known, "-h"):
            continue
        if ALL in known and (kinds := list(dict.fromkeys(_kinds_with(name.replace("_", "-"), Experiment)))):
            return f"unknown option {name}: expected together with {listed(kinds, last='or')}"
        near = nearest(name, known)
        return f"unknown option {name}" + (f": did you mean {listed(near, last='or')}?" if near else "")
    return ""


def nearest(given: str, known: Sequence[str]) -> list[str]:
    """Returns the options that may be meant by `given`, the likeliest first; empty if there are none."""
    typed = given[:LONGEST].lstrip("-").replace("_", "-").lower()
    agreements = {name: agreement for name in known if (agreement := _agreement(typed, name[2:])) is not None}
    best = max(agreements.values(), default=0.0)
    least = best if best > 1 else best - AS_ALIKE
    near = [name for name, agreement in agreements.items() if agreement >= least]
    return sorted(near, key=lambda name: (-agreements[name], name.count("."), len(name)))[:MOST]


def _agreement(typed: str, name: str) -> float | None:
    """Returns how well two names agree, None for not at all: above 1 for a rule, else their similarity as texts."""
    field, last = name.rpartition(".")[2], typed.rpartition(".")[2]
    words = field.split("-")  # a single letter begins only options without a group
    rules = {
        5.0: name.endswith(f".{typed}") or field == last,
        4.0: len(words) > 1 and "".join(word[:1] for word in words) == last,
        3.0: (name.startswith(typed) or field.startswith(last)) and (len(typed) > 1 or field == name),
        2.0: last in words,
        1.5: len(field) > 2 and last.startswith(field),
    }
    for agreement, agrees in rules.items():
        if agrees:
            return agreement
    alike = max(SequenceMatcher(None, *pair, autojunk=False).ratio() for pair in ((typed, name), (last, field)))
    return alike if alike >= LEAST_ALIKE else None


def _is_option(word: str) -> bool:
    """Returns whether a word is meant as an option: neither a value nor a negative number."""
    return bool(re.match(r"--?[A-Za-z]", word)) and not re.fullmatch(r"-(inf|infinity|nan)", word.lower())


def _of_fields(config: Config, prefix: str = "") -> Iterator[str]:
    """Yields the options of all fields, for the parts that `config` has."""
    for name, field in type(config).model_fields.items():
        declared = isinstance(config, OwnPart) and name in DECLARED
        if declared or name in IN_PYTHON.get(type(config), ()):
            continue
        value, shown = getattr(config, name), name.replace("_", "-")
        if isinstance(value, Config):
            yield from _of_fields(value, f"{prefix}{shown}.")
            continue
        if value is None and _holds_part(field.annotation):
            continue
        yield f"--{prefix}{shown}"
        if field.annotation is bool:
            yield f"--{prefix}no-{shown}"


def _holds_part(annotation: Any) -> bool:
    """Returns whether a field may hold a part, whose fields are options; without one it has no option."""
    return any(isinstance(member, type) and issubclass(member, Config) for member in get_args(annotation))


def _kinds_with(option: str, config: type[Config], prefix: str = "") -> Iterator[str]:
    """Yields the choices of kinds, such as `--prior.kind vamp`, with which there is an option."""
    for name, field in config.model_fields.items():
        path = f"{prefix}{name.replace('_', '-')}"
        for member in get_args(field.annotation) or (field.annotation,):
            if not (option.startswith(f"--{path}.") and isinstance(member, type) and issubclass(member, Config)):
                continue
            inner = list(_kinds_with(option, member, f"{path}."))
            taken, flags = field_offers(member, {}, f"{path}.")
            if inner or not is_chosen_by_kind(name, field):
                yield from inner
            elif option in taken or option in flags:
                yield f"--{path}.kind {member.model_fields['kind'].default}"
