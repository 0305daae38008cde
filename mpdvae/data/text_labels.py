"""Labels that a caller gives as text: `labels="owl"`, `--label owl`, a column of a table.

Text says what a class is called. A numeral that no class is called is the number of one: of the classes cat, dog and owl,
"2" is the owl. Where a class is called by a numeral, as classes 3 and 7 are, numerals are names only, since "1" could be
meant either way.
"""

import re

import numpy as np
from torch import Tensor

from mpdvae.data.class_names import SHOWN, ClassNames, in_words, numbers_by_name
from mpdvae.errors import InputError, listed, meant
from mpdvae.system.untrusted_files import in_short
from mpdvae.system.untrusted_text import encodable

NUMERAL = re.compile("-?[0-9]{1,18}")
"""A number that a tensor of integers holds."""


def as_numbers(labels: object, known: ClassNames, told: int) -> object:
    """Returns labels that are text as an array of numbers; others as they are, or as a list, for torch to make a tensor of.

    Arguments:
        labels: one label, or several in a sequence, an array or a column of a table.
        known: names of the model's classes, in the order of their numbers; empty: they have none, or these are not known.
        told: number of classes that the model is conditioned on.

    Raises:
        InputError: for text that denotes no class, or several, and for text among numbers.
    """
    if isinstance(labels, Tensor) or (isinstance(labels, np.ndarray) and labels.dtype.kind in "biufc"):
        return labels
    try:
        column = _objects(labels)
    except ValueError:  # rows of different lengths
        return labels
    others = [label for label in column.flat if not isinstance(label, str)]
    if len(others) == column.size:
        return column.tolist()
    if others:
        raise InputError(
            f"labels: expected a name for each image, or a number for each, got {in_short(repr(others[0]), 60)} among names; "
            "give one or the other.",
            topic="conditional",
        )
    number = {text: _number(encodable(text), known, told) for text in set(column.flat)}
    return np.array([number[text] for text in column.flat]).reshape(column.shape)


def _objects(labels: object) -> np.ndarray:
    """Returns labels as an array of Python's objects."""
    if not hasattr(labels, "__array__"):
        return np.asarray(labels, object)
    array = np.asarray(labels)
    return (np.char.decode(array, "latin-1") if array.dtype.kind == "S" else array).astype(object)


def _number(text: str, known: ClassNames, told: int) -> int:
    places = numbers_by_name(known[:told])(text)
    if len(places) > 1:
        raise InputError(
            f"labels: expected the name of one class, got {in_short(repr(text), 60)}, the name of classes "
            f"{listed([str(place) for place in places], SHOWN)}; give the number.",
            topic="conditional",
        )
    if places:
        return places[0]
    numbers_count = not any(NUMERAL.fullmatch(name) for name in known)
    if numbers_count and NUMERAL.fullmatch(text) and (not known or 0 <= int(text) < told):
        return int(text)
    advice = "give one of these, or its number." if numbers_count and known else "give one of these."
    advice = meant(text, [in_short(name, 60) for name in known]) or advice
    raise InputError(
        f"labels: expected classes that the model was conditioned on ({in_words(known, told)}), got "
        f"{in_short(repr(text), 60)}; {advice}",
        topic="conditional",
    )
