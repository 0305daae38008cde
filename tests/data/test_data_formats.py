"""MATLAB files and pickles: read as others write them, and never trusted."""

import os
import pickle
import random
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from data_files import (
    BLACK_AND_WHITE,
    amat,
    chardata,
    cifar_pickle,
    forbidden_pickle,
    mat,
    png,
    python2_array,
    refused,
    silhouettes,
    tarred,
    zipped,
)

from mpdvae.data.caltech101 import read_silhouettes
from mpdvae.data.cifar10 import batch_from_pickle, read_members
from mpdvae.data.frey_faces import faces_from_mat, faces_from_npz, faces_from_pickle
from mpdvae.data.mat import read_mat
from mpdvae.data.omniglot import read_drawings
from mpdvae.data.omniglot_burda import read_chardata
from mpdvae.data.static_mnist import read_amat
from mpdvae.data.unpickle import unpickle_arrays
from mpdvae.errors import InputError

RNG = np.random.default_rng(0)
FACES = RNG.integers(0, 256, (4, 28, 20)).astype(np.uint8)


# MATLAB files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"format": "4"}, {}, {"do_compression": True}], ids=["version 4", "version 5", "packed"]
)
@pytest.mark.parametrize("number", ["u1", "i1", "u2", "i2", "i4", "f4", "f8", "u4", "i8", "u8", "bool"])
def test_matlab_files_are_read_as_scipy_writes_them(tmp_path: Path, options: dict, number: str) -> None:
    arrays = {"wide": RNG.integers(0, 2, (2, 7)).astype(number), "one": np.ones((1, 1), number)}
    arrays |= {"large": RNG.integers(0, 99, (50, 60)).astype(number), "none": np.zeros((0, 3), number)}
    cells = {} if options.get("format") == "4" else {"cells": np.array([["a", 1]], object), "s": {"field": 1}}
    scipy.io.savemat(tmp_path / "x.mat", {"text": "abc", **cells, **arrays}, **options)
    read = read_mat(tmp_path / "x.mat", {"wide": (2, 7), "one": (1, None), "large": (None, 60), "none": (None, 3)})
    stored = scipy.io.loadmat(tmp_path / "x.mat", variable_names=list(arrays))
    for name, array in arrays.items():
        assert np.array_equal(read[name], array)
        assert np.array_equal(read[name], stored[name])
    with pytest.raises(InputError, match=r"text in .* is not a numeric array"):
        read_mat(tmp_path / "x.mat", {"text": (1, None)})


def test_matlab_files_of_the_other_order_of_bytes(tmp_path: Path) -> None:
    def element(kind: int, content: bytes) -> bytes:
        return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)

    parts = element(6, struct.pack(">II", 6, 0)) + element(5, struct.pack(">ii", 2, 3)) + element(1, b"x")
    matrix = element(14, parts + element(3, struct.pack(">6h", *range(-3, 3))))
    (tmp_path / "x.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI" + matrix)
    assert read_mat(tmp_path / "x.mat", {"x": (2, 3)})["x"].tolist() == [[-3, -1, 1], [-2, 0, 2]]


def test_silhouettes_are_upright_with_object_one(tmp_path: Path) -> None:
    arrays = read_silhouettes(mat(tmp_path / "s.mat", **silhouettes()))
    for count, part in enumerate(("train", "val", "test"), start=1):
        assert np.array_equal(arrays[part], BLACK_AND_WHITE[:count])
        assert arrays[f"{part} labels"].tolist() == list(range(1, count + 1))
        assert arrays[part].dtype == arrays[f"{part} labels"].dtype == np.uint8


def test_chardata_in_both_orientations(tmp_path: Path) -> None:
    path = mat(tmp_path / "chardata.mat", **chardata())
    expected = BLACK_AND_WHITE[:2] * np.array([255, 51], np.uint8)[:, None, None]
    upright, lying = read_chardata(path, lying=False), read_chardata(path, lying=True)
    assert np.array_equal(upright["train"], expected)
    assert np.array_equal(lying["train"], expected.transpose(0, 2, 1))
    released = chardata()["data"].T.reshape((-1, 1, 28, 28))  # what the paper's code does
    assert np.array_equal(lying["train"], np.round(255 * released[:, 0]).astype(np.uint8))
    for arrays in (upright, lying):
        assert arrays["train labels"].tolist() == [4, 1]
        assert arrays["test labels"].tolist() == [1]
        assert np.array_equal(arrays["test"], arrays["train"][1:])


def with_value(arrays: dict[str, np.ndarray], name: str, value: float) -> dict[str, np.ndarray]:
    changed = arrays[name].astype(float)
    changed[0, 0] = value
    return arrays | {name: changed}


def without(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key: array for key, array in arrays.items() if key != name}


read_lying = partial(read_chardata, lying=True)

