"""idx files and sets of four: what is read, what is refused, where missing files are looked for."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import put, tiny_idx_files, tiny_idx_set

from mpdvae import data
from mpdvae.data import Lines, Listener
from mpdvae.data.download import Unreachable
from mpdvae.data.files import checksum
from mpdvae.data.idx import idx_bytes, read_idx
from mpdvae.data.idx_set import AXES, Source
from mpdvae.errors import InputError, RunError

IMAGES = "train-images-idx3-ubyte"


# idx files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (2, 4, 3), (0,)])
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_is_read_as_written(tmp_path: Path, shape: tuple[int, ...], zipped: bool) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    content = idx_bytes(array)
    (tmp_path / "file").write_bytes(gzip.compress(content) if zipped else content)
    read = read_idx(tmp_path / "file", len(shape))
    assert read.dtype == np.uint8
    assert np.array_equal(read, array)


def damaged_idx() -> dict[str, tuple[bytes, str]]:
    good = idx_bytes(np.ones((2, 4, 3), np.uint8))
    return {
        "header cut": (good[:10], "truncated: 10 bytes, but the idx header alone has 16"),
        "pixels cut": (good[:-1], r"is truncated: 39 bytes, but its header \(2, 4, 3\) requires 40"),
        "trailing bytes": (good + b"x", "has trailing bytes: 41 bytes"),
        "other axes": (
            idx_bytes(np.ones(20, np.uint8)),
            "not an idx file of bytes with 3 axes: it begins with 00 00 08 01",
        ),
        "other type": (b"\0\0\x0d\x03" + good[4:], "begins with 00 00 0d 03, expected 00 00 08 03"),
        "huge claim": (good[:4] + b"\xff" * 12 + good[16:], "is truncated: 40 bytes"),
        "gzip cut": (gzip.compress(good)[:-9], "is a damaged gzip file"),
        "gzip header only": (b"\x1f\x8bnonsense", "is a damaged gzip file"),
        "page of a web server": (b"<!DOCTYPE html><html></html>", "not an idx file"),
    }


@pytest.mark.parametrize("damage", damaged_idx())
def test_damaged_idx_is_refused(tmp_path: Path, damage: str) -> None:
    content, words = damaged_idx()[damage]
    (tmp_path / "some-file").write_bytes(content)
    with pytest.raises(InputError, match=f"some-file .*{words}"):
        read_idx(tmp_path / "some-file", 3)


def test_missing_idx_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*absent: No such file"):
        read_idx(tmp_path / "absent", 3)


# sets of idx files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("folder", "zipped"), [("tiny", False), ("tiny", True), ("TINY/raw", False)])
def test_files_are_found_where_they_are(tmp_path: Path, folder: str, zipped: bool) -> None:
    tiny = tiny_idx_set()
    assert not tiny.is_here(tmp_path)
    put(tmp_path / folder, tiny_idx_files(), zipped)
    assert tiny.is_here(tmp_path)
    splits = tiny.load(tmp_path, None, 524287)
    assert splits.sizes == (16, 4, 5)
    assert splits.image_shape == (1, 4, 3)
    pixels = torch.frombuffer(bytearray(tiny_idx_files()[IMAGES][16:]), dtype=torch.uint8).view(20, 1, 4, 3)
    train, validation = data.split_train_validation(20, 4, 524287)
    assert splits.train.pixels.equal(pixels[train])
    assert splits.validation.pixels.equal(pixels[validation])
    assert splits.train.labels is not None
    assert splits.train.labels.dtype == torch.int64
    assert tiny.load(tmp_path, 7, 1).sizes == (13, 7, 5)
    assert checksum(tiny_idx_files()[IMAGES]) in tiny.check(tmp_path)


def test_a_wrong_file_is_reported_and_kept(tmp_path: Path) -> None:
    canonical = tiny_idx_files()
    wrong = {**canonical, IMAGES: canonical[IMAGES][:-1] + bytes([canonical[IMAGES][-1] ^ 1])}
    tiny = tiny_idx_set(Source("never asked", lambda *_: pytest.fail("asked")))
    put(tmp_path / "tiny", wrong)
    expected = (
        f"{IMAGES} is damaged .* {checksum(wrong[IMAGES])}, expected {checksum(canonical[IMAGES])}; delete it and"
    )
    for use in (lambda: tiny.load(tmp_path, None, 0), lambda: tiny.check(tmp_path)):
        with pytest.raises(InputError, match=f"{expected} run `mpdvae data fetch tiny`"):
            use()
    assert (tmp_path / "tiny" / IMAGES).read_bytes() == wrong[IMAGES]


def test_sources_are_asked_in_order_for_what_is_missing(tmp_path: Path) -> None:
    def no(names: list[str], folder: Path, listener: Listener) -> dict[str, bytes]:
        raise Unreachable("no connection")

    def wrong(names: list[str], folder: Path, listener: Listener) -> dict[str, bytes]:
        return dict.fromkeys(names, b"a login page")

    asked = []

    def good(names: list[str], folder: Path, listener: Listener) -> dict[str, bytes]:
        asked.append(names)
        return {name: tiny_idx_files()[name] for name in names}

    said = []
    put(tmp_path / "tiny", {IMAGES: tiny_idx_files()[IMAGES]})
    tiny = tiny_idx_set(Source("A", no), Source("B", wrong), Source("C", good))
    tiny.fetch(tmp_path, Lines(said.append))
    assert asked == [[name for name in AXES if name != IMAGES]]
    assert "Tiny: A: no connection" in said
    assert any("is not the canonical file" in line for line in said)
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == [".lock", *sorted(AXES)]
    tiny.fetch(tmp_path)
    assert len(asked) == 1
    tiny.check(tmp_path)


def test_without_sources_the_user_learns_which_file_goes_where(tmp_path: Path) -> None:
    def no(names: list[str], folder: Path, listener: Listener) -> dict[str, bytes]:
        raise Unreachable("no connection")

    tiny = tiny_idx_set(Source("A", no))
    with pytest.raises(RunError, match=r"could not be fetched \(A: no connection\): put train-images.* into .*tiny"):
        tiny.load(tmp_path, None, 0)
    with pytest.raises(InputError, match=r"is not in .* missing; run `mpdvae data fetch tiny`"):
        tiny.check(tmp_path)
