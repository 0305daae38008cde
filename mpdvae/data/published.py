"""Data sets that are published as a few files and identified by the arrays in them.

The same images circulate in several forms: plain or compressed, as MATLAB file or pickle, re-created by someone. So a data
set lists the forms in which users may have it, in order of preference, each with its reader, and it is the arrays that are
compared with a checksum, on every load. Wrong files are reported, never replaced.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpdvae.data.download import Unreachable, download
from mpdvae.data.files import checksum, digest_of, exclusively
from mpdvae.data.images import Splits
from mpdvae.data.progress import SILENT, Listener
from mpdvae.errors import InputError, RunError, listed

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class PublishedFile:
    """A file, under the name of its publication."""

    name: str
    """May begin with folders: "batches/1"."""
    address: str = ""
    """URL to fetch it from; empty if it is only read from the data folder."""
    digest: str = ""
    """Digest of the file at `address`: "sha256:...", "md5:..." or "git-blob:..."."""


@dataclass(frozen=True)
class Form:
    """One form in which a data set is distributed."""

    files: tuple[PublishedFile, ...]
    read: Callable[[Sequence[Path]], Arrays]
    """Returns the arrays in these files, given in the order of `files`; raises `InputError`."""
    quick_read: Callable[[Sequence[Path]], Arrays] | None = None
    """Returns the same arrays, reusing what an earlier read kept."""
    by_digest: bool = False
    """Whether the files are identified by their digests, because no checksum of the arrays is known."""


def array_hash(array: np.ndarray) -> str:
    """Returns the SHA-256 of the bytes of `array` in C order, without any header."""
    return checksum(np.ascontiguousarray(array).tobytes())


@dataclass(frozen=True)
class ArraySet:
    """A data set available in one of several forms."""

    name: str
    title: str
    folders: tuple[str, ...]
    """Folders to search, relative to the data folder; fetched files go into the first."""
    forms: tuple[Form, ...]
    split: Callable[[Arrays, int | None, int], Splits]
    """Returns training, validation and test images, given the number of validation images (None: its own) and the seed."""
    hashes: dict[str, str] = field(default_factory=dict)
    """Checksums of the arrays, by name."""
    hash_of: Callable[[np.ndarray], str] = array_hash

    def is_here(self, root: Path) -> bool:
        """Returns whether all files of one of the forms exist, correct or not."""
        return self._found(root) is not None

    def load(self, root: Path, validation_size: int | None, split_seed: int) -> Splits:
        """Loads the data set. Raises `InputError` for wrong files, `RunError` if it is missing and cannot be fetched."""
        if not self.is_here(root):
            self.fetch(root)
        return self.split(self._arrays(root), validation_size, split_seed)

    def fetch(self, root: Path, listener: Listener = SILENT) -> None:
        """Fetches the files that are missing from the data folder, and reads them once.

        Raises `RunError` if they cannot be obtained, `InputError` if the folder is not writable.
        """
        if self.is_here(root):
            listener.say(
                f"{self.title}: all files are present; `mpdvae data check {self.name}` verifies their checksums"
            )
            return
        folder = root / self.folders[0]
        with exclusively(folder):
            if not self.is_here(root):
                self._fetch_any(root, folder, listener)
        listener.say(f"{self.title}: reading and checking")
        self._arrays(root)
        listener.say(f"{self.title}: fetched and checked, in {folder}")

    def check(self, root: Path) -> str:
        """Reads all files, compares their contents with the checksums and returns a report; raises `InputError` if
        something is missing or wrong."""
        found = self._found(root)
        if found is None:
            raise InputError(
                f"{self.title} is not in {root}: run `mpdvae data fetch {self.name}`, or put {self._wanted()} into "
                f"{root / self.folders[0]}.",
                topic="downloads",
            )
        form, paths = found
        self._checked(form, paths, form.read)
        known = [f"  {expected}  {name}" for name, expected in self.hashes.items()]
        if not known:
            known = [f"  {file.digest}" for file in form.files]
        lines = [f"{self.title}: the images match the known checksums", *known, *(f"  read from {p}" for p in paths)]
        return "\n".join(lines)

    def _arrays(self, root: Path) -> Arrays:
        found = self._found(root)
        if found is None:
            raise InputError(f"{self.title} disappeared from {root} while it was being read.", topic="downloads")
        form, paths = found
        return self._checked(form, paths, form.quick_read or form.read)

    def _checked(self, form: Form, paths: list[Path], read: Callable[[Sequence[Path]], Arrays]) -> Arrays:
        again = f"delete it and run `mpdvae data fetch {self.name}`."
        for file, path in zip(form.files, paths, strict=True):
            kind, _, expected = file.digest.partition(":")
            if form.by_digest and (given := digest_of(path, kind)) != expected:
                raise InputError(
                    f"{path} is damaged or a different file: its {kind} is {given}, expected {expected}; {again}",
                    topic="downloads",
                )
        arrays = read(paths)
        where = " and ".join(map(str, paths[:2])) + (" ..." if len(paths) > 2 else "")
        for name, expected in self.hashes.items():
            if (given := self.hash_of(arrays[name])) != expected:
                raise InputError(
                    f"{where}: damaged or different images: {name}, {' x '.join(map(str, arrays[name].shape))}, has the "
                    f"checksum {given}, expected {expected}; {again}",
                    topic="downloads",
                )
        return arrays

    def _found(self, root: Path) -> tuple[Form, list[Path]] | None:
        """Returns the first form whose files all exist, and their paths."""
        for form in self.forms:
            paths = [path for file in form.files if (path := self._find(root, file)) is not None]
            if len(paths) == len(form.files):
                return form, paths
        return None

    def _find(self, root: Path, file: PublishedFile) -> Path | None:
        candidates = (root / folder / file.name for folder in self.folders)
        return next((path for path in candidates if path.is_file()), None)

    def _fetch_any(self, root: Path, folder: Path, listener: Listener) -> None:
        reasons = []
        for form in self.forms:
            missing = [file for file in form.files if self._find(root, file) is None]
            if not all(file.address for file in missing):
                continue
            if (reason := self._fetch_all(missing, folder, listener)) is None:
                return
            reasons.append(reason)
        raise RunError(
            f"{self.title} could not be fetched ({'; '.join(reasons)}): put {self._wanted()} into {folder}.",
            topic="downloads",
        )

    def _fetch_all(self, files: list[PublishedFile], folder: Path, listener: Listener) -> str | None:
        """Fetches these files; returns why they cannot be obtained, or None on success."""
        for file in files:
            listener.say(f"{self.title}: fetching {file.address}")
            try:
                download(file.address, folder / file.name, file.digest, listener)
            except Unreachable as error:
                listener.say(f"{self.title}: {error}")
                return f"{file.address}: {error}"
        return None

    def _wanted(self) -> str:
        """Lists the files of all forms, in words."""
        return ", or ".join(_listed([file.name for file in form.files]) for form in self.forms)


def _listed(names: list[str]) -> str:
    folders = {name.rpartition("/")[0] for name in names}
    if folders != {""}:
        return f"the folder {' and '.join(sorted(folders))}"
    return listed(names)


def require_own_validation(title: str, given: int | None, own: int) -> None:
    """Raises `InputError` if the requested number of validation images is not the one that the files define."""
    if given not in (None, own):
        raise InputError(
            f"{title} is split by its files, with {own} validation images, but validation_size is {given}: leave it out."
        )
