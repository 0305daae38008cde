"""All data sets by name. To add one, write a module with an `ENTRY` (see entry.py) and add it to the tuple below."""

import os
from pathlib import Path

from platformdirs import user_cache_path

from mpdvae.data import (
    caltech101,
    cifar10,
    digits,
    fashion_mnist,
    frey_faces,
    mnist,
    omniglot,
    omniglot_burda,
    sprites,
    static_mnist,
)
from mpdvae.data.entry import Entry
from mpdvae.data.images import Splits
from mpdvae.data.own import load_own, own_path
from mpdvae.data.preparation import AS_STORED, Preparation
from mpdvae.data.progress import SILENT, Listener
from mpdvae.data.protocols import PAPER_SPLIT_SEED
from mpdvae.errors import InputError, refuse_unknown

ENTRIES: tuple[Entry, ...] = (
    mnist.ENTRY,
    static_mnist.ENTRY,
    fashion_mnist.ENTRY,
    omniglot.ENTRY,
    omniglot_burda.ENTRY,
    omniglot_burda.ENTRY_LYING,
    cifar10.ENTRY,
    caltech101.ENTRY,
    frey_faces.ENTRY,
    digits.ENTRY,
    sprites.ENTRY,
)
"""The data sets, in the order in which they are listed."""


def data_dir(root: Path | str | None = None) -> Path:
    """Returns the data folder: `root` if given, else the environment variable MPDVAE_DATA, else `mpdvae` in the user's
    cache folder."""
    if root is not None:
        return Path(root).expanduser()
    if named := os.environ.get("MPDVAE_DATA"):
        return Path(named).expanduser()
    return user_cache_path("mpdvae")


def names() -> list[str]:
    """Returns the names that `load` accepts."""
    return [*(entry.name for entry in ENTRIES), "own"]


def load(
    name: str,
    *,
    path: Path | str | None = None,
    root: Path | str | None = None,
    validation_size: int | None = None,
    split_seed: int = PAPER_SPLIT_SEED,
    listener: Listener = SILENT,
    preparation: Preparation = AS_STORED,
) -> Splits:
    """Loads the data set `name` from the data folder `root` or, for "own", from the .npz or .npy file or picture folder
    `path`, prepared by `preparation`.

    Fetches missing files and reports progress to `listener`. If `validation_size` is None, the data set's own size is used.
    Raises `InputError` for an unknown name and for wrong files, `RunError` if the data is not in the folder and cannot be
    fetched.
    """
    if name not in names():
        refuse_unknown("data set", name, names(), "For your own images use data set 'own', with a path.")
    if validation_size is not None and validation_size < 1:
        raise InputError(f"validation_size must be at least 1, but {validation_size} was given.")
    if name == "own":
        if path is None:
            raise InputError(
                "data set 'own' needs a path: an .npz file, an .npy file or a folder of pictures.", topic="own-data"
            )
        return load_own(own_path(path), validation_size, split_seed, preparation)
    if preparation != AS_STORED:
        raise InputError(f"data set {name!r} is used as it is published: only your own images are prepared.")
    if path is not None:
        raise InputError(
            f"a path was given ({path}), but data set {name!r} has a fixed location: choose data set 'own'.",
            topic="own-data",
        )
    known, folder = entry(name), data_dir(root)
    if not known.is_here(folder):
        known.fetch(folder, listener)
    return known.load(folder, validation_size, split_seed)


def entry(name: str) -> Entry:
    """Returns the catalogue entry of the data set `name`. Raises `InputError` for an unknown name."""
    known = {entry.name: entry for entry in ENTRIES}
    if name not in known:
        refuse_unknown("data set", name, list(known))
    return known[name]


def fetch(name: str, root: Path | str | None = None, listener: Listener = SILENT) -> None:
    """Fetches the data set into the data folder if it is missing; reports progress to `listener`."""
    entry(name).fetch(data_dir(root), listener)


def check(name: str, root: Path | str | None = None) -> str:
    """Compares the files of a data set with their checksums; returns the text to print. Raises `InputError` on failure."""
    return entry(name).check(data_dir(root))
