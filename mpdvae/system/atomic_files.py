"""Atomic writes: data goes to a temporary file, which is flushed to disk and renamed; then its folder is flushed, too.

A process that is killed while writing leaves the file unchanged and its temporary file beside it, as `.NAME.PID-RANDOM`;
the owner of the folder removes it (`remove_asides`).
"""

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from mpdvae.errors import InputError
from mpdvae.system.untrusted_files import LARGEST_JSON, in_short, parse_json, read_bytes

ASIDE = re.compile(r"\..+\.\d+(-[0-9a-f]{8})?")
"""Name of a temporary file: the file's name, the process id, and a random part (missing in version 0.1)."""


def write_atomically(path: Path, content: bytes | str) -> None:
    """Writes `content` to `path` atomically: to a temporary file, flushed to disk, renamed. Raises `OSError` on failure."""
    data = content.encode() if isinstance(content, str) else content
    check_folder(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{token_hex(4)}")
    try:
        with aside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _flush_folder(path.parent)
    finally:
        with suppress(OSError):  # if the disk cannot be written to, the original error is already being raised
            aside.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Flushes the entries of `folder` to disk, so that a renamed file survives a power cut."""
    if os.name != "posix":
        return  # folders cannot be opened on such systems
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems cannot flush folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_folder(folder: Path) -> None:
    """Raises `InputError` if `folder` or one of its parents is a file."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise InputError(f"{folder}: cannot be a folder, {path} is a file; choose another --out.", topic="taken")


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as indented JSON, atomically; numbers must be finite."""
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Returns the JSON content of `path`. Raises `InputError` if the file is missing or invalid."""
    if not path.exists():
        raise InputError(f"{path}: no such file; is {path.parent} the folder of a run?", topic="not-a-run")
    content = read_bytes(path, LARGEST_JSON)
    try:
        return parse_json(content)
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as JSON ({in_short(error)}).", topic="damaged") from None


def remove_asides(folder: Path) -> None:
    """Removes temporary files of killed processes from `folder` and its subfolders. Only the folder's owner may call this:
    no other process may be writing there."""
    for path in folder.rglob(".*"):
        if ASIDE.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)
