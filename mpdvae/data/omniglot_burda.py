"""OMNIGLOT in the form on which likelihoods are published: Burda's `chardata.mat` (2015), 28x28, grey levels.

Format: a MATLAB file; `data` (784 x 24,345) and `testdata` (784 x 8,070), grey in 0..1, each image stored column by column;
`target` and `testtarget`, one column per image, 1 at its class. How the drawings were reduced is not known. Grey levels
become bytes, round(255 x). The file is identified by its git blob hash. Licence: none stated for the file; MIT for the
drawings (B. Lake).

Two names: `omniglot-burda`, images upright (IWAE, VampPrior); `omniglot-burda-lying`, images on their side, as the paper's
released code loads them, which omits the transposition. To an autoregressive decoder these are different data.

Split: official test images; 2,345 training images for validation, by seed, as in the released code (22,000 / 2,345 /
8,070); IWAE and VampPrior set 1,345 aside. Comparable with published OMNIGLOT numbers in the same orientation.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mpdvae.data.entry import Entry
from mpdvae.data.images import Images, Splits
from mpdvae.data.mat import read_mat
from mpdvae.data.protocols import split_train_validation
from mpdvae.data.published import Arrays, ArraySet, Form, PublishedFile
from mpdvae.errors import InputError

_FILE = PublishedFile(
    "chardata.mat",
    "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat",
    "git-blob:016a3536ffe5e1d38e42563a18d7a78bfaf643ec",
)
_SIDE = 28
_PARTS = {"train": ("data", "target"), "test": ("testdata", "testtarget")}
_VALIDATION_SIZE = 2_345


def read_chardata(path: Path, lying: bool) -> Arrays:
    """Reads images as bytes [n 28 28], and class numbers, of both parts. Raises `InputError` for any other content."""
    shapes: dict[str, tuple[int | None, int | None]] = {}
    for images, target in _PARTS.values():
        shapes |= {images: (_SIDE * _SIDE, None), target: (None, None)}
    raw = read_mat(path, shapes)
    arrays = {}
    for part, (images, target) in _PARTS.items():
        x, one_hot = raw[images], raw[target]
        if not ((x >= 0) & (x <= 1)).all():  # false for NaN as well
            raise InputError(f"{images} in {path} has NaN or values outside 0..1.", topic="downloads")
        if one_hot.shape[1] != x.shape[1]:
            raise InputError(
                f"{path} holds {x.shape[1]} images in {images}, but {one_hot.shape[1]} in {target}.", topic="downloads"
            )
        levels = np.round(255 * x.astype(np.float64)).astype(np.uint8).T.reshape(-1, _SIDE, _SIDE)
        arrays[part] = np.ascontiguousarray(levels if lying else levels.transpose(0, 2, 1))
        arrays[f"{part} labels"] = one_hot.argmax(axis=0).astype(np.int64)
    return arrays


def _read(paths: Sequence[Path], lying: bool) -> Arrays:
    return read_chardata(paths[0], lying)


def _split(arrays: Arrays, validation_size: int | None, split_seed: int, name: str, title: str) -> Splits:
    train, test = (
        Images(torch.from_numpy(arrays[part])[:, None], torch.from_numpy(arrays[f"{part} labels"])) for part in _PARTS
    )
    size = _VALIDATION_SIZE if validation_size is None else validation_size
    kept, aside = split_train_validation(len(train), size, split_seed)
    return Splits.of(name, title, train.take(kept), train.take(aside), test, split_seed)


def _set(name: str, title: str, lying: bool) -> ArraySet:
    return ArraySet(
        name=name,
        title=title,
        folders=("omniglot-burda", "."),
        forms=(Form((_FILE,), partial(_read, lying=lying), by_digest=True),),
        split=partial(_split, name=name, title=title),
    )


BURDA = _set("omniglot-burda", "OMNIGLOT (Burda's 28x28)", lying=False)
BURDA_LYING = _set("omniglot-burda-lying", "OMNIGLOT (Burda's 28x28, lying)", lying=True)


def _entry(images: ArraySet, orientation: str) -> Entry:
    return Entry(
        name=images.name,
        title=images.title,
        images=f"24,345 + 8,070, 28x28 grey, {orientation}",
        size_mb=None,
        licence="none stated for the file; drawings MIT (B. Lake)",
        protocol="official test; 2,345 training images for validation, by seed (the paper's)",
        load=images.load,
        is_here=images.is_here,
        fetch=images.fetch,
        check=images.check,
    )


ENTRY = _entry(BURDA, "upright")
ENTRY_LYING = _entry(BURDA_LYING, "as the paper's code loads them")
