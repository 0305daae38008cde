"""Frey faces (S. Roweis): 1,965 consecutive frames of a video of Brendan Frey's face, 28 high, 20 wide, grey levels.

Formats, any of these: `freyfaces.npz` with an array x [1,965 28 20]; the original `frey_rawface.mat` with `ff`, 560 x
1,965; the widespread `freyfaces.pkl`, a list of one array 1,965 x 560. All hold the same bytes. Licence: none known.

Split: 1,565 / 200 / 200 at random by the split seed, as VampPrior does with the seed of its run. No fixed split exists, and
a random one puts neighbouring frames on both sides, so comparisons with published numbers are rough.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from mpdvae.data.entry import Entry
from mpdvae.data.files import read_whole
from mpdvae.data.images import Images, Splits
from mpdvae.data.mat import as_bytes, read_mat
from mpdvae.data.npz import read_npz
from mpdvae.data.protocols import split_train_validation
from mpdvae.data.published import Arrays, ArraySet, Form, PublishedFile
from mpdvae.data.unpickle import unpickle_arrays
from mpdvae.errors import InputError

_TITLE = "Frey faces"
_HEIGHT, _WIDTH = 28, 20
_HASH = "2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78"
_VALIDATION_SIZE, _TEST_SIZE = 200, 200
_LARGEST_PICKLE = 1 << 24  # bytes; written as text, the published one has four million
_PICKLE = PublishedFile(
    "freyfaces.pkl",
    "https://github.com/jmtomczak/vae_vampprior/raw/master/datasets/Freyfaces/freyfaces.pkl",
    "md5:8db27fd8d4be5ade7bdb05b488ae8aa2",
)


def faces_from_npz(path: Path) -> UInt8[np.ndarray, "n 28 20"]:
    """Reads the frames from the numpy archive `path`. Raises `InputError` if it holds anything else."""
    parts = read_npz(path)
    if "all" not in parts:
        raise InputError(f"{path} holds x_train and x_test: expected an array x.", topic="downloads")
    return _frames(parts["all"].pixels.numpy(), f"x in {path}")


def faces_from_mat(path: Path) -> UInt8[np.ndarray, "n 28 20"]:
    """Reads the frames from the original MATLAB file. Raises `InputError` if it holds anything else."""
    columns = read_mat(path, {"ff": (_HEIGHT * _WIDTH, None)})["ff"]
    return _frames(as_bytes(columns.T, 255, f"ff in {path}"), f"ff in {path}")


def faces_from_pickle(path: Path) -> UInt8[np.ndarray, "n 28 20"]:
    """Reads the frames from the pickle, without executing anything in it. Raises `InputError` if it holds anything else."""
    held = unpickle_arrays(read_whole(path, _LARGEST_PICKLE), str(path))
    rows = held[0] if isinstance(held, list | tuple) and len(held) == 1 else held
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8:
        raise InputError(f"{path} holds no array of bytes: expected a list of one, 1,965 x 560.", topic="downloads")
    return _frames(rows, str(path))


def _frames(x: np.ndarray, where: str) -> np.ndarray:
    """Returns `x` as [n 28 20]."""
    if x.ndim < 2 or x.shape[1:] not in ((_HEIGHT * _WIDTH,), (_HEIGHT, _WIDTH), (1, _HEIGHT, _WIDTH)):
        raise InputError(
            f"{where} is {' x '.join(map(str, x.shape))}: expected images of {_HEIGHT} x {_WIDTH}.", topic="downloads"
        )
    return np.ascontiguousarray(x.reshape(-1, _HEIGHT, _WIDTH))


def _split(arrays: Arrays, validation_size: int | None, split_seed: int) -> Splits:
    images = Images(torch.from_numpy(arrays["x"])[:, None])
    size = _VALIDATION_SIZE if validation_size is None else validation_size
    train, rest = split_train_validation(len(images), size + _TEST_SIZE, split_seed)
    parts = (images.take(train), images.take(rest[:size]), images.take(rest[size:]))
    return Splits.of("frey-faces", _TITLE, *parts, split_seed)


def _form(file: PublishedFile, read) -> Form:
    def read_first(paths: Sequence[Path]) -> Arrays:
        return {"x": read(paths[0])}

    return Form((file,), read_first)


FREY_FACES = ArraySet(
    name="frey-faces",
    title=_TITLE,
    folders=("frey-faces", "."),
    forms=(
        _form(PublishedFile("freyfaces.npz"), faces_from_npz),
        _form(PublishedFile("frey_rawface.mat"), faces_from_mat),
        _form(_PICKLE, faces_from_pickle),
    ),
    split=_split,
    hashes={"x": _HASH},
)

ENTRY = Entry(
    name=FREY_FACES.name,
    title=_TITLE,
    images="1,965, 28x20 grey",
    size_mb=1.1,
    licence="none known (S. Roweis, B. Frey)",
    protocol="1,565 / 200 / 200 by seed, including the test images",
    load=FREY_FACES.load,
    is_here=FREY_FACES.is_here,
    fetch=FREY_FACES.fetch,
    check=FREY_FACES.check,
)
