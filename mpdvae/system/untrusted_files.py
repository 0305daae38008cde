"""Files from strangers, read within bounds.

A file may be anything: larger than memory, deeper than the stack, with numbers that no arithmetic survives. What is read here
is either an ordinary value of bounded size or an `InputError` of one sentence; nothing is ever run.

JSON here is that of RFC 8259 (https://www.rfc-editor.org/rfc/rfc8259), without the NaN and Infinity that Python adds, whole
numbers within 64 bits and real ones within float64 (section 6 advises both), texts that have a UTF-8 form (section 8.1).
"""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from mpdvae.errors import InputError
from mpdvae.system.untrusted_text import printable

LARGEST_JSON = 1 << 26
"""Bytes of a JSON file; the history of a run of the paper's length has some million."""
DEEPEST_JSON = 50
"""Containers within each other; those of a run have some six."""
LARGEST_INTEGER = 2**63 - 1


def read_bytes(path: Path, largest: int) -> bytes:
    """The bytes of a file. Raises `InputError` where it is missing, no file, unreadable, or larger than `largest` bytes."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: is not a file.")
        size = path.stat().st_size
        if size > largest:
            raise InputError(f"{path}: has {size:,} bytes, more than any file of its kind ({largest:,}).")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except (OSError, ValueError) as error:  # a ValueError for names that no file can have
        raise InputError(f"{path}: cannot be read ({error}).") from None


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises `ValueError`, which says why, for what is none or out of bounds."""
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        _check(value)
    except RecursionError:
        raise ValueError(f"more than {DEEPEST_JSON} containers within each other") from None
    return value


def in_short(said: object, most: int = 300) -> str:
    """What an error says, or any text, on one line of at most `most` characters: it may quote a file from a stranger.

    What a terminal would obey, the escape sequences of colours and cursors, is written out.
    """
    return printable((str(said) or type(said).__name__)[:most])


def _refuse(number: str) -> NoReturn:
    raise ValueError(f"{number} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text[:20])


def _check(value: Any) -> None:
    """Raises `ValueError` for what is too deep, too large, or no text."""
    level = [value]
    for _ in range(DEEPEST_JSON):
        for node in level:
            if isinstance(node, int) and abs(node) > LARGEST_INTEGER:
                raise ValueError("a whole number has more than 64 bits")
            for text in (node,) if isinstance(node, str) else node if isinstance(node, dict) else ():
                text.encode()  # a UnicodeEncodeError is a ValueError
        level = [part for node in level if isinstance(node, dict | list) for part in _parts(node)]
        if not level:
            return
    raise ValueError(f"more than {DEEPEST_JSON} containers within each other")


def _parts(node: dict[str, Any] | list[Any]) -> Any:
    return node.values() if isinstance(node, dict) else node
