"""Labels as text: every form of the same labels is the same numbers, and what denotes no class is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpdvae.data.conditions import checked_labels
from mpdvae.data.text_labels import as_numbers
from mpdvae.errors import InputError

PETS = ("cat", "dog", "owl")
FORMS = {
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "objects": lambda names: np.array(names, object),
    "bytes": lambda names: np.array([name.encode() for name in names]),
    "series": lambda names: pytest.importorskip("pandas").Series(names, index=range(5, 5 + len(names))),
    "categorical": lambda names: pytest.importorskip("pandas").Categorical(names),
}
NUMBERS = {
    "list": list,
    "array": np.array,
    "bytes": lambda numbers: np.array(numbers, np.uint8),
    "tensor": torch.tensor,
    "series": lambda numbers: pytest.importorskip("pandas").Series(numbers, index=range(5, 5 + len(numbers))),
    "nullable": lambda numbers: pytest.importorskip("pandas").Series(numbers, dtype="Int64"),
    "categorical": lambda numbers: pytest.importorskip("pandas").Categorical(numbers),
}
DENOTED = {
    "a name": ("owl", PETS, 2),
    "a number": ("1", PETS, 1),
    "a number of classes without names": ("2", (), 2),
    "a number written at length": ("02", (), 2),
    "a name that is a numeral": ("7", ("3", "7"), 1),
    "a name before a number": ("0", ("2", "1", "0"), 2),
    "a class beyond the names": ("3", PETS, 3),
    "a name in another normal form": ("cafe\u0301", ("ant", "caf\u00e9"), 1),
    "a name in either normal form": ("e\u0301", ("\u00e9", "e\u0301"), 1),
    "a name that is not UTF-8": ("b\udcff", ("a", "b\\udcff"), 1),
}
DENOTES_NONE = {
    "a typing error": ("owll", PETS, r"\(cat, dog and owl\), got 'owll'; did you mean 'owl'\?"),
    "another case": ("Dog", PETS, r"got 'Dog'; did you mean 'dog'\?"),
    "another name": ("zebra", PETS, "got 'zebra'; give one of these, or its number"),
    "a number beyond": ("4", PETS, r"got '4'; give one of these, or its number"),
    "a negative number": ("-1", PETS, "got '-1'; give one of these, or its number"),
    "a number where names are numerals": ("1", ("3", "7"), r"\(3 and 7\), got '1'; give one of these\."),
    "a name of classes without names": (
        "owl",
        (),
        r"\(0, 1, 2 and 3; names .* not recorded\), got 'owl'; give one of these\.",
    ),
    "a name of two classes": (
        "crane",
        ("crane", "dog", "crane"),
        "got 'crane', the name of classes 0 and 2; give the number",
    ),
    "an escape sequence": ("\x1b[31m", PETS, r"got '\\x1b\[31m'; give"),
    "nothing": ("", PETS, "got ''; give one of these"),
    "a long numeral": ("9" * 5000, (), "got '9{59}; give one of these"),
}


def numbers(labels, names, classes, count):
    """The numbers that a model with these names is told."""
    return checked_labels(as_numbers(labels, names, classes), classes, count)


def table(cases):
    return pytest.mark.parametrize("case", cases.values(), ids=cases)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@given(labels=st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_names_in_every_form_are_the_numbers_of_their_classes(form, labels):
    given_names = form([PETS[label] for label in labels])
    assert numbers(given_names, PETS, 3, len(labels)).tolist() == labels


@pytest.mark.parametrize("form", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("names", [PETS, ("2", "1", "0"), ()])
def test_numbers_are_numbers_whatever_classes_are_called(form, names):
    assert numbers(form([2, 0, 1]), names, 3, 3).tolist() == [2, 0, 1]
    assert numbers(2, names, 3, 3).tolist() == [2, 2, 2]


@table(DENOTED)
def test_text_denotes_the_class_of_that_name_or_number(case):
    text, names, number = case
    assert numbers(text, names, 4, 2).tolist() == [number, number]


@table(DENOTES_NONE)
def test_text_that_denotes_no_class_is_refused(case):
    text, names, message = case
    with pytest.raises(InputError, match=message):
        numbers(text, names, 4, 2)


@given(st.lists(st.text(max_size=3), min_size=1, max_size=6, unique=True))
def test_a_class_is_always_denoted_by_its_name(names):
    assert as_numbers(names, tuple(names), len(names)).tolist() == [*range(len(names))]


@pytest.mark.parametrize("labels", [["cat", 1], ["cat", 1.5], np.array(["cat", 0], object)])
def test_text_among_others_is_refused(labels):
    with pytest.raises(
        InputError, match=r"labels: expected a name for each image, or a number for each, got .* among names"
    ):
        numbers(labels, PETS, 3, 2)


@pytest.mark.parametrize("labels", [["cat"] * 3, [["cat", "dog"]], [], [["cat"], ["dog", "owl"]], None, {}])
def test_names_of_another_number_of_images_are_refused(labels):
    with pytest.raises(InputError, match="labels: expected the number of a class, or 2 of them"):
        numbers(labels, PETS, 3, 2)


def test_a_message_shows_few_of_many_names_and_short_ones():
    with pytest.raises(InputError) as told:
        numbers("ape", tuple(f"c{i:02}" + "x" * 900 for i in range(200)), 200, 1)
    assert "and 190 more" in str(told.value)
    assert len(str(told.value)) < 1_000
