"""A lock for processes that take turns, by filelock, whose file lies in a folder that may come from a stranger."""

from typing import TYPE_CHECKING

from mpdvae.errors import InputError
from mpdvae.system.closed_folder import Inside

if TYPE_CHECKING:
    from filelock import FileLock


def turn_lock(path: Inside, timeout: float = -1.0) -> "FileLock":
    """Returns a lock for processes that take turns, with the file `path`, which is created.

    Arguments:
        timeout: seconds to wait for it; negative: any time.

    Raises `InputError` if something other than a file is there.
    """
    from filelock import FileLock

    if path.is_dir():
        raise InputError(f"{path}: expected the file of a lock, got a folder; move it away.", topic="links")
    return FileLock(path.path, timeout=timeout)
