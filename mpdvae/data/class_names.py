"""Classes of new images by name, numbered as those of the training images were.

A model knows its classes by number. Classes with names - folders, text - are numbered in the order of the names that occur,
and new images have fewer of them, or others. Where both have names, the name decides, not its place among the names beside
it. What is known of the names of a model's classes is one of three:

    names    in the order of their numbers
    ()       the classes of the training images had numbers only; a class is called by its number: "7"
    None     not recorded, as of a model that was not trained here, or by an earlier version

Unicode writes some characters in two ways: é is one code point, or e and an accent (normal forms NFC and NFD,
https://unicode.org/reports/tr15). Names of folders may have either, whatever is typed. A name is that of a class if both are
the same to the code point, or else, if no class has it, in one normal form.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from mpdvae.errors import InputError, listed
from mpdvae.system.untrusted_files import in_short

ClassNames = tuple[str, ...]
SHOWN = 10
"""Names in a message."""


class Classes(NamedTuple):
    """The classes of some images."""

    labels: Int64[Tensor, " n"] | None
    """None: the images have no classes."""
    names: ClassNames = ()
    """Names of the classes, in the order of their numbers; empty: they have none."""


def as_trained(own: Classes, known: ClassNames | None, told: int) -> Classes:
    """Returns the classes of new images with the numbers that they had in training.

    Arguments:
        own: the classes as the images came with them.
        known: names of the model's classes; see the head of this file.
        told: number of classes that the model is conditioned on; 0: it is told none. Classes that it does not know then get
            the numbers after those that it knows.

    Raises:
        InputError: if the model is told the class, and does not know one that occurs.
    """
    if own.labels is None:
        return own
    if not own.names:
        return Classes(own.labels, (known or ()) if told else ())
    if told and known is None and len(own.names) == told:  # all of them: what else should they be
        return own
    if own.names == known:  # the same number for each, even where two classes have one name
        return own
    order = known or tuple(map(str, range(told)))
    if told:
        _refuse_unknown([own.names[label] for label in own.labels.unique().tolist()], order, bool(known))
    else:
        called = numbers_by_name(order)
        order += tuple(name for name in own.names if not called(name))
    called = numbers_by_name(order)
    numbers = torch.tensor([(called(name) or [-1])[-1] for name in own.names])  # -1: one that does not occur
    return Classes(numbers[own.labels], order)


def numbers_by_name(order: Sequence[str]) -> Callable[[str], Sequence[int]]:
    """Returns a function from a name to the numbers of the classes that have it, where `order` are all names."""
    same: dict[str, list[int]] = defaultdict(list)
    alike: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(order):
        same[name].append(number)
        alike[unicodedata.normalize("NFC", name)].append(number)
    return lambda name: same.get(name) or alike.get(unicodedata.normalize("NFC", name), ())


def in_words(names: ClassNames, told: int) -> str:
    """Returns what the classes of a model are called, of many the first ones; without names, their numbers."""
    shown = listed([in_short(name, 60) for name in names or map(str, range(told))], SHOWN)
    return shown if names else f"{shown}; names of its classes are not recorded"


def _refuse_unknown(occurring: list[str], order: ClassNames, named: bool) -> None:
    called = numbers_by_name(order)
    for name in occurring:
        if not called(name):
            known = in_words(order if named else (), len(order))
            raise InputError(
                f"labels: expected classes that the model was conditioned on ({known}), got {in_short(name, 60)}; "
                "rename the class, leave its images out, or give labels by number.",
                topic="conditional",
            )
