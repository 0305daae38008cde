"""Files that appear whole or not at all: written aside, flushed to disk, renamed, and their folder flushed, too.

Whoever is killed while it writes leaves the file as it was, and beside it what was written so far, as `.NAME.PID-RANDOM`; the
owner of the folder removes that (`remove_asides`).
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
"""Name of a file while it is being written: that of the file, the process, and a random part (0.1 wrote none)."""


def write_atomically(path: Path, content: bytes | str) -> None:
    """`content` in `path`, whole or not at all: written aside, flushed to disk, renamed. Raises `OSError` where it cannot."""
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
        with suppress(OSError):  # a disk that cannot be written to has an error of its own, which is on its way
            aside.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """The folder's list of names to disk, so that a renamed file survives a loss of power."""
    if os.name != "posix":
        return  # folders cannot be opened there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems flush no folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_folder(folder: Path) -> None:
    """Raises `InputError` where a file stands in the way of `folder`."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise InputError(f"{folder}: cannot be a folder, {path} is a file; choose another --out.", topic="taken")


def write_json(path: Path, content: Any) -> None:
    """`content` as indented JSON, atomically; numbers must be finite."""
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON in `path`. Raises `InputError` where it is missing or broken."""
    if not path.exists():
        raise InputError(f"{path}: no such file; is {path.parent} the folder of a run?", topic="not-a-run")
    content = read_bytes(path, LARGEST_JSON)
    try:
        return parse_json(content)
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as JSON ({in_short(error)}).", topic="damaged") from None


def remove_asides(folder: Path) -> None:
    """Removes what killed processes left aside in `folder` and below it. For its owner: nobody else may be writing there."""
    for path in folder.rglob(".*"):
        if ASIDE.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)
