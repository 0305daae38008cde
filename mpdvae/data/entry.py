"""What the catalogue knows about a data set that has a name.

A data set is a module with an `Entry`; adding it to the tuple in catalogue.py makes it known everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mpdvae.data.images import Splits
from mpdvae.data.progress import Listener

Load = Callable[[Path, int | None, int], Splits]
"""From the data folder, the number of validation images (None: the data set's own) and the seed of the split."""


@dataclass(frozen=True)
class Entry:
    """A data set that can be loaded by name."""

    name: str
    title: str
    images: str
    """How many, of which size."""
    size_mb: float | None
    """What it takes on disk; None where that is not known."""
    licence: str
    protocol: str
    """How it is split."""
    load: Load
    """Reads the data set, fetching it if it is not there."""
    is_here: Callable[[Path], bool]
    """Whether the data folder holds all files (unchecked, so that a list is instant)."""
    fetch: Callable[[Path, Listener], None]
    """Puts what is missing into the data folder; overwrites nothing."""
    check: Callable[[Path], str]
    """Reads all files, compares them with their checksums and says so; raises `InputError` where one is wrong."""
