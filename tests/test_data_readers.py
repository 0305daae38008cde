"""Readers of published formats on tiny files: what is read, and one clear sentence for everything that is wrong."""

import gzip
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import amat, cifar_pickle, forbidden_pickle, mat, png, python2_array, tarred, zipped

from mpdvae.data import files
from mpdvae.data.caltech101 import read_silhouettes
from mpdvae.data.cifar10 import batch_from_pickle, batch_from_records, order_independent_hash, read_members
from mpdvae.data.frey_faces import faces_from_mat, faces_from_npz, faces_from_pickle
from mpdvae.data.mat import read_mat
from mpdvae.data.omniglot import area_mean, read_drawings
from mpdvae.data.omniglot_burda import read_chardata
from mpdvae.data.static_mnist import read_amat
from mpdvae.errors import InputError

RNG = np.random.default_rng(0)
BLACK_AND_WHITE = RNG.integers(0, 2, (3, 28, 28)).astype(np.uint8)
FACES = RNG.integers(0, 256, (4, 28, 20)).astype(np.uint8)
ROWS = RNG.integers(0, 256, (3, 3072)).astype(np.uint8)

Fault = tuple[bytes, str]


def refused(read: Callable[[Path], object], path: Path, content: bytes, words: str) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read(path)


# static MNIST ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_amat(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "file").write_bytes(pack(amat(BLACK_AND_WHITE)))
    images = read_amat(tmp_path / "file")
    assert images.dtype == np.uint8
    assert np.array_equal(images, BLACK_AND_WHITE)


def amat_faults() -> dict[str, Fault]:
    good = amat(BLACK_AND_WHITE)
    return {
        "empty": (b"", "truncated or no .amat file: 0 bytes"),
        "truncated": (good[:-1], "truncated or no .amat file: 4703 bytes are no whole number of lines of 1568"),
        "truncated gzip": (gzip.compress(good)[:-9], "is a damaged gzip file"),
        "grey": (good[:-2] + b"7\n", "line 3: expected 784 digits 0 or 1"),
        "NaN": (good[:1568] + b"NaN" + good[1571:], "line 2: expected 784 digits 0 or 1"),
        "other separators": (good.replace(b" ", b","), "line 1: expected 784 digits 0 or 1, a blank between them"),
        "another format": (bytes(range(256)) * 49, "line 1: expected 784 digits"),
    }


@pytest.mark.parametrize("fault", amat_faults())
def test_bad_amat_is_refused(tmp_path: Path, fault: str) -> None:
    refused(read_amat, tmp_path / "some.amat", amat_faults()[fault][0], rf"some\.amat.* {amat_faults()[fault][1]}")


def test_nothing_unpacks_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(bytes(200_000_000), compresslevel=1)
    refused(read_amat, tmp_path / "bomb", bomb, "unpacks to more than 100000000 bytes")
    monkeypatch.setattr(files, "_LARGEST", 10)
    refused(read_amat, tmp_path / "large", bytes(11), "has more than 10 bytes")


# OMNIGLOT, the drawings -----------------------------------------------------------------------------------------------

INK = RNG.integers(0, 2, (3, 105, 105)).astype(np.uint8)
PATHS = [f"set/Greek/character{c:02d}/{c:04d}_01.png" for c in (2, 1, 10)]


def drawings() -> dict[str, bytes]:
    return {name: png(ink) for name, ink in zip(PATHS, INK, strict=True)}


def test_area_mean_is_the_mean_over_the_area() -> None:
    large = INK.repeat(4, axis=1).repeat(4, axis=2).astype(int)
    share = large.reshape(3, 28, 15, 28, 15).sum(axis=(2, 4))
    assert np.array_equal(area_mean(INK), np.round(255 * share / 225).astype(np.uint8))
    assert area_mean(np.ones_like(INK)).min() == 255


def test_drawings_are_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    others = {"set/": b"", "set/notes.txt": b"x", "../set/Greek/character03/0003_01.png": b"x", "/etc/x.png": b"x"}
    path = zipped(tmp_path / "set.zip", others | drawings())
    assert np.array_equal(read_drawings(path, "set", 3), area_mean(INK[[1, 0, 2]]))
    grey = {name: png(ink, mode="L") for name, ink in zip(PATHS, INK, strict=True)}
    assert np.array_equal(read_drawings(zipped(tmp_path / "grey.zip", grey), "set", 3), area_mean(INK[[1, 0, 2]]))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["grey.zip", "set.zip"]


