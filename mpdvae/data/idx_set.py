"""Data sets in the four files of MNIST: images and labels, for training (train) and test (t10k).

The files are searched for in a few folders under the data folder, raw or gzipped, so that a folder filled by another
program is used as it is. Every file found is compared with the SHA-256 of the canonical raw file on every load (0.1 s); a
wrong file is reported, never replaced. Missing files are fetched from the first source that can provide them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from mpdvae.data.download import Unreachable, download
from mpdvae.data.files import checksum, exclusively, read_unpacked, write_data_file
from mpdvae.data.idx import parse_idx
from mpdvae.data.images import Images, Splits
from mpdvae.data.progress import SILENT, Listener
from mpdvae.data.protocols import split_train_validation
from mpdvae.errors import InputError, RunError

AXES = {
    "train-images-idx3-ubyte": 3,
    "train-labels-idx1-ubyte": 1,
    "t10k-images-idx3-ubyte": 3,
    "t10k-labels-idx1-ubyte": 1,
}


@dataclass(frozen=True)
class Source:
    """A place to fetch files from."""

    title: str
    get: Callable[[list[str], Path, Listener], Mapping[str, bytes | bytearray]]
    """Returns the raw idx bytes of the files with these names, given a folder for partial downloads; raises
    `Unreachable`."""


def mirror(address: str, sha256: dict[str, str]) -> Source:
    """Returns the source for a web folder of gzipped files with these checksums, by the name of the raw file."""

    def get(names: list[str], folder: Path, listener: Listener) -> dict[str, bytes | bytearray]:
        contents = {}
        for name in names:
            packed = folder / f"{name}.gz"
            download(f"{address}{packed.name}", packed, f"sha256:{sha256[name]}", listener)
            contents[name] = read_unpacked(packed)
            packed.unlink()
        return contents

    return Source(address, get)


@dataclass(frozen=True)
class IdxSet:
    """A data set of four idx files and its locations."""

    name: str
    title: str
    validation_size: int
    folders: tuple[str, ...]
    """Folders to search, relative to the data folder or absolute; fetched files go into the first."""
    checksums: dict[str, str]
    """SHA-256 of each raw file, by name."""
    sources: tuple[Source, ...]
    advice: str = ""
    """What else the user can do if no source can be reached."""

    def is_here(self, root: Path) -> bool:
        """Returns whether all four files exist, correct or not."""
        return not self._missing(root)

    def load(self, root: Path, validation_size: int | None, split_seed: int) -> Splits:
        """Loads the data set, its training images split by `split_seed`. Raises `InputError` and `RunError` like
        `fetch`."""
        self.fetch(root)
        arrays = {name: parse_idx(self._read(root, name), AXES[name], self._find(root, name) or root) for name in AXES}
        train, test = (self._images(arrays, part) for part in ("train", "t10k"))
        size = self.validation_size if validation_size is None else validation_size
        kept, aside = split_train_validation(len(train), size, split_seed)
        return Splits.of(self.name, self.title, train.take(kept), train.take(aside), test, split_seed)

    def fetch(self, root: Path, listener: Listener = SILENT) -> None:
        """Fetches the files that are missing from the data folder.

        Raises `RunError` if no source has them, `InputError` if the folder is not writable.
        """
        if not self._missing(root):
            listener.say(
                f"{self.title}: all files are present; `mpdvae data check {self.name}` verifies their checksums"
            )
            return
        folder = root / self.folders[0]
        with exclusively(folder):
            self._fetch_missing(self._missing(root), folder, listener)

    def _fetch_missing(self, missing: list[str], folder: Path, listener: Listener) -> None:
        if not missing:  # another process has fetched them
            return
        reasons = []
        for source in self.sources:
            listener.say(f"{self.title}: fetching from {source.title}")
            try:
                found = source.get(missing, folder, listener)
                contents = {name: self._right(content, name) for name, content in found.items()}
            except Unreachable as error:
                reasons.append(f"{source.title}: {error}")
                listener.say(f"{self.title}: {reasons[-1]}")
                continue
            for name in missing:
                write_data_file(folder / name, bytes(contents[name]))
            listener.say(f"{self.title}: fetched and checked, in {folder}")
            return
        raise RunError(
            f"{self.title} could not be fetched ({'; '.join(reasons)}): put {', '.join(missing)} (raw, or gzipped with "
            f"the extension .gz) into {folder}{self.advice}.",
            topic="downloads",
        )

    def check(self, root: Path) -> str:
        """Compares all files with their checksums and returns a report; raises `InputError` if one is missing or wrong."""
        if missing := self._missing(root):
            raise InputError(
                f"{self.title} is not in {root}: {', '.join(missing)} missing; run `mpdvae data fetch {self.name}`.",
                topic="downloads",
            )
        lines = [f"  {checksum(self._read(root, name))}  {self._find(root, name)}" for name in AXES]
        return "\n".join(
            [f"{self.title}: all {len(AXES)} files match the canonical checksums (SHA-256 of the raw files)", *lines]
        )

    def _find(self, root: Path, name: str) -> Path | None:
        candidates = [root / folder / f"{name}{ending}" for folder in self.folders for ending in ("", ".gz")]
        return next((path for path in candidates if path.is_file()), None)

    def _missing(self, root: Path) -> list[str]:
        return [name for name in AXES if self._find(root, name) is None]

    def _read(self, root: Path, name: str) -> bytes | bytearray:
        path = self._find(root, name)
        if path is None:
            raise InputError(f"{name} disappeared from {root} while it was being read.", topic="downloads")
        content = read_unpacked(path)
        given, expected = checksum(content), self.checksums[name]
        if given != expected:
            raise InputError(
                f"{path} is damaged or a different file: {len(content)} bytes with SHA-256 {given}, expected {expected}; "
                f"delete it and run `mpdvae data fetch {self.name}`.",
                topic="downloads",
            )
        return content

    def _right(self, content: bytes | bytearray, name: str) -> bytes | bytearray:
        if checksum(content) != self.checksums[name]:
            raise Unreachable(f"its {name} is not the canonical file (SHA-256 {checksum(content)})")
        return content

    @staticmethod
    def _images(arrays: dict, part: str) -> Images:
        pixels = torch.from_numpy(arrays[f"{part}-images-idx3-ubyte"])[:, None]
        return Images(pixels, torch.from_numpy(arrays[f"{part}-labels-idx1-ubyte"]).long())
