"""Reads untrusted files within bounds.

A file may contain anything: more data than fits in memory, nesting deeper than the stack, numbers that overflow in any
computation. It may also be no file at all (`regular_files`). The result is either an ordinary value of bounded size or an
`InputError` of one sentence; nothing is ever executed.

JSON is that of RFC 8259 (https://www.rfc-editor.org/rfc/rfc8259), without the NaN and Infinity that Python adds. Integers
must fit in 64 bits and real numbers in float64 (section 6 recommends both), and strings must be encodable as UTF-8
(section 8.1).
"""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from mpdvae.errors import InputError, printable
from mpdvae.system.closed_folder import Inside
from mpdvae.system.regular_files import File, open_regular, read_whole

LARGEST_JSON = 1 << 26
"""Maximum size of a JSON file in bytes; the history of a run of the paper's length has about a million."""
DEEPEST_JSON = 50
"""Maximum depth of nested containers; files of a run have about six levels."""
LARGEST_INTEGER = 2**63 - 1
MOST_VALUES = 500_000
"""Maximum number of values in a JSON text: each takes a hundred bytes of memory, and may have two in the file. The largest
file of a run, explore.json, has about seventeen for each of its images."""


def opened(path: Path | Inside, largest: int) -> File:
    """Opens a file for reading. Raises `InputError` if it is not a regular file, or larger than `largest` bytes; for an
    `Inside`, also if there is a link; `OSError` if it cannot be opened."""
    if isinstance(path, Inside):
        return path.open(largest)
    return open_regular(str(path), path, links=True, largest=largest)


def read_bytes(path: Path | Inside, largest: int) -> bytes:
    """Returns the bytes of a file. Raises `InputError` if it is missing, not a regular file, unreadable, or larger than
    `largest` bytes; for an `Inside`, also if there is a link."""
    try:
        with opened(path, largest) as file:
            return read_whole(file, path, largest)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except (OSError, ValueError) as error:  # ValueError: not a possible file name
        raise InputError(f"{path}: cannot be read ({error}).") from None


def parse_json(text: str | bytes) -> Any:
    """Parses a JSON text. Raises `ValueError`, with the reason, if it is invalid or out of bounds."""
    check_values(text)
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        _check(value)
    except RecursionError:
        raise ValueError(f"more than {DEEPEST_JSON} nested containers") from None
    return value


def check_values(text: str | bytes) -> None:
    """Raises `ValueError` for a JSON text of more than `MOST_VALUES` values; commas and brackets in strings count, too."""
    marks: tuple[Any, ...] = (",", "[", "{") if isinstance(text, str) else (b",", b"[", b"{")
    if sum(text.count(mark) for mark in marks) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values")


def in_short(said: object, most: int = 300) -> str:
    """Returns the message of an error, or any text, on one line of at most `most` characters; it may quote an untrusted
    file.

    Escape sequences that a terminal would interpret, such as colours and cursor movements, are written out.
    """
    return printable((str(said) or type(said).__name__)[:most])


def _refuse(number: str) -> NoReturn:
    raise ValueError(f"{number} is not a valid JSON number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text[:20])


def _check(value: Any) -> None:
    """Raises `ValueError` for nesting that is too deep, integers that are too large and strings that are not valid text."""
    level = [value]
    for _ in range(DEEPEST_JSON):
        for node in level:
            if isinstance(node, int) and abs(node) > LARGEST_INTEGER:
                raise ValueError("an integer has more than 64 bits")
            for text in (node,) if isinstance(node, str) else node if isinstance(node, dict) else ():
                text.encode()  # a UnicodeEncodeError is a ValueError
        level = [part for node in level if isinstance(node, dict | list) for part in _parts(node)]
        if not level:
            return
    raise ValueError(f"more than {DEEPEST_JSON} nested containers")


def _parts(node: dict[str, Any] | list[Any]) -> Any:
    return node.values() if isinstance(node, dict) else node
