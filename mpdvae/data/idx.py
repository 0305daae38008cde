"""The idx format of MNIST and its relatives.

    offset  bytes   content
    0       2       zero
    2       1       element type; 8 = uint8, the only one supported here
    3       1       number of axes d
    4       4 d     lengths of the axes, big-endian
    4+4d    ...     elements, last axis fastest

A header may claim any size, so the length of the data is checked against it before an array is created.
"""

import math
import struct
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mpdvae.data.files import read_unpacked
from mpdvae.errors import InputError

_UINT8 = 8


def read_idx(path: Path, axes: int) -> UInt8[np.ndarray, "..."]:
    """Reads the array with `axes` axes from the idx file `path`, raw or gzipped. Raises `InputError` for anything else."""
    return parse_idx(read_unpacked(path), axes, path)


def parse_idx(content: bytes | bytearray, axes: int, path: Path) -> UInt8[np.ndarray, "..."]:
    """Parses the array in the idx bytes `content`; `path` is for messages. Raises `InputError` for malformed content."""
    start = 4 + 4 * axes
    if len(content) < start:
        raise InputError(
            f"{path} is truncated: {len(content)} bytes, but the idx header alone has {start}.", topic="downloads"
        )
    if content[:4] != bytes([0, 0, _UINT8, axes]):
        raise InputError(
            f"{path} is not an idx file of bytes with {axes} axes: it begins with {content[:4].hex(' ')}, "
            f"expected 00 00 08 {axes:02x}.",
            topic="downloads",
        )
    shape = struct.unpack(f">{axes}I", content[4:start])
    expected = start + math.prod(shape)
    if len(content) != expected:
        what = "is truncated" if len(content) < expected else "has trailing bytes"
        raise InputError(
            f"{path} {what}: {len(content)} bytes, but its header {shape} requires {expected}.", topic="downloads"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def idx_bytes(array: UInt8[np.ndarray, "..."]) -> bytes:
    """Returns the idx file that holds `array`."""
    header = bytes([0, 0, _UINT8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()
