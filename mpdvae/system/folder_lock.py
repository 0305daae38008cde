"""Ownership of a run folder: one process at a time works on it, on any machine that shares the folder.

    owner.json     pid, host and start time of the process that owns the folder, and a token; exists while it works

The file is created with O_CREAT | O_EXCL, which is atomic on local and network file systems. An owner is gone if

    on this machine    no process with that id and start time exists (ids are reused), or it is a zombie
    elsewhere          the file was not renewed for `STALE_SECONDS`; owners renew theirs every `RENEWAL_SECONDS`

"This machine" means one boot of one kernel and one process id namespace: containers that share a host name cannot see each
other's processes. Times are compared by the file system's own clock, so that the clocks of machines may differ. If an owner
is gone, another process replaces its file in one step, while it holds the file's lock (flock) and after it has checked that
the file still has that name: if several processes find it at once, only one takes over. On a file system without such
locks, two processes that find it at the same instant may both believe that they own the folder; one of them finds out at
its next renewal, like any owner whose folder was taken over (because its machine slept, or the clock of the file system was
set forward). If that clock is set back, an owner elsewhere that is gone counts as running until the clock has caught up.

A folder from a stranger may hold anything by the name of that file: only a regular file is read, replaced or removed.
"""

import json
import os
import re
import secrets
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from mpdvae.errors import InputError, RunError
from mpdvae.system.atomic_files import write_atomically
from mpdvae.system.closed_folder import Inside
from mpdvae.system.regular_files import File, open_regular, read_whole

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

FILE = "owner.json"
LARGEST = 1 << 16
"""Maximum size of the file, in bytes."""
RENEWAL_SECONDS = 20.0
STALE_SECONDS = 300.0
CLOCK = re.compile(rf"\.{re.escape(FILE)}\.[0-9a-f]{{16}}")
"""Name of a file that is created to read the file system's clock."""
ENDED = frozenset("ZX")
"""States in /proc of a process that no longer runs: zombie, dead."""


Word = Annotated[str, Field(max_length=1_000)]


class InUse(RunError):
    """Another process works on the folder."""


