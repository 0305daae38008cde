"""Files that are either whole and right, or not there.

Everything published is checked by SHA-256; everything written appears under its name at once, complete, or not at all,
however many processes write it at the same time.
"""

import os
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from mpdvae.errors import InputError


def write_atomically(path: Path, content: bytes) -> None:
    """Writes `content` aside and renames it to `path`. Raises `InputError` if the folder cannot be written to."""
    aside = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(aside, "xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write to the data folder {path.parent} ({error.strerror}): "
            "name another one with --data-dir or the variable MPDVAE_DATA"
        ) from error


def read_whole(path: Path) -> bytes:
    """The bytes of `path`. Raises `InputError` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def checksum(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return sha256(content).hexdigest()
