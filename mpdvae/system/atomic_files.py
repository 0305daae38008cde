"""Atomic writes: data goes to a temporary file, which is flushed to disk and renamed; then its folder is flushed, too.

A process that is killed while writing leaves the file unchanged and its temporary file beside it, as `.NAME.PID-RANDOM`;
the owner of the folder removes it (`remove_asides`).

A file below a folder that may come from a stranger is named by an `Inside`, and is then neither written nor read through a
link. A `Path` is the user's own: a link that it names is read, and replaced by a file when it is written.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from mpdvae.errors import InputError
from mpdvae.system.closed_folder import Inside, Opened
from mpdvae.system.regular_files import NO_LINK, check_kind
from mpdvae.system.untrusted_files import LARGEST_JSON, in_short, parse_json, read_bytes

ASIDE = re.compile(r"\..+\.(json|jsonl|csv|md|log|png|html|onnx|safetensors)\.\d+(-[0-9a-f]{8})?")
"""Name of a temporary file: the file's name, the process id, and a random part (missing in version 0.1)."""
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def write_atomically(path: Path | Inside, content: bytes | str) -> None:
    """Writes `content` to `path` atomically: to a temporary file, flushed to disk, renamed. Raises `OSError` on failure,
    `InputError` if something other than a file is there."""
    _write(path, content, _replace)


def write_once(path: Path | Inside, content: bytes | str) -> bool:
    """Writes `content` to `path` atomically unless it exists; returns whether it did. Of several processes that write at
    once, one does."""
    try:
        _write(path, content, _link)
    except FileExistsError:
        return False
    return True


def _write(path: Path | Inside, content: bytes | str, give_name: Callable[[Opened, str, str], None]) -> None:
    data = content.encode() if isinstance(content, str) else content
    target = path if isinstance(path, Inside) else Inside(path.parent) / path.name
    check_folder(target.root)
    with _told(target), target.parent.opened(create=True) as at:
        if isinstance(path, Inside):
            with suppress(FileNotFoundError):
                check_kind(at.state(target.name), target)
        aside = f".{target.name}.{os.getpid()}-{token_hex(4)}"
        try:
            with os.fdopen(os.open(at.of(aside), NEW, 0o666, dir_fd=at.descriptor), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            give_name(at, aside, target.name)
            _flush(at)
        finally:
            with suppress(OSError):  # if the disk cannot be written to, the original error is already being raised
                os.unlink(at.of(aside), dir_fd=at.descriptor)


def _replace(at: Opened, aside: str, name: str) -> None:
    os.replace(at.of(aside), at.of(name), src_dir_fd=at.descriptor, dst_dir_fd=at.descriptor)


def _link(at: Opened, aside: str, name: str) -> None:
    """Gives the file the name, unless another has it: link(2) refuses that, rename(2) does not."""
    try:
        os.link(at.of(aside), at.of(name), src_dir_fd=at.descriptor, dst_dir_fd=at.descriptor)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # a file system without hard links
        with suppress(FileNotFoundError):
            at.state(name)
            raise FileExistsError from None
        _replace(at, aside, name)


@contextmanager
def _told(target: Inside) -> Iterator[None]:
    """Names the whole path in an error of the system, which knows the last part only."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise type(error)(error.errno, error.strerror, str(target)) from error


def _flush(at: Opened) -> None:
    """Flushes the entries of a folder to disk, so that a renamed file survives a power cut."""
    if at.descriptor is not None:
        with suppress(OSError):  # some file systems cannot flush folders
            os.fsync(at.descriptor)


def check_folder(folder: Path) -> None:
    """Raises `InputError` if `folder` or one of its parents is a file."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise InputError(f"{folder}: cannot be a folder, {path} is a file; choose another --out.", topic="taken")


def write_json(path: Path | Inside, content: Any) -> None:
    """Writes `content` as indented JSON, atomically; numbers must be finite."""
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path | Inside) -> Any:
    """Returns the JSON content of `path`. Raises `InputError` if the file is missing or invalid."""
    if not path.exists():
        raise InputError(f"{path}: no such file; is {path.parent} the folder of a run?", topic="not-a-run")
    content = read_bytes(path, LARGEST_JSON)
    try:
        return parse_json(content)
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as JSON ({in_short(error)}).", topic="damaged") from None


def remove_asides(folder: Inside) -> None:
    """Removes temporary files of killed processes from `folder` and its subfolders. Only the folder's owner may call this:
    no other process may be writing there."""
    for path in folder.all_files():
        if ASIDE.fullmatch(path.name):
            path.unlink()
