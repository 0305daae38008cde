"""Attacks on the structure of a folder: something other than a file of reasonable size has the name of a file."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

TERABYTE = 1 << 40


def _gone(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _link_to(target: str) -> Callable[[Path, random.Random], None]:
    def link(path: Path, chance: random.Random) -> None:
        _gone(path)
        path.symlink_to(target)

    return link


def _link_to_neighbour(path: Path, chance: random.Random) -> None:
    """To a file of the user's beside the folder that was given."""
    around = next(parent for parent in path.parents if (parent / "around").is_dir()) / "around" / "neighbour"
    _gone(path)
    path.symlink_to(around / chance.choice(["manifest.json", "private.png", "a/b.txt", "a", "new"]))


def _folder_as_link(path: Path, chance: random.Random) -> None:
    """The folder of the file becomes a link to a neighbour's."""
    folder = path.parent
    if folder.name in {"given", "run", "one", "other"}:
        return
    around = next(parent for parent in path.parents if (parent / "around").is_dir()) / "around" / "neighbour"
    _gone(folder)
    folder.symlink_to(around)


def _pipe(path: Path, chance: random.Random) -> None:
    _gone(path)
    os.mkfifo(path)


def _sparse(path: Path, chance: random.Random) -> None:
    os.truncate(path, TERABYTE)


def _empty(path: Path, chance: random.Random) -> None:
    path.write_bytes(b"")


def _missing(path: Path, chance: random.Random) -> None:
    _gone(path)


def _folder(path: Path, chance: random.Random) -> None:
    _gone(path)
    (path / "x").mkdir(parents=True)


def _unreadable_name(path: Path, chance: random.Random) -> None:
    """Another file, with a name that would control a terminal, and one that is no text."""
    (path.parent / f"\x1b[31m\n{path.name}").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff" + os.fsencode(path.name))).write_bytes(b"x")


STRUCTURAL = (
    *(_link_to(target) for target in ("/dev/zero", "/dev/stdin", "/etc/passwd", "/", ".", "nowhere")),
    _link_to_neighbour, _link_to_neighbour, _folder_as_link, _pipe, _sparse, _empty, _missing, _folder, _unreadable_name,
)  # fmt: skip
