"""Opens files that may be anything but files.

A path that a stranger chose can name a pipe, whose reader waits for ever; a device that never ends; or a sparse file of any
size. What is opened here is a regular file of bounded size: its kind is checked before it is opened, because opening some
devices has effects, and again afterwards, on the open file (open(2): O_NONBLOCK, which does not wait for a pipe's writer).
"""

import os
import stat
from io import BufferedRandom, BufferedReader
from typing import NoReturn

from mpdvae.errors import InputError

File = BufferedReader | BufferedRandom
READING = os.O_RDONLY | getattr(os, "O_BINARY", 0)
CAREFUL = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
"""0 on Windows, where only the check before opening holds."""
CHUNK = 1 << 20


def open_regular(
    path: str,
    shown: object,
    *,
    links: bool,
    flags: int = READING,
    folder: int | None = None,
    largest: int | None = None,
) -> File:
    """Opens a regular file.

    Arguments:
        path: path of the file, relative to the open folder `folder` if there is one.
        shown: what errors call the file.
        links: whether the last part of `path` may be a symbolic link.
        flags: flags of open(2) that say what for.
        largest: maximum size in bytes; None: any.

    Raises:
        InputError: if it is a link and may not be one, is not a regular file, or is too large.
        OSError: if it does not exist or cannot be opened.
    """
    check_kind(os.stat(path, dir_fd=folder, follow_symlinks=links), shown)
    descriptor = os.open(path, flags | CAREFUL | (0 if links else NO_LINK), dir_fd=folder)
    try:
        state = os.fstat(descriptor)
        check_kind(state, shown)
        if largest is not None and state.st_size > largest:
            refuse_size(shown, largest, state.st_size)
        return os.fdopen(descriptor, "r+b") if flags & os.O_RDWR else os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_whole(file: File, shown: object, largest: int) -> bytes:
    """Returns the rest of `file`. Raises `InputError` if there are more than `largest` bytes: before reading if the system
    says so, otherwise as soon as there are."""
    said = os.fstat(file.fileno()).st_size - file.tell()
    if said > largest:
        refuse_size(shown, largest, said)
    parts, size = [], 0
    while part := file.read(CHUNK):
        size += len(part)
        if size > largest:
            refuse_size(shown, largest, size)
        parts.append(part)
    return b"".join(parts)


def check_kind(state: os.stat_result, shown: object) -> None:
    """Raises `InputError` unless `state` is that of a regular file."""
    if stat.S_ISLNK(state.st_mode):
        refuse_link(shown)
    if not stat.S_ISREG(state.st_mode):
        raise InputError(f"{shown}: is not a file; move it away.", topic="links")


def refuse_link(shown: object) -> NoReturn:
    raise InputError(
        f"{shown}: is a link, which is neither followed nor replaced there, because a folder from elsewhere could lead to "
        "any file; put the file itself there, or delete the link.",
        topic="links",
    )


def refuse_size(shown: object, largest: int, size: int) -> NoReturn:
    raise InputError(
        f"{shown}: expected at most {largest:,} bytes for a file of this kind, got {size:,}.", topic="damaged"
    )
