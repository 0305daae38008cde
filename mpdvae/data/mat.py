"""Numeric arrays from MATLAB files, versions 4 and 5 to 7.

    5 to 7   128 bytes of header, the last two of which give the byte order, then elements: type and length (4 bytes
             each, or 2 each with up to 4 bytes of data in the same 8), data, padding to 8 bytes. A matrix is an element
             of elements: flags, lengths of its axes, name, numbers; it may be compressed by zlib into another element.
    4        per matrix five integers (type, rows, columns, imaginary or not, length of the name), name, numbers.

Numbers are in column-major order. Lengths are compared with the actual content, and shapes with the expected ones, before
anything is decompressed: a header may claim anything. (scipy's reader trusts headers so far that a damaged file can crash
the process, so it is only the reference in the tests. Version 7.3 is another format, HDF5, which none of the files here
uses.)
"""

import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mpdvae.data.files import read_whole
from mpdvae.errors import InputError
from mpdvae.system.available_memory import check_room
from mpdvae.system.untrusted_files import in_short

Shape = tuple[int | None, int | None]

_HEADER = 128
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _PACKED = 14, 15
_NUMERIC_CLASSES = range(6, 16)
_COMPLEX = 0x0800
_TYPES_4 = {0: "f8", 1: "f4", 2: "i4", 3: "i2", 4: "u2", 5: "u1"}
_HEAD = 1 << 12  # bytes; flags, axes and name fit easily
_LARGEST = 1 << 28  # bytes unpacked
_MOST_AXES = 8
_MOST_VARIABLES = 1_000


class _Damaged(ValueError):
    """Content that no intact file has."""


@dataclass(frozen=True)
class _Variable:
    """A matrix that has not been read yet."""

    name: str
    shape: tuple[int, ...]
    numeric: bool
    content: memoryview
    order: str = "<"
    """Byte order."""
    packed: bool = False
    number: str = ""
    """Type of the numbers, if the matrix itself does not store it."""


