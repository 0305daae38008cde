"""Images in numpy arrays: which shapes and values are accepted, wherever the array came from.

    [n height width]   [n channel height width]   [n height width channel]     with up to 64 channels

The channels are the axis of 1 or 3; else the one beside two that are alike, or shorter than both others; otherwise the array
is ambiguous. Values are bytes 0..255, floats 0..1 or booleans; for levels of 16 bits, integers other than bytes are 0..65535.
Nothing is guessed: an array that does not fit is rejected with one sentence that states what was found.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import UInt
from torch import Tensor

from mpdvae.data.layout import ValueRange, in_unit_range
from mpdvae.data.preparation import TO_16_BITS, Bits
from mpdvae.errors import InputError
from mpdvae.system.untrusted_files import in_short

MOST_CHANNELS = 64
_CHUNK_VALUES = 1 << 20


def plain_array(x: Any, where: str, what: str = "images of one shape") -> np.ndarray:
    """Returns `x` - an array, a tensor on any device and in any precision, or nested lists - as a numpy array; `where` and
    `what` say in messages what it is, and what it should hold.

    Raises:
        InputError: if it is none, or its rows differ in length.
    """
    if isinstance(x, Tensor):
        if x.is_meta:
            raise InputError(f"{where}: expected values, got a tensor on the device meta, which has none.")
        x = x.detach().cpu()
        return (x.float() if x.is_floating_point() and x.dtype != torch.float64 else x).numpy()
    if isinstance(x, list | tuple):
        x = [plain_array(part, where, what) if isinstance(part, Tensor | list | tuple) else part for part in x]
    try:
        return np.asarray(x)
    except ValueError as error:
        raise InputError(
            f"{where}: expected {what}, got lists of different lengths ({in_short(error)}).",
            topic="own-data",
        ) from None
    except TypeError as error:
        raise InputError(
            f"{where}: expected images, got a {type(x).__name__} ({in_short(error)}).", topic="own-data"
        ) from None


def grey_levels(
    x: np.ndarray, where: str, bits: Bits = 8, value_range: ValueRange | None = None
) -> UInt[np.ndarray, "..."]:
    """Converts images [n ...] to levels 0..255 or, of 16 bits, 0..65535; `where` names the array in errors. `value_range`
    gives black and white of anything but bytes and booleans. Raises `InputError` for other arrays."""
    if x.ndim not in (3, 4):
        raise InputError(
            f"{where} has {x.ndim} axes, shape {x.shape}: expected [n height width], [n channel height width] or "
            "[n height width channel].",
            topic="own-data",
        )
    if x.size == 0:
        raise InputError(f"{where} is empty: shape {x.shape}.", topic="own-data")
    if value_range is not None and x.dtype.kind in "iuf":
        x = in_unit_range(x, value_range, where)
    if bits == 16 and x.dtype == np.uint8:
        return np.multiply(grey_levels(x, where), np.uint16(TO_16_BITS), dtype=np.uint16)
    kind, highest = (np.uint16, 65_535) if bits == 16 else (np.uint8, 255)
    if x.dtype == np.bool_:
        return np.multiply(x, kind(highest), dtype=kind)
    if np.issubdtype(x.dtype, np.floating):
        _require_finite(x, where)
        _require_range(x, 1, "floats must lie in 0..1 (divide by 255?)", where)
        return _rounded(x, kind, highest)
    if np.issubdtype(x.dtype, np.integer):
        deep = "" if bits == 16 else " (for levels of 16 bits, 0..65535, use --data.levels 65536)"
        _require_range(x, highest, f"integers must lie in 0..{highest}{deep}", where)
        if x.max() == 1:
            raise InputError(
                f"{where} holds integers 0 and 1, which are nearly black where 255 is white: for binary images give "
                "booleans, x.astype(bool).",
                topic="own-data",
            )
        return x.astype(kind)
    raise InputError(f"{where} has dtype {x.dtype}: expected uint8 0..255, floats 0..1 or booleans.", topic="own-data")


def _rounded(x: np.ndarray, kind: type[np.unsignedinteger], highest: int) -> np.ndarray:
    levels = np.empty(x.shape, kind)
    for rows in _chunks(x):
        levels[rows] = np.round(x[rows].astype(np.float64) * highest)  # float16 ends at 65504
    return levels


def _chunks(x: np.ndarray) -> list[slice]:
    """Returns slices of images that take little memory beside `x`."""
    size = max(1, _CHUNK_VALUES * len(x) // x.size)
    return [slice(start, start + size) for start in range(0, len(x), size)]


def _require_finite(x: np.ndarray, where: str) -> None:
    bad = np.concatenate([np.isnan(x[rows]).reshape(len(x[rows]), -1).any(axis=1) for rows in _chunks(x)])
    if bad.any():
        raise InputError(
            f"{where} has NaN pixels in {bad.sum()} of {len(x)} images, the first is image {bad.argmax()}.",
            topic="own-data",
        )


def _require_range(x: np.ndarray, highest: int, rule: str, where: str) -> None:
    if x.min() < 0 or x.max() > highest:
        raise InputError(f"{where} has values from {x.min():g} to {x.max():g}: {rule}.", topic="own-data")


def channels_first(x: np.ndarray, where: str) -> torch.Tensor:
    """Returns images as [n channel height width], given images without channels or with channels last; raises `InputError`
    for other shapes."""
    if x.ndim == 3:
        return torch.from_numpy(x)[:, None]
    axis = channel_axis(x.shape)
    if axis is None:
        raise InputError(
            f"{where} has shape {x.shape}: the channels, up to {MOST_CHANNELS} of them on the second or last axis, cannot "
            "be told from height and width; give 1 or 3 channels, fewer than height and width, or square images of "
            "another size than the number of channels (numpy.pad).",
            topic="own-data",
        )
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, axis, 1)))


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """Returns which axis of images [n channel height width] or [n height width channel] is the channels: one of 1 or 3, else
    one beside two equal sides or shorter than both; None if it cannot be told."""
    _, first, middle, last = shape
    if first in (1, 3) or last in (1, 3):
        return 1 if first in (1, 3) else 3
    for axis, channels, other in ((1, first, last), (3, last, first)):
        if channels <= MOST_CHANNELS and (channels < min(middle, other) or middle == other != channels):
            return axis
    return None
