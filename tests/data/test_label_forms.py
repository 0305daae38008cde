"""Labels in every form, and everywhere that they are given: the same classes, and what is missing is refused."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from small_runs import tiny

from mpdvae.data.conditions import checked_labels
from mpdvae.data.labels import class_numbers
from mpdvae.data.own import from_dataset
from mpdvae.data.text_labels import as_numbers
from mpdvae.errors import InputError
from mpdvae.experiments.experiment import with_changes
from mpdvae.workflows.estimator_conditions import told_in_fit, told_later

NUMBERS = [2, 0, 1, 2, 1, 0, 0, 1, 2, 2, 0, 1]
N = len(NUMBERS)
PETS = np.array(["cat", "dog", "owl"])
X = load_digits().images[:N] / 16
NAN, NOTHING = float("nan"), None


def series(values, **kind):
    return pytest.importorskip("pandas").Series(values, **kind)


def of_numbers(make):
    return lambda: make(np.array(NUMBERS))


def of_names(make):
    return lambda: make(PETS[NUMBERS])


FORMS = {
    "list": of_numbers(list),
    "column": of_numbers(lambda y: y[:, None]),
    "list of rows": of_numbers(lambda y: y[:, None].tolist()),
    "tensor": of_numbers(torch.from_numpy),
    "tensors": of_numbers(lambda y: list(torch.from_numpy(y))),
    "floats": of_numbers(lambda y: y.astype(np.float32)),
    "column of floats": of_numbers(lambda y: y[:, None].astype(float)),
    "list of floats": of_numbers(lambda y: y.astype(float).tolist()),
    "tensor of floats": of_numbers(lambda y: torch.from_numpy(y).float()),
    "objects": of_numbers(lambda y: y.astype(object)),
    "series": of_numbers(series),
    "nullable": of_numbers(lambda y: series(y, dtype="Int64")),
    "one-hot": of_numbers(lambda y: np.eye(3)[y]),
    "one-hot integers": of_numbers(lambda y: np.eye(3, dtype=int)[y]),
    "one-hot booleans": of_numbers(lambda y: np.eye(3, dtype=bool)[y]),
    "one-hot tensor": of_numbers(lambda y: torch.eye(3)[torch.from_numpy(y)]),
    "one-hot lists": of_numbers(lambda y: np.eye(3)[y].tolist()),
    "names": of_names(list),
    "array of names": of_names(np.asarray),
    "objects of names": of_names(lambda names: names.astype(object)),
    "bytes": of_names(lambda names: np.char.encode(names)),
    "column of names": of_names(lambda names: names[:, None]),
    "series of names": of_names(series),
}


class Pairs:
    """A data set of another library."""

    def __init__(self, labels) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int):
        return X[row], self.labels[row]


def in_archive(labels):
    return class_numbers({"y": labels})[0].labels


def in_dataset(labels):
    data = from_dataset(Pairs(labels), split_seed=0)
    names = data.class_names or tuple(map(str, range(3)))
    found = {
        image.numpy().tobytes(): names[label]
        for part in (data.train, data.validation, data.test)
        for image, label in zip(part.pixels, part.labels, strict=True)
    }
    order = {name: number for number, name in enumerate(names)}
    return [order[found[np.round(x[None] * 255).astype(np.uint8).tobytes()]] for x in X]


def in_model(labels):
    return checked_labels(as_numbers(labels, tuple(PETS), 3), 3, N)


def in_fit(labels):
    return told_in_fit(labels, None, N).known.labels


def later(labels):
    told = told_in_fit(labels, None, N)
    return told_later(told.condition, told.classes, labels, None, N).labels


PLACES = {place.__name__: place for place in (in_archive, in_dataset, in_model, in_fit, later)}


def table(cases):
    return pytest.mark.parametrize("case", cases.values(), ids=cases)


@table(FORMS)
@pytest.mark.parametrize("place", PLACES)
def test_every_form_is_the_same_classes_everywhere(case, place):
    labels = case()
    if place == "in_dataset" and hasattr(labels, "iloc"):
        labels = labels.array
    assert [int(label) for label in PLACES[place](labels)] == NUMBERS


@pytest.mark.parametrize("place", PLACES)
def test_booleans_are_zero_and_one_everywhere(place):
    labels = [number > 0 for number in NUMBERS]
    assert [int(label) for label in PLACES[place](labels)] == [int(label) for label in labels]


MISSING = {
    "NaN among names": lambda: ["a", NAN, "b", NOTHING] * 3,
    "None among names": lambda: ["a", NOTHING, "b", NOTHING] * 3,
    "None first": lambda: [NOTHING, "a", NOTHING, "b"] * 3,
    "NaN among numbers": lambda: [1, NAN, 0, NAN] * 3,
    "an array": lambda: np.array([1, NAN, 0, NAN] * 3),
    "a tensor": lambda: torch.tensor([1, NAN, 0, NAN] * 3),
    "a column": lambda: np.array([1, NAN, 0, NAN] * 3)[:, None],
    "masked": lambda: np.ma.masked_array([1, 0] * 6, [False, True] * 6),
    "series": lambda: series(["a", NAN, "b", NOTHING] * 3).tolist(),
    "text of pandas": lambda: series(["a", NOTHING, "b", NOTHING] * 3, dtype="string").array,
    "numbers of pandas": lambda: series([1, NOTHING, 0, NOTHING] * 3, dtype="Int64").array,
    "a categorical": lambda: pytest.importorskip("pandas").Categorical(["a", NOTHING, "b", NOTHING] * 3),
}


@table(MISSING)
@pytest.mark.parametrize("place", PLACES)
def test_missing_labels_are_refused_and_counted_everywhere(case, place):
    message = (
        r"labels.*: expected a label for each of 12 images, got none \(None, NaN or NA\) for 6 of them, the first for image "
        r"[01]; leave these images out, or give them a class of their own\."
    )
    with pytest.raises(InputError, match=message if place != "in_archive" else message.removeprefix("labels.*")):
        PLACES[place](case())


def test_data_sets_may_have_no_labels_at_all():
    assert from_dataset(Pairs([None] * N)).train.labels is None


OTHERS = {
    "fractions": np.array(NUMBERS) / 4,
    "two ones in a row": np.ones((N, 3)),
    "no one in a row": np.zeros((N, 3)),
    "three axes": np.ones((N, 1, 1)),
    "complex numbers": np.array(NUMBERS, complex),
    "infinity": np.full(N, np.inf),
    "names among numbers": [*NUMBERS[:-1], "cat"],
    "dictionaries": [{}] * N,
}


@table(OTHERS)
@pytest.mark.parametrize("place", PLACES)
def test_what_are_no_labels_is_refused_in_one_sentence_everywhere(case, place):
    with pytest.raises(InputError) as error:
        PLACES[place](case)
    assert "\n" not in str(error.value)


def test_models_take_labels_in_every_form():
    vae = with_changes(tiny("vae-digits-smoke"), data__condition_classes=3).build((1, 8, 8))
    expected = vae.preprocess(X > 0.5, labels=NUMBERS)
    one_hot = np.eye(3)[NUMBERS]
    for labels in (one_hot, torch.from_numpy(one_hot), np.array(NUMBERS)[:, None], np.array(NUMBERS, float)):
        assert torch.equal(vae.preprocess(X > 0.5, labels=labels), expected)
        assert vae.sample(N, labels=labels)[:, 1, 0, 0].tolist() == NUMBERS
        assert vae.decode(torch.zeros(N, vae.latent_dim), labels=labels)[:, 1, 0, 0].tolist() == NUMBERS
