"""Small files that unpack to more than memory holds: each is refused in a sentence, before the memory is taken."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bombs import (
    GIBIBYTE,
    damaged_lzma,
    gz_of,
    nested_tar,
    npy_header,
    npz_of,
    png_header,
    png_of,
    zip_of,
)
from data_files import png
from limits import bounds, memory_bytes, start_counting_memory

from mpdvae.data.cifar10 import read_members
from mpdvae.data.frey_faces import faces_from_pickle
from mpdvae.data.idx import read_idx
from mpdvae.data.image_folder import read_image_folder
from mpdvae.data.npz import read_npz
from mpdvae.data.omniglot import read_drawings
from mpdvae.data.static_mnist import read_amat
from mpdvae.errors import InputError
from mpdvae.system import available_memory
from mpdvae.system.available_memory import available_bytes, check_room

DRAWING = "set/Greek/character01/0001_01.png"
INK = png(np.eye(105, dtype=np.uint8))


def drawings(path: Path) -> object:
    return read_drawings(path, "set", 1)


def pictures(path: Path) -> object:
    return read_image_folder(path.parent)


def batches(path: Path) -> object:
    return read_members(path, ["a"])


def idx(path: Path) -> object:
    return read_idx(path, 3)


def of_shape(shape: str, dtype: str) -> bytes:
    return zip_of("x.npy", npy_header(shape, dtype), zipfile.ZIP_STORED)


BOMBS = {
    "npz of a gigabyte": (lambda: npz_of(GIBIBYTE), read_npz, r"x\.npy in .*takes 1\.0 GiB unpacked, more than .* MiB"),
    "npz by bzip2": (lambda: npz_of(1 << 24, zipfile.ZIP_BZIP2), read_npz, "compressed by method 12, expected deflate"),
    "npz by lzma": (lambda: zip_of("x.npy", b"", zipfile.ZIP_LZMA), read_npz, "compressed by method 14"),
    "npz of nothing": (lambda: of_shape("(1000000000000,)", "|V0"), read_npz, "elements of no bytes|cannot be read"),
    "npz of objects": (lambda: of_shape("(1,)", "|O"), read_npz, "object arrays are never loaded"),
    "npz of a shape": (lambda: of_shape("(1000000, 1000000)", "<f8"), read_npz, "claims 1,000,000,000,000 numbers"),
    "npz of axes": (lambda: of_shape(f"({'0, ' * 20})", "<f8"), read_npz, "has 20 axes"),
    "picture": (lambda: png_of(8192), pictures, r"8192x8192 takes 256\.0 MiB unpacked, more than"),
    "picture of a claim": (lambda: png_header(60_000, 60_000), pictures, "claims 60000x60000|decompression bomb"),
    "drawing": (lambda: zip_of(DRAWING, png_of(1024), zipfile.ZIP_STORED), drawings, "is 1024x1024, mode L"),
    "drawing of a claim": (
        lambda: zip_of(DRAWING, png_header(60_000, 60_000), zipfile.ZIP_STORED), drawings, "claims hundreds of millions"
    ),
    "drawing by lzma": (lambda: damaged_lzma(DRAWING, INK), drawings, "compressed by method 14, expected deflate"),
    "drawing by bzip2": (lambda: zip_of(DRAWING, INK, zipfile.ZIP_BZIP2), drawings, "compressed by method 12"),
    "tar of long names": (lambda: nested_tar(b"L"), batches, "holds no a: it is truncated"),
    "tar of headers": (lambda: nested_tar(b"x"), batches, "holds no a: it is truncated"),
    "tar of global headers": (lambda: nested_tar(b"g"), batches, "holds no a: it is truncated"),
    "tar of zeros": (lambda: gz_of(GIBIBYTE), batches, "holds no a: it is truncated"),
    "idx": (lambda: gz_of(GIBIBYTE), idx, "unpacks to more than 67108864 bytes"),
    "amat": (lambda: gz_of(GIBIBYTE), read_amat, "unpacks to more than 100000000 bytes"),
    "pickle of lists": (lambda: b"]" * (1 << 24), faces_from_pickle, "more than 1,000,000 steps"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_take_memory(tmp_path, name):
    make, read, words = BOMBS[name]
    path = tmp_path / ("a.png" if read is pictures else "file")
    path.write_bytes(make())
    with bounds(), pytest.raises(InputError, match=words) as error:
        read(path)
    assert len(str(error.value)) < 1_000


@pytest.mark.parametrize("dtype", ["uint8", "bool", "float32", "float64", "int64"])
def test_arrays_are_not_copied_over_and_over(tmp_path, dtype):
    """Reading takes the array, the pixels made of it, and little more."""
    x = np.zeros((32, 1024, 1024), dtype)
    np.savez_compressed(tmp_path / "x.npz", x=x if dtype != "int64" else x + 2)
    size, values = x.nbytes, x.size
    del x
    start_counting_memory()
    before = memory_bytes(peak=False)
    pixels = read_npz(tmp_path / "x.npz")["all"].pixels
    assert memory_bytes(peak=True) - before < size + 2 * values + (1 << 25)
    assert pixels.shape == (32, 1, 1024, 1024)


def test_the_bound_is_what_the_least_of_all_limits_leaves(monkeypatch):
    """The system's, the container's and the process's."""
    with bounds():
        assert 0 < available_bytes() <= 1 << 28
    monkeypatch.setattr(available_memory, "_of_group", lambda limit, used: 3 << 24)
    check_room(1 << 24, "it")
    with pytest.raises(InputError, match=r"it takes 16\.0 MiB unpacked, more than 16\.0 MiB, a third of the memory"):
        check_room((1 << 24) + 1, "it")


@pytest.mark.parametrize("prefix", ["", "a/b/"])
def test_archives_are_read_as_they_were_written(tmp_path, prefix):
    """In the formats that tarfile writes, with a long name, a folder and a link beside."""
    import io
    import tarfile

    names = [f"{prefix}{name}" for name in ("a", "b")]
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f"{form}.tar.gz"
        with tarfile.open(path, "w:gz", format=form) as archive:
            for name, content in zip(
                (*names, f"{'n' * 90}/{'x' * 90}"), (b"", bytes(range(256)) * 5, b"x"), strict=True
            ):
                member = tarfile.TarInfo(name)
                member.size, member.mtime = len(content), 0.5 if form == tarfile.PAX_FORMAT else 0
                archive.addfile(member, io.BytesIO(content))
            link = tarfile.TarInfo("c")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        assert read_members(path, names) == [b"", bytes(range(256)) * 5]
        with pytest.raises(InputError, match="holds no c"):
            read_members(path, ["c"])


def test_what_is_no_archive_inside_is_refused(tmp_path):
    (tmp_path / "y").write_bytes(gzip.compress(b"x" * 600))
    with pytest.raises(InputError, match=r"cannot be read as a tar\.gz archive"):
        read_members(tmp_path / "y", ["a"])