def read_mat(path: Path, shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """Reads the arrays named in `shapes`, which must have the shapes given there (None: any length).

    Raises `InputError` if one is missing, not numeric or of another shape, or if `path` is not a MATLAB file.
    """
    content = memoryview(read_whole(path))
    try:
        version4 = len(content) >= 4 and 0 in content[:4]  # the other versions begin with text
        read = _numbers4 if version4 else _numbers5
        variables = (_variables4 if version4 else _variables5)(content)
        found = {variable.name: variable for variable in islice(variables, _MOST_VARIABLES)}
        for name, shape in shapes.items():
            _require(found, name, shape, path)
        return {name: read(found[name]) for name in shapes}
    except (_Damaged, zlib.error) as error:
        raise InputError(
            f"{path} cannot be read as a MATLAB file; it may be truncated ({in_short(error)}).", topic="downloads"
        ) from error


def as_bytes(array: np.ndarray, highest: int, where: str) -> UInt8[np.ndarray, "..."]:
    """Converts whole numbers 0..highest to bytes. Raises `InputError` for anything else, including NaN."""
    if np.isnan(array).any():
        raise InputError(f"{where} has NaN values, {np.isnan(array).sum()} of {array.size}.", topic="downloads")
    if array.min(initial=0) < 0 or array.max(initial=0) > highest or (array != np.floor(array)).any():
        raise InputError(
            f"{where} has values from {array.min():g} to {array.max():g}: expected whole numbers 0..{highest}.",
            topic="downloads",
        )
    return np.ascontiguousarray(array.astype(np.uint8))


def _require(found: Mapping[str, _Variable], name: str, expected: Shape, path: Path) -> None:
    if name not in found:
        raise InputError(
            f"{path} holds no {name}: found {[other[:20] for other in sorted(found)[:10]]}.", topic="downloads"
        )
    given = found[name].shape
    if not found[name].numeric:
        raise InputError(f"{name} in {path} is not a numeric array.", topic="downloads")
    if len(given) != 2 or any(wanted not in (None, length) for wanted, length in zip(expected, given, strict=True)):
        wanted = " x ".join("any" if length is None else str(length) for length in expected)
        raise InputError(f"{name} in {path} is {' x '.join(map(str, given))}, expected {wanted}.", topic="downloads")


# versions 5 to 7 ------------------------------------------------------------------------------------------------------


def _variables5(content: memoryview) -> Iterator[_Variable]:
    orders = {b"IM": "<", b"MI": ">"}
    mark = bytes(content[_HEADER - 2 : _HEADER])
    if mark not in orders:
        raise _Damaged("it has no header of version 5 to 7")
    order, at = orders[mark], _HEADER
    while at < len(content):
        kind, data, at = _element(content, at, order)
        if kind == _PACKED:
            head = memoryview(zlib.decompressobj().decompress(data, _HEAD))
            yield _variable(head[8:], data, order, packed=True)
        elif kind == _MATRIX:
            yield _variable(data, data, order, packed=False)
        else:
            raise _Damaged(f"an element has type {kind}")


def _variable(head: memoryview, data: memoryview, order: str, packed: bool) -> _Variable:
    _, flags, at = _element(head, 0, order)
    _, axes, at = _element(head, at, order)
    _, name, _ = _element(head, at, order)
    if len(flags) != 8 or len(axes) % 4 or not 0 < len(axes) <= 4 * _MOST_AXES:
        raise _Damaged("a matrix has no flags, no axes or too many")
    shape = struct.unpack(f"{order}{len(axes) // 4}i", axes)
    kind, _ = struct.unpack(f"{order}II", flags)
    numeric = kind & 0xFF in _NUMERIC_CLASSES and not kind & _COMPLEX
    return _Variable(bytes(name).decode("latin1"), shape, numeric, data, order, packed)


def _numbers5(variable: _Variable) -> np.ndarray:
    content = _unpacked(variable) if variable.packed else variable.content
    at = 0
    for _ in range(3):  # flags, axes, name
        _, _, at = _element(content, at, variable.order)
    kind, data, _ = _element(content, at, variable.order)
    if kind not in _TYPES:
        raise _Damaged(f"the numbers of {variable.name} have type {kind}")
    return _array(variable, data, _TYPES[kind])


def _unpacked(variable: _Variable) -> memoryview:
    unpack = zlib.decompressobj()
    kind, size = struct.unpack(f"{variable.order}II", unpack.decompress(variable.content, 8))
    if kind != _MATRIX or size > _LARGEST:
        raise _Damaged(f"{variable.name} claims {size} bytes of type {kind}")
    check_room(size, variable.name[:20], "downloads")
    content = unpack.decompress(unpack.unconsumed_tail, size) if size else b""
    if len(content) != size:
        raise _Damaged(f"{variable.name} unpacks to {len(content)} of {size} bytes")
    return memoryview(content)


def _element(content: memoryview, at: int, order: str) -> tuple[int, memoryview, int]:
    """Returns type and data of the element at `at`, and where the next one starts."""
    if at + 8 > len(content):
        raise _Damaged("it ends within an element")
    kind, size = struct.unpack_from(f"{order}II", content, at)
    if kind >> 16:
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise _Damaged(f"a short element has {size} bytes")
        return kind, content[at + 4 : at + 4 + size], at + 8
    end = at + 8 + size
    if end > len(content):
        raise _Damaged(f"it ends within an element of {size} bytes")
    return kind, content[at + 8 : end], end if kind == _PACKED else end + -size % 8


# version 4 ------------------------------------------------------------------------------------------------------------


def _variables4(content: memoryview) -> Iterator[_Variable]:
    at = 0
    while at < len(content):
        if at + 20 > len(content):
            raise _Damaged("it ends within a header")
        kind, rows, columns, imaginary, length = struct.unpack_from("<5i", content, at)
        start = at + 20 + length
        number = _TYPES_4.get(kind // 10, "")
        if kind % 10 not in (0, 1, 2) or not number or min(rows, columns, length) < 0 or imaginary:
            raise _Damaged(f"a matrix has type {kind}, which version 4 does not define")
        at = start + rows * columns * np.dtype(number).itemsize
        if at > len(content):
            raise _Damaged(f"it ends within a matrix of {rows} x {columns}")
        name = bytes(content[start - length : start]).rstrip(b"\0").decode("latin1")
        yield _Variable(name, (rows, columns), kind % 10 == 0, content[start:at], number=number)


def _numbers4(variable: _Variable) -> np.ndarray:
    return _array(variable, variable.content, variable.number)


def _array(variable: _Variable, data: memoryview, kind: str) -> np.ndarray:
    """Returns the numbers in `data`, stored column after column."""
    if min(variable.shape) < 0 or len(data) != math.prod(variable.shape) * np.dtype(kind).itemsize:
        raise _Damaged(f"{variable.name} has {len(data)} bytes for {' x '.join(map(str, variable.shape))} numbers")
    stored = np.frombuffer(data, np.dtype(variable.order + kind)).reshape(variable.shape, order="F")
    return stored.astype(stored.dtype.newbyteorder("="))
