"""Readers of single data sets' formats on tiny files: what is read, and one clear sentence for everything wrong."""

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import BLACK_AND_WHITE, amat, cifar_pickle, png, refused, tarred, zipped

from mpdvae.data import files
from mpdvae.data.cifar10 import batch_from_pickle, batch_from_records, order_independent_hash, read_members
from mpdvae.data.omniglot import area_mean, read_drawings
from mpdvae.data.static_mnist import read_amat
from mpdvae.errors import InputError

RNG = np.random.default_rng(0)
ROWS = RNG.integers(0, 256, (3, 3072)).astype(np.uint8)

Fault = tuple[bytes, str]


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
        "empty": (b"", "truncated or not an .amat file: 0 bytes"),
        "truncated": (good[:-1], "truncated or not an .amat file: 4703 bytes are not a whole number of lines of 1568"),
        "truncated gzip": (gzip.compress(good)[:-9], "is a damaged gzip file"),
        "grey": (good[:-2] + b"7\n", "line 3: expected 784 digits 0 or 1"),
        "NaN": (good[:1568] + b"NaN" + good[1571:], "line 2: expected 784 digits 0 or 1"),
        "other separators": (
            good.replace(b" ", b","),
            "line 1: expected 784 digits 0 or 1, separated by single spaces",
        ),
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
        "truncated": (good[:-30], "cannot be read as a zip of drawings; it may be truncated"),
        "no zip": (b"<html>", "cannot be read as a zip of drawings"),
        "missing": (
            zipped(tmp_path / "x.zip", {PATHS[0]: png(INK[0])}).read_bytes(),
            "holds 1 drawings in set, expected 3",
        ),
        "size": (claiming(tmp_path), "character02/0002_01.png in .* claims 4294967280 bytes: expected a drawing"),
        "wrong size": (changed(png(INK[0][:28, :27])), "0002_01.png in .* is 28x27, mode 1: expected 105x105"),
        "colour": (changed(png(INK[0], mode="RGB")), "is 105x105, mode RGB: expected 105x105, black and white"),
        "no PNG": (changed(b"GIF89a"), "cannot be read as a zip of drawings"),
        "flipped": (bytes(flipped), "cannot be read as a zip of drawings; .*CRC"),
    }[fault]
    refused(lambda path: read_drawings(path, "set", 3), tmp_path / "bad.zip", content, words)


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
        ({"data": ROWS}, "is not a CIFAR-10 batch: expected an array `data` and a list `labels`"),
        ([ROWS], "is not a CIFAR-10 batch"),
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
        with pytest.raises(InputError, match=r"batch is truncated: .* not a whole number of records of 3073"):
            batch_from_records(content, "batch")


def test_members_of_archives(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tar.gz", {"x/b": b"B", "../y": b"no", "x/a": b"A"})
    assert read_members(path, ["x/a", "x/b"]) == [b"A", b"B"]
    with pytest.raises(InputError, match=r"a\.tar\.gz holds no x/c: it is truncated or a different archive"):
        read_members(path, ["x/a", "x/c"])
    refused(
        lambda p: read_members(p, ["x/a"]), tmp_path / "t", path.read_bytes()[:60], "cannot be read as a tar.gz archive"
    )
    refused(lambda p: read_members(p, ["x/a"]), tmp_path / "t", b"<html>", "cannot be read as a tar.gz archive")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tar.gz", "t"]


def test_members_of_absurd_size_are_refused(tmp_path: Path) -> None:
    large = bytes(40_000_001)
    with pytest.raises(InputError, match=r"x/a claims 40,000,001 bytes, more than 40,000,000"):
        read_members(tarred(tmp_path / "a.tar.gz", {"x/a": large}), ["x/a"])


def test_order_does_not_matter_to_the_hash() -> None:
    images = ROWS.reshape(3, 3, 32, 32)
    assert order_independent_hash(images) == order_independent_hash(images[::-1])
    assert order_independent_hash(images) != order_independent_hash(images[:2])
    assert order_independent_hash(images) != order_independent_hash(images[:, ::-1])