def claiming(tmp_path: Path) -> bytes:
    """An archive whose first drawing claims to have four thousand million bytes."""
    content = zipped(tmp_path / "honest.zip", drawings()).read_bytes()
    size = len(drawings()[PATHS[0]]).to_bytes(4, "little")
    directory = content.index(b"PK\x01\x02")
    at = content.index(size, content.index(size, directory) + 4)  # packed size, then size
    return content[:at] + b"\xf0\xff\xff\xff" + content[at + 4 :]


@pytest.mark.parametrize(
    "fault", ["truncated", "no zip", "missing", "size", "wrong size", "colour", "no PNG", "flipped"]
)
def test_bad_drawings_are_refused(tmp_path: Path, fault: str) -> None:
    good = zipped(tmp_path / "good.zip", drawings()).read_bytes()

    def changed(content: bytes) -> bytes:
        return zipped(tmp_path / "x.zip", drawings() | {PATHS[0]: content}).read_bytes()

    flipped = bytearray(good)
    flipped[good.index(b"IDAT") + 20] ^= 255
    content, words = {
        "truncated": (good[:-30], "cannot be read as a zip of drawings, it may be truncated"),
        "no zip": (b"<html>", "cannot be read as a zip of drawings"),
        "missing": (
            zipped(tmp_path / "x.zip", {PATHS[0]: png(INK[0])}).read_bytes(),
            "holds 1 drawings in set, expected 3",
        ),
        "size": (claiming(tmp_path), "character02/0002_01.png in .* claims 4294967280 bytes: expected a drawing"),
        "wrong size": (changed(png(INK[0][:28, :27])), "0002_01.png in .* is 28x27, mode 1: expected 105x105"),
        "colour": (changed(png(INK[0], mode="RGB")), "is 105x105, mode RGB: expected 105x105, black and white"),
        "no PNG": (changed(b"GIF89a"), "cannot be read as a zip of drawings"),
        "flipped": (bytes(flipped), "cannot be read as a zip of drawings, .*CRC"),
    }[fault]
    refused(lambda path: read_drawings(path, "set", 3), tmp_path / "bad.zip", content, words)


# MATLAB files ---------------------------------------------------------------------------------------------------------


def silhouettes() -> dict[str, np.ndarray]:
    """In the file columns of images come one after the other, and the object is 0."""
    arrays = {}
    for count, part in enumerate(("train", "val", "test"), start=1):
        arrays[f"{part}_data"] = (1 - BLACK_AND_WHITE[:count]).transpose(0, 2, 1).reshape(count, 784)
        arrays[f"{part}_labels"] = np.arange(1, count + 1, dtype=np.uint8)[:, None]
    return arrays


def chardata() -> dict[str, np.ndarray]:
    grey = BLACK_AND_WHITE[:2] * np.array([1.0, 0.2])[:, None, None]
    columns = grey.transpose(0, 2, 1).reshape(2, 784).T
    one_hot = np.eye(5)[:, [4, 1]]
    return {"data": columns, "target": one_hot, "testdata": columns[:, 1:], "testtarget": one_hot[:, 1:]}


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


MAT_FAULTS: dict[str, tuple[Callable[[Path], object], dict[str, np.ndarray], str]] = {
    "no key": (
        read_silhouettes,
        without(silhouettes(), "val_data"),
        "holds no val_data: expected .* found .*'test_data'",
    ),
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
    "two": (read_silhouettes, with_value(silhouettes(), "test_data", 2), "values from 0 to 2: expected 0..1, whole"),
    "half": (read_silhouettes, with_value(silhouettes(), "test_data", 0.5), "expected 0..1, whole"),
    "label 0": (read_silhouettes, with_value(silhouettes(), "val_labels", 0), "must be 2 numbers from 1 to 101"),
    "labels missing": (
        read_silhouettes,
        silhouettes() | {"val_labels": np.ones((3, 1))},
        "val_labels .* must be 2 numbers",
    ),
    "text": (
        read_silhouettes,
        silhouettes() | {"val_labels": np.array([["a"]])},
        "val_labels in .* is no array of numbers",
    ),
    "chardata, no key": (
        lambda path: read_chardata(path, lying=True),
        without(chardata(), "testtarget"),
        "holds no testtarget",
    ),
    "chardata, NaN": (
        lambda path: read_chardata(path, lying=True),
        with_value(chardata(), "data", np.nan),
        "data in .* has NaN or values outside of 0..1",
    ),
    "chardata, 0..255": (
        lambda path: read_chardata(path, lying=True),
        with_value(chardata(), "testdata", 255),
        "testdata in .* has NaN or values outside of 0..1",
    ),
    "chardata, targets": (
        lambda path: read_chardata(path, lying=True),
        chardata() | {"target": np.eye(5)},
        "holds 2 images in data, but 5 in target",
    ),
    "faces, size": (faces_from_mat, {"ff": np.ones((500, 4))}, "ff in .* is 500 x 4, expected 560 x any"),
    "faces, NaN": (faces_from_mat, {"ff": np.full((560, 4), np.nan)}, "has NaN values, 2240 of 2240"),
    "cell": (faces_from_mat, {"ff": np.array([[1, "a"]] * 560, object)}, "ff in .* is no array of numbers|is 560 x 2"),
}


