"""Compares two folders of results number by number.

A result file is JSON, JSON lines or CSV; its leaves have dotted names (`nll_nats.mean`, `x[3]`, `kl_nats[12]`, `step 300:
kl_nats`). The command recorded in a file is not a result and is left out. All other files are compared byte by byte.
Floating-point numbers are written such that reading restores every bit, so equal leaves are equal bytes.

If the environments differ, numbers a and b agree within a tolerance t if |a - b| <= t max(1, |a|, |b|), and the second
folder may have leaves that the first one lacks, because another version of mpdvae records more. A file whose numbers are
measured by another method than before says so in its leaf `method` (absent: 1), and is then not compared. Names of
protocols may differ in the number of draws of each test image: those of a subset, measured in one draw, used to state the
number for the whole split.
"""

import csv
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from mpdvae.errors import InputError
from mpdvae.report.per_image import LARGEST_CSV, rows_of
from mpdvae.runs.checksums import sha256_of
from mpdvae.system.closed_folder import Inside
from mpdvae.system.untrusted_files import parse_json, read_bytes

Leaf = float | int | str | bool | None
ABSENT = "absent"
"""Stands for a leaf that the other file has."""
_DRAWS = re.compile(r", \d+ fixed test draws?")
OTHER_METHOD = "measured by another method: not compared"


@dataclass(frozen=True)
class Pair:
    """One leaf, a number or a word, of two files."""

    name: str
    one: Leaf
    other: Leaf

    @property
    def difference(self) -> float | None:
        """other - one; None unless both are finite numbers."""
        return float(self.other - self.one) if _is_number(self.one) and _is_number(self.other) else None

    @property
    def equal(self) -> bool:
        return _bits(self.one) == _bits(self.other)

    def agrees(self, tolerance: float) -> bool:
        """Returns whether both are equal, or numbers that differ by at most `tolerance`; any positive tolerance also excuses
        a leaf that only the other file has, and another number of draws in the name of a protocol."""
        difference = self.difference
        if self.equal or difference is None:
            return self.equal or (tolerance > 0 and (self.one == ABSENT or self._same_but_for_draws))
        return abs(difference) <= tolerance * max(1.0, abs(float(self.one or 0)), abs(float(self.other or 0)))

    @property
    def _same_but_for_draws(self) -> bool:
        names = {_DRAWS.sub("", value) for value in (self.one, self.other) if isinstance(value, str)}
        return self.name == "protocol" and len(names) == 1


@dataclass(frozen=True)
class Compared:
    """Comparison of one file in two folders."""

    name: str
    equal: bool
    """Whether all leaves are equal; for files without leaves, whether the bytes are."""
    pairs: tuple[Pair, ...] = ()
    """All leaves of both files, in file order."""
    note: str = ""
    """A remark, as a sentence without a full stop."""

    @property
    def is_of_another_method(self) -> bool:
        """Whether the numbers of the two folders were measured in different ways."""
        return self.note == OTHER_METHOD

    def differing(self, tolerance: float = 0.0) -> list[Pair]:
        """Returns the leaves that do not agree, in file order; none if the methods differ and `tolerance` is positive."""
        if tolerance > 0 and self.is_of_another_method:
            return []
        return [pair for pair in self.pairs if not pair.agrees(tolerance)]

    def agrees(self, tolerance: float) -> bool:
        """Returns whether all leaves agree. In a file without leaves, any positive tolerance excuses differing bytes, whose
        distance is unknown."""
        return self.equal or (tolerance > 0 and not self.differing(tolerance))

    @property
    def largest(self) -> Pair | None:
        """The pair with the largest difference relative to its size; None if no numbers differ."""
        numbers = [pair for pair in self.pairs if pair.difference]
        return max(numbers, key=lambda p: abs(p.difference or 0) / max(1.0, abs(float(p.one or 0))), default=None)


def compare(name: str, one: Path, other: Path) -> Compared:
    """Compares the file `name` of two folders. Raises `InputError` if one of the two is damaged or missing."""
    first, second = Inside(one) / name, Inside(other) / name
    readers = {".json": _of_json, ".jsonl": _of_lines, ".csv": _of_table}
    if (read := readers.get(first.suffix)) is None:
        return Compared(name, sha256_of(first) == sha256_of(second))
    try:
        ours, theirs = dict(read(read_bytes(first, LARGEST_CSV))), dict(read(read_bytes(second, LARGEST_CSV)))
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(
            f"{name}: cannot be read as {first.suffix[1:]} ({type(error).__name__}).", topic="damaged"
        ) from None
    pairs = tuple(Pair(key, ours.get(key, ABSENT), theirs.get(key, ABSENT)) for key in dict.fromkeys([*ours, *theirs]))
    note = "" if ours.get("method", 1) == theirs.get("method", 1) else OTHER_METHOD
    return Compared(name, all(pair.equal for pair in pairs), pairs, note)


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Leaf]]:
    """Yields the dotted names and values of the leaves of a JSON tree, without commands."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name != "command":
                yield from leaves(value, f"{prefix}.{name}" if prefix else name)
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from leaves(value, f"{prefix}[{index}]")
    else:
        yield prefix, tree


def _of_json(content: bytes) -> Iterable[tuple[str, Leaf]]:
    return leaves(parse_json(content))


def _of_lines(content: bytes) -> Iterable[tuple[str, Leaf]]:
    for line in content.splitlines():
        entry = parse_json(line)
        yield from ((f"step {entry['step']}: {name}", value) for name, value in leaves(entry))


def _of_table(content: bytes) -> Iterable[tuple[str, Leaf]]:
    for row, cells in enumerate(rows_of(content)):
        for column, cell in cells.items():
            yield f"{column}[{row}]", float(cell) if cell else None


def _is_number(value: Leaf) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bits(value: Leaf) -> tuple[str, str]:
    """Returns a key that is equal for two values exactly if they have the same type and text."""
    return type(value).__name__, repr(value)
