"""Two folders of results beside each other, number by number.

A result file is JSON, JSON lines or CSV; its leaves have dotted names (`nll_nats.mean`, `x[3]`, `kl_nats[12]`, `step 300:
kl_nats`). The command that a file names is no result and is left out. Of any other file only the bytes are compared.
Floating-point numbers are written so that they are read back bit for bit, hence equal leaves are equal bytes.

Where two environments differ, numbers a and b agree within a tolerance t if |a - b| <= t max(1, |a|, |b|).
"""

import csv
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from mpdvae.errors import InputError

Leaf = float | int | str | bool | None


@dataclass(frozen=True)
class Pair:
    """One number, or word, of two files."""

    name: str
    one: Leaf
    other: Leaf

    @property
    def difference(self) -> float | None:
        """other - one; None where either is no number."""
        return float(self.other - self.one) if _is_number(self.one) and _is_number(self.other) else None

    @property
    def equal(self) -> bool:
        return _bits(self.one) == _bits(self.other)

    def agrees(self, tolerance: float) -> bool:
        """Whether both are equal, or numbers within `tolerance`."""
        difference = self.difference
        if self.equal or difference is None:
            return self.equal
        return abs(difference) <= tolerance * max(1.0, abs(float(self.one or 0)), abs(float(self.other or 0)))


@dataclass(frozen=True)
class Compared:
    """One file of two folders."""

    name: str
    equal: bool
    """Every number and word; the bytes, of a file that holds neither."""
    pairs: tuple[Pair, ...] = ()
    """All leaves of both, in the order of the file."""
    note: str = ""
    """What else is to be said, as a sentence without its full stop."""

    def differing(self, tolerance: float = 0.0) -> list[Pair]:
        """The leaves that do not agree, in the order of the file."""
        return [pair for pair in self.pairs if not pair.agrees(tolerance)]

    def agrees(self, tolerance: float) -> bool:
        """Whether all leaves agree; bytes that differ are excused by any tolerance, since nothing says how far they are
        apart."""
        return self.equal or (tolerance > 0 and not self.differing(tolerance))

    @property
    def largest(self) -> Pair | None:
        """The pair that lies farthest apart for its size; None where all are equal."""
        numbers = [pair for pair in self.pairs if pair.difference]
        return max(numbers, key=lambda p: abs(p.difference or 0) / max(1.0, abs(float(p.one or 0))), default=None)


def compare(name: str, one: Path, other: Path) -> Compared:
    """The file `name` of two folders. Raises `InputError` where one of them is broken or missing."""
    first, second = one / name, other / name
    readers = {".json": _of_json, ".jsonl": _of_lines, ".csv": _of_table}
    if (read := readers.get(first.suffix)) is None:
        return Compared(name, _content(first) == _content(second))
    try:
        ours, theirs = dict(read(_content(first))), dict(read(_content(second)))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{name}: cannot be read as {first.suffix[1:]} ({type(error).__name__}).", topic="damaged"
        ) from None
    absent = "absent"
    pairs = tuple(Pair(key, ours.get(key, absent), theirs.get(key, absent)) for key in dict.fromkeys([*ours, *theirs]))
    return Compared(name, all(pair.equal for pair in pairs), pairs)


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Leaf]]:
    """Dotted names and values of what JSON holds, without commands."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name != "command":
                yield from leaves(value, f"{prefix}.{name}" if prefix else name)
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from leaves(value, f"{prefix}[{index}]")
    else:
        yield prefix, tree


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).", topic="damaged") from None


def _of_json(content: bytes) -> Iterable[tuple[str, Leaf]]:
    return leaves(json.loads(content))


def _of_lines(content: bytes) -> Iterable[tuple[str, Leaf]]:
    for line in content.splitlines():
        entry = json.loads(line)
        yield from ((f"step {entry['step']}: {name}", value) for name, value in leaves(entry))


def _of_table(content: bytes) -> Iterable[tuple[str, Leaf]]:
    for row, cells in enumerate(csv.DictReader(content.decode().splitlines())):
        for column, cell in cells.items():
            yield f"{column}[{row}]", float(cell) if cell else None


def _is_number(value: Leaf) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bits(value: Leaf) -> tuple[str, str]:
    """Equal exactly for values that are written as the same characters."""
    return type(value).__name__, repr(value)
