"""CIFAR-10 (Krizhevsky 2009): 60,000 colour photographs, 32x32, ten classes.

Formats, any of these: `cifar-10-python.tar.gz` or its folder `cifar-10-batches-py` (torchvision's layout), pickles of a
dictionary with `data` (n x 3,072 bytes: channel, height, width) and `labels`, read without executing anything in them; or
`cifar-10-binary.tar.gz`, records of a label byte and 3,072 pixel bytes. Archives are read member by member, by exact name,
and never unpacked to disk. Licence: none stated (cite Krizhevsky 2009).

The checksum does not depend on the order of the images: SHA-256 over the sorted digests of all images, each as height,
width, channel. Classes 0..9: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.

Split: official test images; 2,000 training images for validation, by seed, as in the paper's code (48,000 / 2,000 /
10,000). Bits per dimension are comparable with published numbers for unmodified levels (`--data.binarisation levels`).
"""

import gzip
import zlib
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from mpdvae.data.entry import Entry
from mpdvae.data.files import read_whole
from mpdvae.data.images import Images, Splits
from mpdvae.data.protocols import split_train_validation
from mpdvae.data.published import Arrays, ArraySet, Form, PublishedFile
from mpdvae.data.tar import DamagedArchive, read_files
from mpdvae.data.unpickle import unpickle_arrays
from mpdvae.errors import InputError
from mpdvae.system.untrusted_files import in_short

