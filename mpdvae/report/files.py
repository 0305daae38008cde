"""Writing the report's files: whole or not at all, and never over something else.

A file is written aside, synced and renamed, so that a reader sees the old one or the new one. A report may replace an
earlier report, which is known by its mark; anything else that bears the name is left alone.
"""

from collections.abc import Mapping
from pathlib import Path

from mpdvae.errors import InputError
from mpdvae.system.atomic_files import write_atomically

MARK = "written by mpdvae report"
"""Stands in every file that the report writes."""


def check_free(path: Path) -> None:
    """Raises `InputError` where `path` is something that no report wrote."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file for the report.")
    if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"{path} exists and was not written by a report: choose another name, or move it away.")


def write_all(texts: Mapping[Path, str]) -> None:
    """Writes each text, which must contain `MARK`, to its path, making folders as needed."""
    for path in texts:
        check_free(path)
    for path, text in texts.items():
        write_atomically(path, text)


def is_inside(path: Path, folder: Path) -> bool:
    """Whether `path` is a file of `folder`, and no link out of it: a report must not show files of whoever makes it."""
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())
