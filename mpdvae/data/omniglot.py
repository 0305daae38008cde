"""OMNIGLOT (Lake, Salakhutdinov & Tenenbaum 2015) from the original drawings, reduced to 28x28 here.

Format: two zip archives of PNG files, 105x105, ink 0 on ground 255: `images_background` (30 alphabets, 19,280 images) and
`images_evaluation` (20 alphabets, 13,180), ALPHABET/characterNN/IIII_DD.png, DD the drawer. Archives re-created from the
same drawings are accepted, since the checksum is that of the reduced images. Licence: MIT.

Reduction: the exact area mean of the ink; a pixel of 28x28 covers 3.75 x 3.75 of the original. Ink is 255. Decoding takes
seconds, so the reduced images are kept next to the archives, in omniglot-28x28.npy.

Split: background for training, of which 2,345 by seed for validation (as many as in the paper's code), evaluation for
testing. NOT comparable with published likelihoods, which are on Burda's file (omniglot_burda.py): different reduction,
different split. The two parts share no alphabet, so that no classifier trained on one could be scored on the other: no
labels.
"""

import io
import re
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from mpdvae.data.entry import Entry
from mpdvae.data.files import check_method, headers_of_any_age, write_data_file
from mpdvae.data.images import Images, Splits
from mpdvae.data.protocols import split_train_validation
from mpdvae.data.published import Arrays, ArraySet, Form, PublishedFile, array_hash
from mpdvae.errors import InputError
from mpdvae.system.untrusted_files import in_short

_TITLE = "OMNIGLOT (28x28, own reduction)"
_ADDRESS = "https://github.com/brendenlake/omniglot/raw/master/python/"
_PARTS = {"images_background": 19_280, "images_evaluation": 13_180}
_SHA256 = {
    "images_background": "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
    "images_evaluation": "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
}
"""SHA-256 of the official archives."""
_HASHES = {
    "images_background": "9f627773624bbd206ae724e64944b8523594e54960e588ee5dac931f443e60ce",
    "images_evaluation": "d46ed91e2994cc0300bea899585332a5c50382517d0a289f035bc99599a35c6f",
}
"""SHA-256 of the reduced images, in the order of their paths."""
_SIDE, _SMALL = 105, 28
_LARGEST_PNG = 1 << 16  # bytes; the drawings have a few hundred
_CHUNK = 500
_VALIDATION_SIZE = 2_345
_KEPT = "omniglot-28x28.npy"
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    MemoryError,
    struct.error,
)