@dataclass(frozen=True)
class Owner:
    """A process, identified so that others can check whether it still runs."""

    pid: Annotated[int, Field(ge=1, le=2**31 - 1)]
    host: Word
    machine: Word
    """Boot and process id namespace in which `pid` is valid."""
    started: Word
    """Start time of the process, in the system's own unit; empty if the system does not report it."""
    token: Word
    """Unique to each claim."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Ownership:
    """A folder that this process currently owns; created by `owned`."""

    def __init__(self, path: Inside, owner: Owner) -> None:
        self.path, self.owner = path, owner
        self._over = threading.Event()
        self._lost = ""
        self._renewing = threading.Thread(target=self._renew_on, daemon=True)
        self._renewing.start()

    def confirm(self) -> None:
        """Raises `RunError` if the folder was lost: deleted, or taken over while this process was not renewing."""
        if self._lost:
            raise RunError(f"{self.path.parent}: {self._lost}; this process no longer writes there.", topic="taken")

    def release(self) -> None:
        self._over.set()
        self._renewing.join()
        with suppress(InputError), _locked(self.path) as content:  # what is no file any more is not this process's
            if content == _text(self.owner):
                self.path.unlink()

    def _renew_on(self) -> None:
        while not self._over.wait(RENEWAL_SECONDS) and not self._lost:
            with suppress(OSError):  # a file system that does not respond now may do so later
                self._renew()

    def _renew(self) -> None:
        try:
            content = _content(self.path)
        except InputError as error:
            self._lost = str(error).rstrip(".")
            return
        if content is None:
            self._lost = "the folder or its owner.json was deleted"
        elif content != _text(self.owner):
            self._lost = f"was taken over by {_parsed(content) or 'another process'}"
        else:
            os.utime(self.path.path, follow_symlinks=os.utime not in os.supports_follow_symlinks)


@contextmanager
def owned(folder: Path, say: Callable[[str], None] = lambda line: None) -> Iterator[Ownership]:
    """Makes this process the owner of `folder`, which must exist, within the context.

    Yields the `Ownership`, whose `confirm` checks that the folder still belongs to this process.

    Arguments:
        say: called once with a message if the folder was taken over from an owner that is gone.

    Raises:
        InUse: (a `RunError`) another process works on the folder, or this one already does; the message names it.
    """
    path, owner = Inside(Path(folder)) / FILE, _this_process()
    while not _create(path, _text(owner)):
        with _locked(path) as content:
            if content is None:
                continue  # released or taken over in the meantime
            other = _parsed(content)
            if not _gone(path, other):
                raise InUse(
                    f"{folder}: is in use by {other or 'another process'}; "
                    "wait for it, stop it, or choose another folder."
                )
            write_atomically(path, _text(owner))
        say(f"{folder}: taken over from {other or 'a process'}, which is gone")
        break
    _remove_clocks(path)
    ownership = Ownership(path, owner)
    try:
        yield ownership
    finally:
        ownership.release()


def owner_of(folder: Path) -> Owner | None:
    """Returns the process that works on `folder` now; None if there is none, or if it is gone."""
    path = Inside(Path(folder)) / FILE
    other = _parsed(_content(path) or b"")
    return None if other is None or _gone(path, other) else other


def left_by(folder: Path) -> Owner | None:
    """Returns the process that worked on `folder` and is gone without having released it; None if there is none."""
    path = Inside(Path(folder)) / FILE
    other = _parsed(_content(path) or b"")
    return other if other is not None and _gone(path, other) else None


def remove_owner(folder: Path) -> None:
    """Removes what an owner that is gone left in `folder`."""
    path = Inside(folder) / FILE
    _remove_clocks(path)
    path.unlink()


def _create(path: Inside, content: bytes) -> bool:
    """Creates `path` with `content` and returns True; returns False if it existed before."""
    try:
        descriptor = os.open(path.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, content)
    except OSError:  # the disk is full
        path.unlink()
        raise
    finally:
        os.close(descriptor)
    return True


@contextmanager
def _locked(path: Inside) -> Iterator[bytes | None]:
    """Yields the content of the file at `path`, which no other process replaces or removes within the context; None if the
    file is gone."""
    try:
        opened = _opened(path)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    with opened as file:
        if fcntl:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        yield read_whole(file, path, LARGEST) if _is_at(path, file.fileno()) else None


def _opened(path: Inside) -> File:
    """Opens the file for writing if permitted: network file systems lock only files that are open for writing."""
    try:
        return open_regular(str(path), path, links=False, flags=os.O_RDWR, largest=LARGEST)
    except PermissionError:
        return open_regular(str(path), path, links=False, largest=LARGEST)


def _is_at(path: Inside, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path.path), os.fstat(descriptor))
    except OSError:
        return False


def _gone(path: Inside, owner: Owner | None) -> bool:
    if owner is not None and owner.machine == _machine():
        return not _runs(owner)
    return _seconds_since_renewal(path) > STALE_SECONDS


def _runs(owner: Owner) -> bool:
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # a process of another user
    return _process_start(owner.pid) == owner.started


def _seconds_since_renewal(path: Inside) -> float:
    """Measured by the file system's clock, which is read from a new file."""
    clock = path.parent.path / f".{FILE}.{secrets.token_hex(8)}"
    try:
        clock.touch(exist_ok=False)
        return clock.stat().st_mtime - os.lstat(path.path).st_mtime
    except OSError:
        return 0.0  # released in the meantime, or a read-only folder: nothing indicates that its owner is gone
    finally:
        with suppress(OSError):
            clock.unlink()


def _remove_clocks(path: Inside) -> None:
    """Removes clock files of processes that were killed while they read the clock. A process that reads it now takes this
    owner for a running one, which it is."""
    for clock in path.parent.files(f".{FILE}.*"):
        if CLOCK.fullmatch(clock.name):
            clock.unlink()


def _content(path: Inside) -> bytes | None:
    try:
        return path.read_bytes(LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _text(owner: Owner) -> bytes:
    return (json.dumps(asdict(owner), indent=2) + "\n").encode()


def _parsed(content: bytes) -> Owner | None:
    """Returns the owner; None for a file that is still being written or has another format: such a file counts as that of a
    running owner until it is stale."""
    try:
        return TypeAdapter(Owner).validate_json(content, strict=True)
    except ValueError:
        return None


def _this_process() -> Owner:
    pid = os.getpid()
    return Owner(pid, socket.gethostname(), _machine(), _process_start(pid), secrets.token_hex(8))


@cache
def _machine() -> str:
    if os.name != "posix":
        return f"{socket.gethostname()} {os.getpid()}"  # os.kill(pid, 0) checks nothing there: only renewals count
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _process_start(pid: int) -> str:
    """Returns when process `pid` started: in clock ticks since boot on Linux, as `ps` prints it elsewhere; "ended" for a
    zombie."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "ended" if state in ENDED else fields[18]
    except OSError:
        if Path("/proc/self/stat").exists() or os.name != "posix":
            return ""
    return subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