MAT_FAULTS: dict[str, tuple[Callable[[Path], object], dict[str, np.ndarray], str]] = {
    "no key": (read_silhouettes, without(silhouettes(), "val_data"), "holds no val_data: found .*'test_data'"),
    "size": (
        read_silhouettes,
        silhouettes() | {"val_data": np.ones((2, 9))},
        "val_data in .* is 2 x 9, expected any x 784",
    ),
    "NaN": (
        read_silhouettes,
        with_value(silhouettes(), "test_data", np.nan),
        "test_data in .* has NaN values, 1 of 2352",
    ),
    "two": (
        read_silhouettes,
        with_value(silhouettes(), "test_data", 2),
        "values from 0 to 2: expected whole numbers 0..1",
    ),
    "half": (read_silhouettes, with_value(silhouettes(), "test_data", 0.5), "expected whole numbers 0..1"),
    "label 0": (read_silhouettes, with_value(silhouettes(), "val_labels", 0), "must be 2 numbers from 1 to 101"),
    "labels missing": (
        read_silhouettes,
        silhouettes() | {"val_labels": np.ones((3, 1))},
        "val_labels .* must be 2 numbers",
    ),
    "text": (
        read_silhouettes,
        silhouettes() | {"val_labels": np.array([["a"]])},
        "val_labels in .* is not a numeric array",
    ),
    "chardata, no key": (read_lying, without(chardata(), "testtarget"), "holds no testtarget"),
    "chardata, NaN": (
        read_lying,
        with_value(chardata(), "data", np.nan),
        "data in .* has NaN or values outside 0..1",
    ),
    "chardata, 0..255": (
        read_lying,
        with_value(chardata(), "testdata", 255),
        "testdata in .* has NaN or values outside 0..1",
    ),
    "chardata, targets": (
        read_lying,
        chardata() | {"target": np.eye(5)},
        "holds 2 images in data, but 5 in target",
    ),
    "faces, size": (faces_from_mat, {"ff": np.ones((500, 4))}, "ff in .* is 500 x 4, expected 560 x any"),
    "faces, NaN": (faces_from_mat, {"ff": np.full((560, 4), np.nan)}, "has NaN values, 2240 of 2240"),
    "cell": (faces_from_mat, {"ff": np.array([[1, "a"]] * 560, object)}, "ff in .* is not a numeric array|is 560 x 2"),
}


@pytest.mark.parametrize("fault", MAT_FAULTS)
def test_bad_matlab_files_are_refused(tmp_path: Path, fault: str) -> None:
    read, arrays, words = MAT_FAULTS[fault]
    with pytest.raises(InputError, match=words):
        read(mat(tmp_path / "bad.mat", **arrays))


