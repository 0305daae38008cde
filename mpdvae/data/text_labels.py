"""Labels that a caller gives as text: `labels="owl"`, `--label owl`, a column of a table.

Text says what a class is called. A numeral that no class is called is the number of one: of the classes cat, dog and owl,
"2" is the owl. Where a class is called by a numeral, as classes 3 and 7 are, numerals are names only, since "1" could be
meant either way.
"""

import re

import numpy as np

from mpdvae.data.class_names import SHOWN, ClassNames, in_words, numbers_by_name
from mpdvae.data.labels import column_of
from mpdvae.errors import InputError, listed, meant
from mpdvae.system.untrusted_files import in_short
from mpdvae.system.untrusted_text import encodable

NUMERAL = re.compile("-?[0-9]{1,18}")
"""A number that a tensor of integers holds."""


def as_numbers(labels: object, known: ClassNames, told: int) -> np.ndarray:
    """Returns labels as an array of numbers; what are no labels, as an array that holds none.

    Arguments:
        labels: one label, or several in a form of `mpdvae.data.labels`.
        known: names of the model's classes, in the order of their numbers; empty: they have none, or these are not known.
        told: number of classes that the model is conditioned on.

    Raises:
        InputError: for text that denotes no class, or several, for text among numbers, and for labels that are missing.
    """
    if isinstance(labels, bool):  # of all images: a switch rather than a class
        return np.asarray(labels)
    column = column_of(labels, "labels")
    if column.dtype.kind != "U":
        return column
    texts = column.ravel().tolist()
    number = {text: _number(encodable(text), known, told) for text in set(texts)}
    return np.array([number[text] for text in texts], np.int64).reshape(column.shape)


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
