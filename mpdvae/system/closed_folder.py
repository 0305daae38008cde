"""Paths below a folder whose content nobody vouches for: a run, a model or a matrix may come from a stranger.

A link in such a folder could make a command read, overwrite or delete any file of its user. What is below the folder is
therefore reached from an open descriptor of the folder, part by part, and no part may be a link (openat(2), O_NOFOLLOW):

    Inside(folder) / "model" / "model.safetensors"        open folder -> open "model" in it -> open the file in that

The folder itself may be reached through links, which are the user's own. `Inside` is not accepted by `open`, so that no
function of the standard library can follow a link by mistake. What is neither a file nor a folder is refused, in one
sentence of an `InputError`, as soon as it is asked for; lists leave it out; and nothing is ever deleted through it.

Where the system has no openat (Windows), each part is checked by lstat before it is used: enough against a folder that was
prepared, not against a process that changes it meanwhile.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from mpdvae.errors import InputError
from mpdvae.system.regular_files import NO_LINK, File, open_regular, read_whole, refuse_link

HAS_OPENAT = {os.open, os.stat, os.unlink, os.mkdir, os.rename} <= os.supports_dir_fd and os.scandir in os.supports_fd
FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)


class Opened(NamedTuple):
    """An open folder."""

    descriptor: int | None
    """None where the system has no openat; names are then joined to the path."""
    path: Path

    def of(self, name: str) -> str:
        """Returns the path of `name` for calls that get `descriptor` as `dir_fd`."""
        return name if self.descriptor is not None else str(self.path / name)

    def state(self, name: str) -> os.stat_result:
        return os.stat(self.of(name), dir_fd=self.descriptor, follow_symlinks=False)

    def names(self) -> list[str]:
        with os.scandir(self.path if self.descriptor is None else self.descriptor) as entries:
            return sorted(entry.name for entry in entries)


@dataclass(frozen=True, order=True)
class Inside:
    """A path below the folder `root`, or `root` itself."""

    root: Path
    parts: tuple[str, ...] = ()

    def __truediv__(self, name: str) -> "Inside":
        """Returns the path of `name`, which may have several parts. Raises `InputError` for one that leads out."""
        parts = tuple(part for part in name.split("/") if part)
        if name.startswith("/") or ".." in parts or (os.name != "posix" and any(c in name for c in "\\:")):
            raise InputError(f"{name}: expected a name inside {self}.")
        return Inside(self.root, (*self.parts, *parts))

    def __str__(self) -> str:
        return str(self.path)

    @property
    def path(self) -> Path:
        """For display, and for functions that check nothing."""
        return self.root.joinpath(*self.parts)

    @property
    def name(self) -> str:
        return self.parts[-1] if self.parts else self.root.name

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def parent(self) -> "Inside":
        return Inside(self.root, self.parts[:-1])

    def with_suffix(self, suffix: str) -> "Inside":
        return self.parent / f"{self.stem}{suffix}"

    # -- asking --------------------------------------------------------------------------------------------------------

    def state(self) -> os.stat_result | None:
        """Returns what the system knows about a file or folder; None if there is none. Raises `InputError` for anything else
        and for a link, here or on the way."""
        try:
            with self.parent.opened() if self.parts else self.opened() as at:
                state = at.state(self.name) if self.parts else os.stat(self.root)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISLNK(state.st_mode):
            refuse_link(self)
        if not (stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)):
            raise InputError(f"{self}: is neither a file nor a folder; move it away.", topic="links")
        return state

    def exists(self) -> bool:
        return self.state() is not None

    def is_file(self) -> bool:
        state = self.state()
        return state is not None and stat.S_ISREG(state.st_mode)

    def is_dir(self) -> bool:
        state = self.state()
        return state is not None and stat.S_ISDIR(state.st_mode)

    def files(self, pattern: str = "*") -> list["Inside"]:
        """Returns the regular files in this folder whose name matches `pattern`, sorted; none if there is no folder."""
        return [
            self / name for name, state in self._entries() if stat.S_ISREG(state.st_mode) and fnmatchcase(name, pattern)
        ]

    def folders(self) -> list["Inside"]:
        """Returns the folders in this folder, sorted, without links to folders."""
        return [self / name for name, state in self._entries() if stat.S_ISDIR(state.st_mode)]

    def all_files(self) -> Iterator["Inside"]:
        """Yields the regular files in this folder and in those below it."""
        yield from self.files()
        for folder in self.folders():
            yield from folder.all_files()

    def _entries(self) -> list[tuple[str, os.stat_result]]:
        found = []
        with suppress(FileNotFoundError, NotADirectoryError), self.opened() as at:
            for name in at.names():
                with suppress(FileNotFoundError):  # removed in the meantime
                    found.append((name, at.state(name)))
        return found

    # -- reading -------------------------------------------------------------------------------------------------------

    def open(self, largest: int | None = None) -> File:
        """Opens a regular file for reading. Raises `InputError` if it is something else, or larger than `largest` bytes,
        `FileNotFoundError` if there is nothing."""
        with self.parent.opened() as at:
            return open_regular(at.of(self.name), self, links=False, folder=at.descriptor, largest=largest)

    def read_bytes(self, largest: int) -> bytes:
        """Returns the content of a file. Raises `InputError` as `open` does, and for more than `largest` bytes."""
        with self.open(largest) as file:
            return read_whole(file, self, largest)

    # -- changing ------------------------------------------------------------------------------------------------------

    def unlink(self) -> None:
        """Removes a regular file, if it exists; leaves anything else alone."""
        with suppress(FileNotFoundError, NotADirectoryError), self.parent.opened() as at:
            if stat.S_ISREG(at.state(self.name).st_mode):
                os.unlink(at.of(self.name), dir_fd=at.descriptor)

    def rmdir(self) -> None:
        """Removes this folder if it exists and is empty."""
        with suppress(OSError), self.parent.opened() as at:
            os.rmdir(at.of(self.name), dir_fd=at.descriptor)

    def rmtree(self) -> None:
        """Removes this folder and everything in it, as far as that is possible; links in it are removed, not followed."""
        with suppress(InputError, OSError):
            if self.is_dir():
                with self.parent.opened() as at:
                    shutil.rmtree(at.of(self.name), ignore_errors=True, dir_fd=at.descriptor)

    def mkdir(self) -> None:
        """Creates this folder and those above it below `root`, if they do not exist."""
        with self.opened(create=True):
            pass

    @contextmanager
    def opened(self, create: bool = False) -> Iterator[Opened]:
        """Yields this folder, open. Raises `InputError` if a part of the way below `root` is a link or not a folder, and
        `FileNotFoundError` if one does not exist; with `create`, it is made, and so is `root`."""
        if create:
            self.root.mkdir(parents=True, exist_ok=True)
        at = Opened(os.open(self.root, FOLDER) if HAS_OPENAT else None, self.root)
        try:
            for part in self.parts:
                at = _entered(at, part, create)
            yield at
        finally:
            if at.descriptor is not None:
                os.close(at.descriptor)


def _entered(at: Opened, name: str, create: bool) -> Opened:
    """Returns the folder `name` in the folder `at`, which is closed."""
    path = at.path / name
    if create:
        with suppress(FileExistsError):
            os.mkdir(at.of(name), dir_fd=at.descriptor)
    state = at.state(name)
    if stat.S_ISLNK(state.st_mode):
        refuse_link(path)
    if not stat.S_ISDIR(state.st_mode):
        raise InputError(f"{path}: expected a folder, got something else; move it away.", topic="links")
    if at.descriptor is None:
        return Opened(None, path)
    descriptor = os.open(name, FOLDER | NO_LINK, dir_fd=at.descriptor)
    os.close(at.descriptor)
    return Opened(descriptor, path)
