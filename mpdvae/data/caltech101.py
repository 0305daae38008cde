"""Caltech-101 silhouettes (Marlin et al. 2010): outlines of objects, 28x28, black and white, 101 classes.

Format: a MATLAB file; `train_data`, `val_data`, `test_data` (n x 784, each image stored column by column, the object 0) and
`*_labels` (n x 1, from 1). Here images are upright, the object is 1 and stored as 255, and labels begin at 0. Licence: none
known.

Split: given by the file, "split 1", 4,100 / 2,264 / 2,307. Comparable with published numbers that have the object as 1 and
train on the 4,100 only.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mpdvae.data.entry import Entry
from mpdvae.data.images import Images, Splits
from mpdvae.data.mat import as_bytes, read_mat
from mpdvae.data.published import Arrays, ArraySet, Form, PublishedFile, require_own_validation
from mpdvae.errors import InputError

_NAME = "caltech101_silhouettes_28_split1.mat"
_ADDRESS = f"https://people.cs.umass.edu/~marlin/data/{_NAME}"
_DIGEST = "sha256:eb6735e8d84b1850fabc5590124aab1755e90c9fd28123585324398405e1e42a"
_PARTS = ("train", "val", "test")
_HASHES = {
    "train": "cb0a788db5095e4fbefdfa06cae30029507f2582d76d021ad30a08588774ca76",
    "val": "1b9c3b942673aed8b85b69d149013de14565a0f7efd9ebf21655d0c4262a66d6",
    "test": "36fc4a2cc67cf73f78af709ed2228bdd1eb9feb6567b0b6a15fe2c80f83eab3f",
    "train labels": "ceea4e4868a5be4e79438fa7a7e3379fa03bb0aebc9753af708a9aeb3c35d44a",
    "val labels": "facd8da6a7aeeb9cf52a9d00bd6c384cdcf8dc416ed8f812acab132f092b4846",
    "test labels": "ef8b3a783543c23ebbf7b0a4bd128f753de31b31a4decfcdf4a066ef850f5489",
}
"""SHA-256 of the upright images with the object as 1, and of the labels from 1."""
_CLASSES = 101
_TITLE = "Caltech-101 silhouettes"


def read_silhouettes(path: Path) -> Arrays:
    """Reads upright images of 0 and 1 (the object) as [n 28 28], and labels from 1, of all parts. Raises `InputError`."""
    shapes: dict[str, tuple[int | None, int | None]] = {f"{part}_data": (None, 784) for part in _PARTS}
    raw = read_mat(path, shapes | {f"{part}_labels": (None, 1) for part in _PARTS})
    arrays = {}
    for part in _PARTS:
        ground = as_bytes(raw[f"{part}_data"], 1, f"{part}_data in {path}")
        labels = as_bytes(raw[f"{part}_labels"], _CLASSES, f"{part}_labels in {path}")[:, 0]
        if len(labels) != len(ground) or labels.min(initial=1) < 1:
            raise InputError(
                f"{part}_labels in {path} must be {len(ground)} numbers from 1 to {_CLASSES}, one per image.",
                topic="downloads",
            )
        arrays[part] = np.ascontiguousarray((1 - ground).reshape(-1, 28, 28).transpose(0, 2, 1))
        arrays[f"{part} labels"] = labels
    return arrays


def _read(paths: Sequence[Path]) -> Arrays:
    return read_silhouettes(paths[0])


def _split(arrays: Arrays, validation_size: int | None, split_seed: int) -> Splits:
    require_own_validation(_TITLE, validation_size, len(arrays["val"]))
    train, validation, test = (
        Images(
            torch.from_numpy(arrays[part] * np.uint8(255))[:, None],
            torch.from_numpy(arrays[f"{part} labels"].astype(np.int64) - 1),
        )
        for part in _PARTS
    )
    return Splits.of("caltech101", _TITLE, train, validation, test, binarised="black and white as published, object 1")


CALTECH101 = ArraySet(
    name="caltech101",
    title=_TITLE,
    folders=("caltech101", "."),
    forms=(Form((PublishedFile(_NAME, _ADDRESS, _DIGEST),), _read),),
    split=_split,
    hashes=_HASHES,
)

ENTRY = Entry(
    name=CALTECH101.name,
    title=_TITLE,
    images="4,100 + 2,264 + 2,307, 28x28 black and white",
    size_mb=0.9,
    licence="none known (B. Marlin et al.)",
    protocol="all three parts given by the file (split 1); already binary",
    load=CALTECH101.load,
    is_here=CALTECH101.is_here,
    fetch=CALTECH101.fetch,
    check=CALTECH101.check,
)
