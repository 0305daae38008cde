"""Classes by name: new images get the numbers that their classes had in training, whatever other classes are beside them."""

import numpy as np
import pytest
import torch
from PIL import Image

from mpdvae.data.class_names import Classes, as_trained
from mpdvae.data.given_dataset import DatasetSource
from mpdvae.data.image_folder import read_image_folder
from mpdvae.data.images import Images
from mpdvae.data.npz import read_npz
from mpdvae.data.own import from_dataset, load_own
from mpdvae.data.stored_images import StoredImages
from mpdvae.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 4, 4), dtype=np.uint8)
KNOWN = ("cat", "dog", "owl")
CASES = {
    "all": ("cat dog owl", [2, 0, 1], KNOWN, [2, 0, 1]),
    "one": ("owl", [0, 0], KNOWN, [2, 2]),
    "two": ("dog owl", [1, 0], KNOWN, [2, 1]),
    "declared in another order": ("owl cat dog", [0, 1, 2], KNOWN, [2, 0, 1]),
    "declared, but without images": ("ant owl", [1], KNOWN, [2]),
    "numbers": ("", [1, 2], KNOWN, [1, 2]),
    "numbers by name": ("2", [0], (), [2]),
    "numbers by name, not recorded": ("2", [0], None, [2]),
    "all, not recorded": ("ape bee cow", [0, 2], None, [0, 2]),
    "numbers, not recorded": ("", [1, 2], None, [1, 2]),
    "another normal form": ("cafe\u0301 n\u00e9e", [0, 1], ("caf\u00e9", "ne\u0301e"), [0, 1]),
    "both normal forms": ("e\u0301 \u00e9", [0, 1], ("\u00e9", "e\u0301"), [1, 0]),
    "two of one name": ("cat dog cat", [0, 1, 2], ("cat", "dog", "cat"), [0, 1, 2]),
}


def classes(names, labels):
    return Classes(torch.tensor(labels), tuple(names.split()))


@pytest.mark.parametrize(("names", "labels", "known", "expected"), CASES.values(), ids=CASES)
def test_a_class_keeps_the_number_that_it_had_in_training(names, labels, known, expected):
    assert as_trained(classes(names, labels), known, 3).labels.tolist() == expected


@pytest.mark.parametrize("labels", [[0], [0, 1], [0, 1, 1, 2]])
@pytest.mark.parametrize("known", [KNOWN, None])
def test_the_name_of_a_number_is_that_of_the_class(labels, known):
    own = classes("cat dog owl", labels)
    found = as_trained(own, known, 3)
    assert [found.names[label] for label in found.labels] == [own.names[label] for label in own.labels]


@pytest.mark.parametrize(
    ("names", "known", "message"),
    [
        ("ape owl", KNOWN, r"conditioned on \(cat, dog and owl\), got ape; rename the class"),
        ("ape bee cow", (), r"0, 1 and 2; names of its classes are not recorded\), got ape"),
        ("owl", None, r"0, 1 and 2; names of its classes are not recorded\), got owl"),
        ("3", (), "got 3; rename the class"),
        ("\x1b[31m", KNOWN, r"got \\x1b\[31m; rename"),
    ],
)
def test_a_class_that_the_model_does_not_know_is_refused(names, known, message):
    with pytest.raises(InputError, match=message):
        as_trained(classes(names, [0]), known, 3)


def test_a_message_lists_few_of_many_names():
    with pytest.raises(InputError, match=r"c00, c01, .*, c09 and 190 more\), got ape"):
        as_trained(classes("ape", [0]), tuple(f"c{i:02}" for i in range(200)), 200)


def test_a_model_that_is_told_no_class_numbers_others_after_those_of_training():
    found = as_trained(classes("ape dog", [0, 1, 0]), KNOWN, 0)
    assert found.labels.tolist() == [3, 1, 3]
    assert found.names == (*KNOWN, "ape")
    own = as_trained(classes("ape dog", [0, 1]), None, 0)
    assert own.labels.tolist() == [0, 1]
    assert own.names == ("ape", "dog")
    assert as_trained(classes("", [0, 1]), KNOWN, 0).names == ()  # of another data set
    assert as_trained(Classes(None), KNOWN, 3) == (None, ())


class Named:
    """A data set as torchvision has them: numbers, with the names of all in `classes`."""

    def __init__(self, labels, names):
        self.labels, self.classes = labels, names

    def __len__(self):
        return len(PIXELS)

    def __getitem__(self, index):
        return PIXELS[index], self.labels[index % len(self.labels)]


class ClassLabel:
    def __init__(self, names):
        self.names = names


class OfHub(Named):
    """A data set as Hugging Face has them: dictionaries, with the names in a feature."""

    def __init__(self, labels, names):
        super().__init__(labels, None)
        self.features = {"image": object(), "kind": ClassLabel(names)}

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return {"image": image, "kind": label}


def folder(path):
    for i, pixels in enumerate(PIXELS):
        (path / KNOWN[i % 3]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path / KNOWN[i % 3] / f"{i:02}.png")
    return path


def archive(path):
    np.savez(path.with_suffix(".npz"), x=PIXELS, y=np.array(KNOWN)[np.arange(12) % 3])
    return path.with_suffix(".npz")


SOURCES = {
    "folder": lambda path: load_own(folder(path), None, 0),
    "archive": lambda path: load_own(archive(path), None, 0),
    "text in pairs": lambda path: from_dataset(Named(KNOWN, None)),
    "torchvision": lambda path: from_dataset(Named(range(3), list(KNOWN))),
    "hugging face": lambda path: from_dataset(OfHub(range(3), list(KNOWN))),
}


@pytest.mark.parametrize("made", SOURCES.values(), ids=SOURCES)
def test_images_of_every_source_keep_the_names_of_their_classes(made, tmp_path, monkeypatch):
    for limit in (1 << 28, 0):
        monkeypatch.setattr("mpdvae.data.own.IN_MEMORY", limit)
        splits = made(tmp_path / "own")
        assert isinstance(splits.train, StoredImages) is (limit == 0 and "npz" not in splits.title)
        for images in (splits.train, splits.test, splits.to("cpu").train, splits.train.take(torch.tensor([0, 1]))):
            assert images.class_names == splits.class_names == KNOWN


def test_names_are_those_of_all_parts_of_an_archive(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=PIXELS, x_test=PIXELS[:2], y_train=["owl"] * 12, y_test=["cat", "dog"])
    parts = read_npz(tmp_path / "x.npz")
    assert {part: images.class_names for part, images in parts.items()} == dict.fromkeys(("train", "test"), KNOWN)
    assert read_image_folder(folder(tmp_path / "own")).class_names == KNOWN


@pytest.mark.parametrize(
    ("labels", "names"),
    [([0, 3], KNOWN), ([-1, 0], KNOWN), ([0, 1], [1, 2]), ([0, 1], "ab"), ([0, 1], None), ([0, 1], lambda: KNOWN)],
)
def test_numbers_that_a_data_set_does_not_name_have_no_names(labels, names):
    assert DatasetSource(Named(labels, names)).class_names == ()


def test_names_that_are_not_utf8_are_written_out(tmp_path):
    splits = from_dataset(Named(["a\udcff", "b"], None))
    assert splits.class_names == ("a\\udcff", "b")


def test_images_of_classes_without_names_have_none():
    assert Images(torch.zeros(1, 1, 2, 2, dtype=torch.uint8)).class_names == ()
    assert from_dataset(Named([4, 5], None)).class_names == ()
