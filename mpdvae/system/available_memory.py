"""How much memory is there for data from files, and what is refused because it would take more.

A few bytes of a compressed file can stand for any number of bytes. What is unpacked is therefore bounded by the memory that
is free: the least of what the system, the control group of a container, and the limit of the process (`ulimit -v`) leave.
"""

import os
from pathlib import Path

from mpdvae.errors import InputError

COPIES = 3
"""Data are held about so many times while they are read, converted and split."""
ALWAYS = 1 << 22
"""Bytes that are taken without asking the system, which would take as long as reading a small picture."""
UNKNOWN = 1 << 32
"""Bytes that are taken to be free where the system does not tell."""


def available_bytes() -> int:
    """Returns how many bytes this process can still allocate, as far as the system tells."""
    found = [_of_system(), _of_group("memory.max", "memory.current"), _of_process()]
    found.append(_of_group("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
    return max(0, min((size for size in found if size is not None), default=UNKNOWN))


def check_room(size: int, what: str, topic: str = "own-data") -> None:
    """Raises `InputError` if `size` bytes of data, described by `what`, are more than a third of the free memory."""
    if size > ALWAYS and size > (room := available_bytes() // COPIES):
        raise InputError(
            f"{what} takes {_in_words(size)} unpacked, more than {_in_words(room)}, a third of the memory that is free: "
            "reduce the data, or close other programs.",
            topic=topic,
        )


def _in_words(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"


def _of_system() -> int | None:
    for line in _text(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # neither Windows nor macOS has it
        return None


def _of_group(limit: str, used: str) -> int | None:
    """Returns what the control group of a container leaves; files that the system keeps in memory can be dropped."""
    folder = Path("/sys/fs/cgroup")
    most, now = _text(folder / limit).strip(), _text(folder / used).strip()
    if not most.isdigit() or not now.isdigit():  # "max": no limit
        return None
    kept = [line.split() for line in _text((folder / used).with_name("memory.stat")).splitlines()]
    droppable = sum(int(words[1]) for words in kept if len(words) == 2 and words[0] == "inactive_file")
    return int(most) - int(now) + droppable


def _of_process() -> int | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    limit, pages = resource.getrlimit(resource.RLIMIT_AS)[0], _text(Path("/proc/self/statm")).split()
    return None if limit == resource.RLIM_INFINITY or not pages else limit - int(pages[0]) * resource.getpagesize()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
