"""Writes the report's files atomically, and never overwrites a file that is not a report.

Each file is written to a temporary file, synced and renamed, so that a reader sees either the old or the new version. A
report may replace an earlier report, which is recognised by its mark; any other existing file is left untouched.
"""

from collections.abc import Mapping
from pathlib import Path

from mpdvae.errors import InputError
from mpdvae.system.atomic_files import write_atomically
from mpdvae.system.untrusted_files import read_bytes

LARGEST = 1 << 30
"""Maximum size of a report in bytes; one with thirty runs has about ten million."""
MARK = "written by mpdvae report"
"""Mark contained in every file that the report writes."""


def check_free(path: Path) -> None:
    """Raises `InputError` if `path` exists and was not written by a report."""
    if path.is_dir():
        raise InputError(f"{path}: expected a file name for the report, got a folder; name a file.")
    if path.exists() and MARK.encode() not in read_bytes(path, LARGEST):
        raise InputError(
            f"{path} already exists and was not written by a report: choose another name, or move the file away."
        )


def write_all(texts: Mapping[Path, str]) -> None:
    """Writes each text, which must contain `MARK`, to its path, and creates folders as needed."""
    for path in texts:
        check_free(path)
    for path, text in texts.items():
        write_atomically(path, text)