@pytest.mark.parametrize("fault", MAT_FAULTS)
def test_bad_matlab_files_are_refused(tmp_path: Path, fault: str) -> None:
    read, arrays, words = MAT_FAULTS[fault]
    with pytest.raises(InputError, match=words):
        read(mat(tmp_path / "bad.mat", **arrays))


def test_files_that_are_no_matlab_files_are_refused(tmp_path: Path) -> None:
    good = mat(tmp_path / "good.mat", **silhouettes()).read_bytes()
    words = r"bad\.mat cannot be read as a MATLAB file, it may be truncated"
    for content in (b"", b"<!DOCTYPE html><html></html>" * 20, good[:200], good[:150], good[: len(good) // 2]):
        refused(read_silhouettes, tmp_path / "bad.mat", content, rf"{words}|holds no ")
    with pytest.raises(InputError, match=r"absent\.mat cannot be read"):
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


# CIFAR-10 -------------------------------------------------------------------------------------------------------------


def test_cifar_batches() -> None:
    for images, labels in (
        batch_from_pickle(cifar_pickle(ROWS, [3, 0, 9]), "batch"),
        batch_from_pickle(pickle.dumps({"data": ROWS, "labels": [3, 0, 9]}, protocol=3), "batch"),
        batch_from_records(np.column_stack([np.array([3, 0, 9], np.uint8), ROWS]).tobytes(), "batch"),
    ):
        assert np.array_equal(images, ROWS.reshape(3, 3, 32, 32))
        assert labels.tolist() == [3, 0, 9]
        assert labels.dtype == np.uint8


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"data": ROWS}, "is no batch of CIFAR-10: expected an array `data` and a list `labels`"),
        ([ROWS], "is no batch of CIFAR-10"),
        (
            {"data": ROWS[:, :99], "labels": [0] * 3},
            r"data in batch is uint8 of shape \(3, 99\): expected rows of 3072",
        ),
        ({"data": ROWS / 255, "labels": [0] * 3}, "data in batch is float64"),
        ({"data": ROWS, "labels": [0] * 2}, r"must be 3 numbers 0..9"),
        ({"data": ROWS, "labels": [0, 1, 10]}, r"must be 3 numbers 0..9"),
    ],
    ids=["no labels", "list", "wrong size", "floats", "too few labels", "label 10"],
)
def test_bad_batches_are_refused(held: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        batch_from_pickle(pickle.dumps(held, protocol=3), "batch")


def test_bad_records_are_refused() -> None:
    records = np.column_stack([np.array([3, 0, 10], np.uint8), ROWS]).tobytes()
    with pytest.raises(InputError, match=r"has labels up to 10: expected 0..9"):
        batch_from_records(records, "batch")
    for content in (b"", records[:-1]):
        with pytest.raises(InputError, match=r"batch is truncated: .* no whole number of records of 3073"):
            batch_from_records(content, "batch")


def test_members_of_archives(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tar.gz", {"x/b": b"B", "../y": b"no", "x/a": b"A"})
    assert read_members(path, ["x/a", "x/b"]) == [b"A", b"B"]
    with pytest.raises(InputError, match=r"a\.tar\.gz holds no x/c: it is truncated or another archive"):
        read_members(path, ["x/a", "x/c"])
    refused(
        lambda p: read_members(p, ["x/a"]), tmp_path / "t", path.read_bytes()[:60], "cannot be read as a tar.gz archive"
    )
    refused(lambda p: read_members(p, ["x/a"]), tmp_path / "t", b"<html>", "cannot be read as a tar.gz archive")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tar.gz", "t"]


def test_members_of_absurd_size_are_refused(tmp_path: Path) -> None:
    large = bytes(40_000_001)
    with pytest.raises(InputError, match=r"x/a in .* claims 40000001 bytes: more than any batch has"):
        read_members(tarred(tmp_path / "a.tar.gz", {"x/a": large}), ["x/a"])


def test_order_does_not_matter_to_the_hash() -> None:
    images = ROWS.reshape(3, 3, 32, 32)
    assert order_independent_hash(images) == order_independent_hash(images[::-1])
    assert order_independent_hash(images) != order_independent_hash(images[:2])
    assert order_independent_hash(images) != order_independent_hash(images[:, ::-1])
