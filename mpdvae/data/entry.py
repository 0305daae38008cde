"""The catalogue entry of a named data set.

A data set is a module with an `Entry`; adding the entry to the tuple in catalogue.py makes it known everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mpdvae.data.images import Splits
from mpdvae.data.progress import Listener

Load = Callable[[Path, int | None, int], Splits]
"""Loads a data set from the data folder, with a number of validation images (None: the data set's own) and a split seed."""


@dataclass(frozen=True)
class Entry:
    """A data set that can be loaded by name."""

    name: str
    title: str
    images: str
    """Number and size of the images."""
    size_mb: float | None
    """Size on disk in megabytes; None if unknown."""
    licence: str
    protocol: str
    """How the data set is split."""
    load: Load
    """Reads the data set, fetching it if it is missing."""
    is_here: Callable[[Path], bool]
    """Returns whether the data folder holds all files (unchecked, so that a list is instant)."""
    fetch: Callable[[Path, Listener], None]
    """Fetches missing files into the data folder; overwrites nothing."""
    check: Callable[[Path], str]
    """Reads all files, compares them with their checksums and returns a report; raises `InputError` if one is wrong."""