def test_files_that_are_no_matlab_files_are_refused(tmp_path: Path) -> None:
    good = mat(tmp_path / "good.mat", **silhouettes()).read_bytes()
    words = r"bad\.mat cannot be read as a MATLAB file; it may be truncated"
    for content in (b"", b"<!DOCTYPE html><html></html>" * 20, good[:200], good[:150], good[: len(good) // 2]):
        refused(read_silhouettes, tmp_path / "bad.mat", content, rf"{words}|holds no ")
    with pytest.raises(InputError, match=r"cannot read .*absent\.mat: No such file"):
        read_mat(tmp_path / "absent.mat", {"x": (None, None)})


# pickles and Frey faces -----------------------------------------------------------------------------------------------


def test_faces_in_every_form(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", x=FACES)
    rows = FACES.reshape(4, 560)
    (tmp_path / "f.pkl").write_bytes(f"(l{python2_array(rows)}a.".encode("latin1"))
    (tmp_path / "new.pkl").write_bytes(pickle.dumps([rows], protocol=3))
    for faces in (
        faces_from_npz(tmp_path / "f.npz"),
        faces_from_mat(mat(tmp_path / "f.mat", ff=rows.T)),
        faces_from_pickle(tmp_path / "f.pkl"),
        faces_from_pickle(tmp_path / "new.pkl"),
    ):
        assert faces.dtype == np.uint8
        assert np.array_equal(faces, FACES)


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ([FACES.reshape(4, 560) / 255], "holds no array of bytes"),
        ([FACES[:, :27].reshape(4, 540)], "is 4 x 540: expected images of 28 x 20"),
        (["text"], "holds no array of bytes"),
        ([np.array(["a", None], object)], "holds no array of bytes|cannot be read as a pickle"),
    ],
    ids=["floats", "wrong size", "text", "objects"],
)
def test_pickles_of_other_things_are_refused(tmp_path: Path, held: object, words: str) -> None:
    refused(faces_from_pickle, tmp_path / "f.pkl", pickle.dumps(held, protocol=3), words)


def test_a_wrong_archive_of_faces_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", x=FACES[:, :, :19])
    with pytest.raises(InputError, match="is 4 x 1 x 28 x 19: expected images of 28 x 20"):
        faces_from_npz(tmp_path / "f.npz")
    np.savez(tmp_path / "f.npz", x_train=FACES, x_test=FACES)
    with pytest.raises(InputError, match="holds x_train and x_test: expected an array x"):
        faces_from_npz(tmp_path / "f.npz")
    floats = FACES / 255
    floats[1, 2, 3] = np.nan
    np.savez(tmp_path / "f.npz", x=floats)
    with pytest.raises(InputError, match="NaN pixels in 1 of 4 images"):
        faces_from_npz(tmp_path / "f.npz")


def test_nothing_in_a_pickle_is_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    payload = forbidden_pickle(made)
    words = r"(posix|nt)\.system is not allowed"
    refused(faces_from_pickle, tmp_path / "f.pkl", payload, words)
    with pytest.raises(InputError, match=words):
        batch_from_pickle(payload, "batch")
    assert not made.exists()
    pickle.loads(payload)  # of the test itself: it would have done harm
    assert made.exists()


def test_broken_pickles_are_refused(tmp_path: Path) -> None:
    good = pickle.dumps([FACES.reshape(4, 560)], protocol=3)
    huge = python2_array(FACES[:1, :1, :1]).replace("(I1\nI1\nI1\nt", "(I99999999999\nI999999\nt")
    for content in (
        b"",
        good[:50],
        b"\x80\x09",
        b"<html>",
        b"(" * 100_000,
        os.urandom(50),
        f"{huge}.".encode("latin1"),
    ):
        refused(faces_from_pickle, tmp_path / "f.pkl", content, r"f\.pkl (cannot be read as a pickle|holds no array)")


@pytest.mark.parametrize(("number", "order"), [("u1", "C"), ("i2", "F"), (">i4", "C"), ("<f4", "F"), (">f8", "F")])
def test_arrays_come_out_of_pickles_as_they_went_in(number: str, order: str) -> None:
    array = np.array(RNG.integers(0, 100, (3, 4, 5)), number, order=order)
    held = unpickle_arrays(pickle.dumps({"a": [array, (array[0], "text", 1.5)]}, protocol=3), "it")
    assert isinstance(held, dict)
    first, (second, *others) = held["a"]
    assert np.array_equal(first, array)
    assert np.array_equal(second, array[0])
    assert others == ["text", 1.5]


# damage of every kind -------------------------------------------------------------------------------------------------


def some_files(folder: Path) -> dict[str, tuple[Callable[[Path], object], bytes]]:
    """A reader and a file that it can read, for every format."""
    rows = FACES.reshape(4, 560)
    drawing = {"set/Greek/character01/0001_01.png": png(np.eye(105, dtype=np.uint8))}
    np.savez(folder / "f.npz", x=FACES)
    scipy.io.savemat(folder / "plain.mat", {"ff": rows.T})
    return {
        "silhouettes": (read_silhouettes, mat(folder / "s.mat", **silhouettes()).read_bytes()),
        "chardata": (lambda path: read_chardata(path, lying=False), mat(folder / "c.mat", **chardata()).read_bytes()),
        "mat": (faces_from_mat, (folder / "plain.mat").read_bytes()),
        "npz": (faces_from_npz, (folder / "f.npz").read_bytes()),
        "pickle": (faces_from_pickle, pickle.dumps([rows], protocol=3)),
        "old pickle": (faces_from_pickle, f"(l{python2_array(FACES[0, :1, :9])}a.".encode("latin1")),
        "batch": (lambda path: batch_from_pickle(path.read_bytes(), "it"), cifar_pickle(FACES[0, :1], [1])),
        "zip": (lambda path: read_drawings(path, "set", 1), zipped(folder / "d.zip", drawing).read_bytes()),
        "tar": (lambda path: read_members(path, ["a"]), tarred(folder / "a.tar.gz", {"a": bytes(999)}).read_bytes()),
        "amat": (read_amat, amat(BLACK_AND_WHITE[:1])),
    }


FORMATS = ["silhouettes", "chardata", "mat", "npz", "pickle", "old pickle", "batch", "zip", "tar", "amat"]


@pytest.mark.parametrize("name", FORMATS)
def test_damage_is_answered_in_words(tmp_path: Path, name: str) -> None:
    read, good = some_files(tmp_path)[name]
    chance = random.Random(0)
    refusals = 0
    for _ in range(150):
        content = bytearray(good)
        for _ in range(chance.choice([1, 1, 2, 5, 20])):
            content[chance.randrange(min(len(content), chance.choice([200, 100_000])))] = chance.randrange(256)
        if chance.random() < 0.2:
            del content[chance.randrange(len(content)) :]
        (tmp_path / "damaged").write_bytes(content)
        try:
            read(tmp_path / "damaged")  # what no reader can notice, checksums do
        except InputError:
            refusals += 1
    assert refusals > 15
