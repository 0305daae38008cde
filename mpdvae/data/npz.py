"""Own images from a numpy archive (`numpy.savez`).

    x                   all images, or
    x_train, x_test     already split
    y, y_train, y_test  their labels, optional: integers, names or one-hot (labels.py)
    covariates, covariates_train, covariates_test    numbers that are known of them, optional (covariates.py)

Images have the shapes and values of arrays.py. Nothing is guessed: an array that does not fit is rejected with one sentence
that states what was found.
"""

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from mpdvae.data import covariates
from mpdvae.data.arrays import channels_first, grey_levels
from mpdvae.data.class_names import SHOWN, Classes
from mpdvae.data.files import check_method, headers_of_any_age
from mpdvae.data.images import Images
from mpdvae.data.labels import class_numbers
from mpdvae.data.layout import ValueRange
from mpdvae.data.preparation import Bits
from mpdvae.data.tar import Stream
from mpdvae.errors import InputError, listed
from mpdvae.system.available_memory import check_room
from mpdvae.system.untrusted_files import in_short

_KEYS = {f"{name}{part}" for name in ("x", "y", "covariates") for part in ("", "_train", "_test")}
_NPY = b"\x93NUMPY"
"""First bytes of a file that holds a single array."""
_MOST_AXES = 8
_PIECE = 1 << 20  # bytes


def read_npz(path: Path, bits: Bits = 8, value_range: ValueRange | None = None) -> dict[str, Images]:
    """Reads the images in `path`, as levels of so many bits: under "all", or under "train" and "test". `value_range` is as
    in `grey_levels`. Raises `InputError` if they cannot be used."""
    arrays = _read_arrays(path)

    def images(key: str, classes: Classes | None) -> Images:
        where = f"{key} in {path}"
        levels = grey_levels(arrays.pop(key), where, bits, value_range)
        return _known_of(channels_first(levels, where), arrays, key, classes, path)

    if "x" in arrays and "x_train" in arrays:
        raise InputError(f"{path} holds both x and x_train: give x alone, or x_train with x_test.", topic="own-data")
    if "x_test" in arrays and "x_train" not in arrays:
        raise InputError(f"{path} holds x_test but no x_train.", topic="own-data")
    if "x" in arrays:
        return {"all": images("x", _labels(arrays, ["y"], path)[0])}
    if "x_test" not in arrays:
        return {"all": images("x_train", _labels(arrays, ["y_train"], path)[0])}
    for kind, train, test in (("labels", "y_train", "y_test"), ("covariates", "covariates_train", "covariates_test")):
        if (train in arrays) != (test in arrays):
            there, absent = (train, test) if train in arrays else (test, train)
            raise InputError(
                f"{path} holds {kind} {there}, but {absent} is missing: give both or neither.", topic="own-data"
            )
    train, test = _labels(arrays, ["y_train", "y_test"], path)
    return {"train": images("x_train", train), "test": images("x_test", test)}


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            _refuse_without_images(members, path)
            return {key: _array(archive, members[key], path) for key in sorted(_KEYS & members.keys())}
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} claims to hold more than fits into memory.", topic="own-data") from error
    except zipfile.BadZipFile as error:
        if path.is_file() and path.read_bytes()[:6] == _NPY:
            raise InputError(
                f"{path} holds a single array: save it with numpy.savez(path, x=...).", topic="own-data"
            ) from error
        raise _unreadable(path, error) from error
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, zlib.error, struct.error) as error:
        raise _unreadable(path, error) from error


def _refuse_without_images(members: Mapping[str, str], path: Path) -> None:
    if not any(key.startswith("x") for key in _KEYS & members.keys()):
        found = listed([repr(in_short(name, 60)) for name in members], SHOWN) if members else "nothing"
        raise InputError(
            f"{path} holds no images: expected an array x, or x_train and x_test, found {found}; save them by these names, "
            "numpy.savez(path, x=images, y=labels).",
            topic="own-data",
        )


def _unreadable(path: Path, error: BaseException) -> InputError:
    return InputError(
        f"{path} cannot be read as a numpy archive; it may be truncated ({in_short(error)}).", topic="own-data"
    )


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    """Reads one member; its header is trusted only if the archive states that as many bytes follow."""
    check_method(archive.getinfo(name))
    with archive.open(name) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            with headers_of_any_age():
                shape, in_columns, dtype = read(stream)
        except (SyntaxError, TypeError, tokenize.TokenError, RecursionError) as error:
            raise ValueError(f"{name} has no array header ({in_short(error)})") from error
        count = math.prod(shape)
        if dtype.hasobject:
            raise InputError(
                f"{path}: expected numbers or text in {name}, got Python's objects; object arrays are never loaded: save "
                "text as y.astype(str), and images of one shape as numpy.stack(images).",
                topic="own-data",
            )
        if not dtype.itemsize:
            raise ValueError(f"{name} has elements of no bytes")
        if len(shape) > _MOST_AXES:
            raise ValueError(f"{name} has {len(shape)} axes")
        expected = archive.getinfo(name).file_size - stream.tell()
        if min(shape, default=0) < 0 or count * dtype.itemsize != expected:
            raise ValueError(f"{name} claims {count:,} numbers of type {dtype}, but has {expected:,} bytes")
        check_room(expected, f"{name} in {path}")
        array = np.empty(count, dtype)
        _fill(array.view(np.uint8).data, stream, name)
    return array.reshape(shape, order="F" if in_columns else "C")


def _fill(content: memoryview, stream: Stream, name: str) -> None:
    """Reads the rest of `stream` into `content`, piece by piece, so that it is in memory only once."""
    at = 0
    while piece := stream.read(min(_PIECE, len(content) - at)) if at < len(content) else b"":
        content[at : at + len(piece)] = piece
        at += len(piece)
    if at < len(content) or stream.read(1):  # the checksum is compared at the end
        raise EOFError(f"{name} has {at:,} of {len(content):,} bytes")


def _labels(arrays: dict[str, np.ndarray], keys: list[str], path: Path) -> list[Classes | None]:
    """Returns the classes under `keys`, which share their names; None if there are none."""
    if keys[0] not in arrays:
        return [None] * len(keys)
    return [*class_numbers({f"{key} in {path}": arrays[key] for key in keys})]


def _known_of(pixels: Tensor, arrays: dict[str, np.ndarray], key: str, classes: Classes | None, path: Path) -> Images:
    """Returns the images `key` with what else the archive holds of them."""
    labels, names = (None, ()) if classes is None else classes
    if labels is not None and len(labels) != len(pixels):
        raise InputError(
            f"labels are missing: {path} holds {len(pixels)} images in {key}, {len(labels)} labels in "
            f"{key.replace('x', 'y', 1)}.",
            topic="own-data",
        )
    numbers = key.replace("x", "covariates", 1)
    told = covariates.of_array(arrays[numbers], len(pixels), f"{numbers} in {path}") if numbers in arrays else None
    return Images(pixels, labels, covariates=told, class_names=names)
