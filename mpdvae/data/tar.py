"""Files of a tar archive, by exact name, from a stream of bounded length.

An archive is a sequence of members: a header of 512 bytes (name at 0, size at 124 and checksum at 148 in octal digits, type
at 156, prefix of the name at 345), then the content, padded to a multiple of 512 bytes; a header of zeros ends it. Long
names and other extensions have members of their own (types `L`, `K`, `x`, `g`), which are passed over: the names that are
wanted here are short. (Python's tarfile follows extensions of extensions until its stack ends, and holds each in memory.)

POSIX.1-1988 (ustar), https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

BLOCK = 512
PIECE = 1 << 20
REGULAR = (b"0", b"\0")


@runtime_checkable
class Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


class DamagedArchive(ValueError):
    """Content that no archive has."""


def read_files(stream: Stream, names: Sequence[str], largest: int) -> dict[str, bytes]:
    """Returns the regular files `names` of an archive that are there, by name. The last one of a name counts.

    Raises:
        DamagedArchive: if the archive is damaged or truncated, or a file of these is larger than `largest` bytes.
    """
    contents = {}
    for name, kind, size in _headers(stream):
        padded = size + -size % BLOCK
        if name not in names or kind not in REGULAR:
            _pass_over(stream, padded)
            continue
        if size > largest:
            raise DamagedArchive(f"{name} claims {size:,} bytes, more than {largest:,}")
        content = stream.read(padded)
        if len(content) < padded:
            raise DamagedArchive(f"it ends within {name}")
        contents[name] = content[:size]
    return contents


def _headers(stream: Stream) -> Iterator[tuple[str, bytes, int]]:
    """Yields name, type and size of each member; the caller reads the content before the next one."""
    while header := stream.read(BLOCK):
        if len(header) < BLOCK:
            raise DamagedArchive("it ends within a header")
        if header == bytes(BLOCK):
            return
        given = _octal(header[148:156])
        if given != sum(header) - sum(header[148:156]) + 8 * ord(" "):
            raise DamagedArchive("the checksum of a header is wrong")
        name, prefix = (header[a:b].partition(b"\0")[0].decode("latin1") for a, b in ((0, 100), (345, 500)))
        ustar = header[257:263] == b"ustar\0"
        yield f"{prefix}/{name}" if ustar and prefix else name, header[156:157], _octal(header[124:136])


def _octal(digits: bytes) -> int:
    text = digits.strip(b"\0 ")
    if not text or text.strip(b"01234567"):
        raise DamagedArchive("a number of a header is not octal")
    return int(text, 8)


def _pass_over(stream: Stream, size: int) -> None:
    while size > 0:
        piece = stream.read(min(size, PIECE))
        if not piece:
            raise DamagedArchive("it ends within a member")
        size -= len(piece)
