"""The idx format of MNIST and its relatives.

    offset  bytes   content
    0       2       zero
    2       1       type of an element; 8 = uint8, the only one here
    3       1       number of axes d
    4       4 d     their lengths, big-endian
    4+4d    ...     the elements, last axis fastest

A header may claim anything, so the length of what follows is checked against it before an array is made.
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
    """The array in the idx file `path`, raw or gzipped, which must have `axes` axes. Raises `InputError` else."""
    return parse_idx(read_unpacked(path), axes, path)


def parse_idx(content: bytes, axes: int, path: Path) -> UInt8[np.ndarray, "..."]:
    """The array in the idx bytes `content`; `path` is for messages. Raises `InputError` where they disagree."""
    start = 4 + 4 * axes
    if len(content) < start:
        raise InputError(
            f"{path} is truncated: {len(content)} bytes, but the idx header alone has {start}", topic="downloads"
        )
    if content[:4] != bytes([0, 0, _UINT8, axes]):
        raise InputError(
            f"{path} is no idx file of bytes with {axes} axes: it begins with {content[:4].hex(' ')}, "
            f"expected 00 00 08 {axes:02x}",
            topic="downloads",
        )
    shape = struct.unpack(f">{axes}I", content[4:start])
    expected = start + math.prod(shape)
    if len(content) != expected:
        what = "is truncated" if len(content) < expected else "has trailing bytes"
        raise InputError(
            f"{path} {what}: {len(content)} bytes, but its header {shape} asks for {expected}", topic="downloads"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def idx_bytes(array: UInt8[np.ndarray, "..."]) -> bytes:
    """The idx file that holds `array`."""
    header = bytes([0, 0, _UINT8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()