_ADDRESS = "https://www.cs.toronto.edu/~kriz/"
_PYTHON = PublishedFile(
    "cifar-10-python.tar.gz",
    f"{_ADDRESS}cifar-10-python.tar.gz",
    "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
)
_BINARY = PublishedFile(
    "cifar-10-binary.tar.gz",
    f"{_ADDRESS}cifar-10-binary.tar.gz",
    "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
_PYTHON_MEMBERS = tuple(
    f"cifar-10-batches-py/{name}" for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
)
_BINARY_MEMBERS = tuple(
    f"cifar-10-batches-bin/{name}.bin" for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
)
_HASHES = {
    "train": "6bebf6967ad9d2d12d9cf95f54164bd95a0954d3177f1285fa8dd3673671ca76",
    "test": "eb97bdfceb97fec3832a6abdbbf9f16340a510375c77ce1b32c45de1e6d88318",
}
_PIXELS = 3 * 32 * 32
_LARGEST_MEMBER = 40_000_000  # bytes; a batch has 31 million
_LARGEST_ARCHIVE = 1 << 28  # bytes unpacked; the larger one has 186 million
_VALIDATION_SIZE = 2_000

Batch = tuple[UInt8[np.ndarray, "n 3 32 32"], UInt8[np.ndarray, " n"]]


def order_independent_hash(images: UInt8[np.ndarray, "n 3 32 32"]) -> str:
    """Returns the SHA-256 over the sorted SHA-256 digests of the images, each with its channels last."""
    channels_last = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return sha256(b"".join(sorted(sha256(image).digest() for image in channels_last))).hexdigest()


class _Bounded:
    """The decompressed content of an archive, up to a bound."""

    def __init__(self, unpacked: gzip.GzipFile, path: Path) -> None:
        self.unpacked, self.path, self.left = unpacked, path, _LARGEST_ARCHIVE

    def read(self, size: int) -> bytes:
        content = self.unpacked.read(min(size, self.left))
        self.left -= len(content)
        if not self.left:
            raise InputError(
                f"{self.path} unpacks to more than {_LARGEST_ARCHIVE} bytes: it is a different archive.",
                topic="downloads",
            )
        return content


def read_members(path: Path, names: Sequence[str]) -> list[bytes]:
    """Reads the files `names` in the archive `path`, in this order. Raises `InputError` if one is missing or too large."""
    try:
        with gzip.open(path) as unpacked:
            contents = read_files(_Bounded(unpacked, path), names, _LARGEST_MEMBER)
    except InputError:
        raise
    except (DamagedArchive, EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"{path} cannot be read as a tar.gz archive; it may be truncated ({in_short(error)}).", topic="downloads"
        ) from error
    if missing := [name for name in names if name not in contents]:
        raise InputError(
            f"{path} holds no {', '.join(missing)}: it is truncated or a different archive.", topic="downloads"
        )
    return [contents[name] for name in names]


def batch_from_pickle(content: bytes, where: str) -> Batch:
    """Reads images and labels from one of the pickles. Raises `InputError` if it holds anything else."""
    held = unpickle_arrays(content, where)
    data, labels = (held.get("data"), held.get("labels")) if isinstance(held, dict) else (None, None)
    if not isinstance(data, np.ndarray) or not isinstance(labels, list):
        raise InputError(
            f"{where} is not a CIFAR-10 batch: expected an array `data` and a list `labels`.", topic="downloads"
        )
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != _PIXELS:
        raise InputError(
            f"data in {where} is {data.dtype} of shape {data.shape}: expected rows of {_PIXELS} bytes.",
            topic="downloads",
        )
    if len(labels) != len(data) or not all(isinstance(label, int) and 0 <= label < 10 for label in labels):
        raise InputError(f"labels in {where} must be {len(data)} numbers 0..9, one per image.", topic="downloads")
    return data.reshape(-1, 3, 32, 32), np.array(labels, np.uint8)


def batch_from_records(content: bytes, where: str) -> Batch:
    """Reads images and labels from one of the binary files. Raises `InputError` if it holds anything else."""
    if not content or len(content) % (1 + _PIXELS):
        raise InputError(
            f"{where} is truncated: {len(content)} bytes are not a whole number of records of {1 + _PIXELS} bytes.",
            topic="downloads",
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    if records[:, 0].max() > 9:
        raise InputError(f"{where} has labels up to {records[:, 0].max()}: expected 0..9.", topic="downloads")
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].copy()


def _parts(contents: Sequence[bytes], names: Sequence[str], batch: Callable[[bytes, str], Batch]) -> Arrays:
    """Joins the batches; the last one is the test set."""
    batches = [batch(content, name) for content, name in zip(contents, names, strict=True)]
    arrays = {"test": batches[-1][0], "test labels": batches[-1][1]}
    for index, name in enumerate(("train", "train labels")):
        arrays[name] = np.concatenate([part[index] for part in batches[:-1]])
    for name in ("train labels", "test labels"):
        if len(set(np.bincount(arrays[name], minlength=10))) > 1:
            raise InputError(
                f"CIFAR-10, {name}: expected the same number of images of each class, got other labels.",
                topic="downloads",
            )
    return arrays


def _read_python(paths: Sequence[Path]) -> Arrays:
    names = [f"{name} in {paths[0]}" for name in _PYTHON_MEMBERS]
    return _parts(read_members(paths[0], _PYTHON_MEMBERS), names, batch_from_pickle)


def _read_binary(paths: Sequence[Path]) -> Arrays:
    names = [f"{name} in {paths[0]}" for name in _BINARY_MEMBERS]
    return _parts(read_members(paths[0], _BINARY_MEMBERS), names, batch_from_records)


def _read_folder(paths: Sequence[Path]) -> Arrays:
    return _parts([read_whole(path) for path in paths], [str(path) for path in paths], batch_from_pickle)


def _split(arrays: Arrays, validation_size: int | None, split_seed: int) -> Splits:
    train, test = (
        Images(
            torch.from_numpy(np.ascontiguousarray(arrays[part])),
            torch.from_numpy(arrays[f"{part} labels"].astype(np.int64)),
        )
        for part in ("train", "test")
    )
    size = _VALIDATION_SIZE if validation_size is None else validation_size
    kept, aside = split_train_validation(len(train), size, split_seed)
    return Splits.of("cifar10", "CIFAR-10", train.take(kept), train.take(aside), test, split_seed)


CIFAR10 = ArraySet(
    name="cifar10",
    title="CIFAR-10",
    folders=("cifar10", "."),
    forms=(
        Form((_PYTHON,), _read_python),
        Form((_BINARY,), _read_binary),
        Form(tuple(PublishedFile(name) for name in _PYTHON_MEMBERS), _read_folder),
    ),
    split=_split,
    hashes=_HASHES,
    hash_of=order_independent_hash,
)

ENTRY = Entry(
    name=CIFAR10.name,
    title=CIFAR10.title,
    images="50,000 + 10,000, 32x32 colour",
    size_mb=170.5,
    licence="none stated (A. Krizhevsky)",
    protocol="official test; 2,000 training images for validation, by seed (the paper's)",
    load=CIFAR10.load,
    is_here=CIFAR10.is_here,
    fetch=CIFAR10.fetch,
    check=CIFAR10.check,
)