def area_mean(ink: UInt8[np.ndarray, "n 105 105"]) -> UInt8[np.ndarray, "n 28 28"]:
    """Reduces ink 0/1 to 28x28: 255 times the share of each pixel's area that is ink, rounded to nearest."""
    # Lengths in quarters of an original pixel are whole numbers: a reduced pixel spans 15 of the 420, an original one 4.
    quarters = np.arange(4 * _SIDE)
    weight = np.zeros((_SMALL, _SIDE), np.float32)
    np.add.at(weight, (quarters // 15, quarters // 4), 1)
    area = weight @ ink.astype(np.float32) @ weight.T  # of 225; sums of small whole numbers, so exact
    return ((34 * area.astype(np.int64) + 15) // 30).astype(np.uint8)


def read_drawings(path: Path, folder: str, expected: int) -> UInt8[np.ndarray, "n 28 28"]:
    """Reads the `expected` drawings under `folder` in the zip `path`, reduced, in the order of their paths.

    Members are read by name and never written to disk. Raises `InputError` if any is missing or not such a drawing.
    """
    wanted = re.compile(re.escape(folder) + r"/[^/]+/character\d\d/\d{4}_\d\d\.png")
    reduced = np.empty((expected, _SMALL, _SMALL), np.uint8)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if wanted.fullmatch(member.filename)]
            if len(members) != expected:
                raise InputError(
                    f"{path} holds {len(members)} drawings in {folder}, expected {expected}.", topic="downloads"
                )
            members.sort(key=lambda member: member.filename)
            for start in range(0, expected, _CHUNK):
                ink = [_drawing(archive, member, path) for member in members[start : start + _CHUNK]]
                reduced[start : start + _CHUNK] = area_mean(np.stack(ink))
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(
            f"{path} cannot be read as a zip of drawings; it may be truncated ({in_short(error)}).", topic="downloads"
        ) from error
    return reduced


def _drawing(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> UInt8[np.ndarray, "105 105"]:
    """Reads one drawing: 1 is ink."""
    from PIL import Image  # needed only here

    check_method(member)
    where = f"{member.filename} in {path}"
    if member.file_size > _LARGEST_PNG:
        raise InputError(
            f"{where} claims {member.file_size} bytes: expected a drawing, at most {_LARGEST_PNG}.", topic="downloads"
        )
    content = archive.read(member)
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.size == (_SIDE, _SIDE) and image.mode in ("1", "L"):
                return (np.asarray(image.convert("L")) < 128).astype(np.uint8)
            width, height = image.size
            found = f"is {height}x{width}, mode {image.mode}"
    except Image.DecompressionBombError:
        found = "claims hundreds of millions of pixels"
    raise InputError(f"{where} {found}: expected {_SIDE}x{_SIDE}, black and white.", topic="downloads")


def _read(paths: Sequence[Path]) -> Arrays:
    parts = zip(paths, _PARTS.items(), strict=True)
    return {name: read_drawings(path, name, expected) for path, (name, expected) in parts}


def _read_kept(paths: Sequence[Path]) -> Arrays:
    """Returns the reduced images kept next to the archives; if there are none, reads the archives and keeps the result."""
    place = paths[0].with_name(_KEPT)
    kept = _right(place)
    if kept is not None:
        return kept
    arrays = _read(paths)
    if all(array_hash(arrays[name]) == expected for name, expected in _HASHES.items()):
        packed = io.BytesIO()
        np.save(packed, np.concatenate(list(arrays.values())))
        with suppress(InputError):  # a read-only folder: the next call takes as long
            write_data_file(place, packed.getvalue())
    return arrays


def _right(place: Path) -> Arrays | None:
    """Returns the reduced images in `place`, or None if they are missing or wrong."""
    try:
        with headers_of_any_age():
            both = np.load(place, mmap_mode="r", allow_pickle=False)  # allocates no memory for what the header claims
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, OverflowError, tokenize.TokenError):
        return None
    first = _PARTS["images_background"]
    if (
        not isinstance(both, np.ndarray)
        or both.dtype != np.uint8
        or both.shape != (sum(_PARTS.values()), _SMALL, _SMALL)
    ):
        return None
    arrays = dict(zip(_PARTS, (np.array(both[:first]), np.array(both[first:])), strict=True))
    return arrays if all(array_hash(arrays[name]) == expected for name, expected in _HASHES.items()) else None


def _split(arrays: Arrays, validation_size: int | None, split_seed: int) -> Splits:
    background, evaluation = (Images(torch.from_numpy(arrays[name])[:, None]) for name in _PARTS)
    size = _VALIDATION_SIZE if validation_size is None else validation_size
    train, validation = split_train_validation(len(background), size, split_seed)
    return Splits.of("omniglot", _TITLE, background.take(train), background.take(validation), evaluation, split_seed)


OMNIGLOT = ArraySet(
    name="omniglot",
    title=_TITLE,
    folders=("omniglot", "omniglot-py"),
    forms=(
        Form(
            tuple(PublishedFile(f"{p}.zip", f"{_ADDRESS}{p}.zip", f"sha256:{_SHA256[p]}") for p in _PARTS),
            _read,
            quick_read=_read_kept,
        ),
    ),
    split=_split,
    hashes=_HASHES,
)

ENTRY = Entry(
    name=OMNIGLOT.name,
    title=_TITLE,
    images="19,280 + 13,180, 28x28 grey (drawings 105x105)",
    size_mb=41.4,
    licence="MIT (B. Lake)",
    protocol="background / evaluation alphabets; 2,345 of background for validation, by seed",
    load=OMNIGLOT.load,
    is_here=OMNIGLOT.is_here,
    fetch=OMNIGLOT.fetch,
    check=OMNIGLOT.check,
)
