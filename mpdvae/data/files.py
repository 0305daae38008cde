"""Data files that are either complete and correct, or absent.

Every published file is verified by a digest; every file written appears under its name atomically, complete or not at all,
however many processes write it at the same time. Reading is bounded: a few bytes of gzip can expand to more than any memory
holds.
"""

import gzip
import hashlib
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpdvae.errors import InputError
from mpdvae.system.atomic_files import write_atomically
from mpdvae.system.untrusted_files import in_short, opened

OF_PYTHON_2 = "Reading `.npy` or `.npz` file required additional header parsing"
"""What numpy warns of where an array was saved by Python 2, or its header is damaged so that it looks like it."""
_LARGEST = 1 << 30  # bytes; no supported file is larger
_LARGEST_UNPACKED = 1 << 26  # bytes; the largest idx file has 47 million


def write_data_file(path: Path, content: bytes) -> None:
    """Writes `content` to `path` atomically, creating folders as needed.

    Raises `InputError` if the folder is not writable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise cannot_write(path.parent, error) from error


@contextmanager
def exclusively(folder: Path) -> Iterator[None]:
    """Holds a lock on `folder`: of several processes that need the same files, only one fetches them."""
    from filelock import FileLock  # needed only here

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire()
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def cannot_write(folder: Path, error: OSError) -> InputError:
    """Returns the error for a data folder that is not writable."""
    return InputError(
        f"cannot write to the data folder {folder} ({error.strerror or error}): "
        "choose another one with --data-dir or the environment variable MPDVAE_DATA.",
        topic="disk",
    )


def read_whole(path: Path, largest: int | None = None) -> bytes:
    """Returns the bytes of `path`. Raises `InputError` if it cannot be read, or has more than `largest` bytes (None: any
    supported data file)."""
    largest = largest or _LARGEST
    try:
        if path.stat().st_size > largest:
            raise InputError(
                f"{path} has more than {largest} bytes: it is not a supported data file.", topic="downloads"
            )
        with opened(path, _LARGEST) as file:
            return file.read()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.", topic="downloads") from error


def read_unpacked(path: Path, largest: int = _LARGEST_UNPACKED) -> bytes | bytearray:
    """Returns the bytes of `path`, decompressed if it is a gzip file. Raises `InputError` if it is damaged or too large."""
    content = read_whole(path)
    if content[:2] != b"\x1f\x8b":
        return content
    unpacked = bytearray()
    try:
        with gzip.open(path) as stream:
            while piece := stream.read(1 << 20):
                unpacked += piece
                if len(unpacked) > largest:
                    raise InputError(
                        f"{path} unpacks to more than {largest} bytes: it is not a supported data file.",
                        topic="downloads",
                    )
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"{path} is a damaged gzip file ({in_short(error)}): delete it and fetch it again.", topic="downloads"
        ) from error
    return unpacked


@contextmanager
def headers_of_any_age() -> Iterator[None]:
    """Has numpy read headers of arrays that were saved by Python 2 without a warning: they are as good as others."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=re.escape(OF_PYTHON_2), category=UserWarning)
        yield


def check_method(member: zipfile.ZipInfo) -> None:
    """Raises `ValueError` for a member that is compressed by another method than numpy and the publishers use: a few bytes of
    those unpack to gigabytes in one step, before they can be counted."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is compressed by method {member.compress_type}, expected deflate")


def checksum(content: bytes | bytearray) -> str:
    """Returns the SHA-256 of `content` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest_of(path: Path, kind: str) -> str:
    """Returns the digest of the file `path`, of the kind that was published: "sha256", "md5", or "git-blob"
    (`git hash-object`)."""
    made = hashlib.new("sha1" if kind == "git-blob" else kind, usedforsecurity=False)
    try:
        if kind == "git-blob":
            made.update(b"blob %d\0" % path.stat().st_size)
        with open(path, "rb") as stream:
            while piece := stream.read(1 << 20):
                made.update(piece)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.", topic="downloads") from error
    return made.hexdigest()


def has_digest(path: Path, digest: str) -> bool:
    """Returns whether `path` has the digest "KIND:HEXADECIMAL"."""
    kind, _, expected = digest.partition(":")
    return digest_of(path, kind) == expected
