"""Static MNIST (Larochelle): MNIST binarised once, by Salakhutdinov & Murray (2008), as black and white images.

Format: three text files, plain or gzipped; one image per line, 784 digits 0 or 1 separated by single spaces, the rows of
28x28 one after the other. Here 0 and 1 become 0 and 255, which binarisation reproduces exactly. Licence: none stated for
the files; derived from MNIST (CC BY-SA 3.0).

Split: given by the files, 50,000 / 10,000 / 10,000. Comparable with results labelled "static" or "fixed binarisation"
(NADE, DARN, VLAE's static MNIST), not with dynamic MNIST, which is about 2 nats away. The test file is sorted by digit (it
begins with 980 zeros), so a prefix of it is not a random sample. The files have no labels, so there are none here.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from mpdvae.data.entry import Entry
from mpdvae.data.files import read_unpacked
from mpdvae.data.images import Images, Splits
from mpdvae.data.published import Arrays, ArraySet, Form, PublishedFile, require_own_validation
from mpdvae.errors import InputError

_ADDRESS = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
_PARTS = {
    "train": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    "valid": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    "test": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
}
"""SHA-256 of the plain files."""
_HASHES = {
    "train": "43490d4d6ac9002727af4426d8748609fdb7e4094fa65ad8d681ea60082a7a5a",
    "valid": "069b4f0beb389b776478c3e872b4df71c95ac4be64d7cbe6d32e24ebac8e6d5e",
    "test": "ca0294c3b8d984c7a1dc891015a8eea6f37bae59a34e35ea0fc8c47110a8dd86",
}
"""SHA-256 of the arrays of 0 and 1."""
_TITLE = "static MNIST"
_SIDE = 28
_LINE = 2 * _SIDE * _SIDE  # bytes: each digit is followed by a space or the end of the line
_LARGEST = 100_000_000  # bytes unpacked; the largest file has 78,400,000


def read_amat(path: Path) -> UInt8[np.ndarray, "n 28 28"]:
    """Reads the images of 0 and 1 from the text file `path`, plain or gzipped. Raises `InputError` for other content."""
    content = read_unpacked(path, _LARGEST)
    if not content or len(content) % _LINE:
        raise InputError(
            f"{path} is truncated or not an .amat file: {len(content)} bytes are not a whole number of lines of {_LINE} "
            "bytes.",
            topic="downloads",
        )
    lines = np.frombuffer(content, np.uint8).reshape(-1, _LINE // 2, 2)
    digits = lines[:, :, 0] - np.uint8(ord("0"))
    blanks = (lines[:, :-1, 1] == ord(" ")).all(1) & (lines[:, -1, 1] == ord("\n"))
    wrong = ~blanks | (digits > 1).any(1)
    if wrong.any():
        raise InputError(
            f"{path}, line {wrong.argmax() + 1}: expected {_LINE // 2} digits 0 or 1, separated by single spaces.",
            topic="downloads",
        )
    return digits.reshape(-1, _SIDE, _SIDE)


def _read(paths: Sequence[Path]) -> Arrays:
    return {part: read_amat(path) for part, path in zip(_PARTS, paths, strict=True)}


def _split(arrays: Arrays, validation_size: int | None, split_seed: int) -> Splits:
    require_own_validation(_TITLE, validation_size, len(arrays["valid"]))
    train, validation, test = (Images(torch.from_numpy(arrays[part] * np.uint8(255))[:, None]) for part in _PARTS)
    return Splits.of("static-mnist", _TITLE, train, validation, test, binarised="static binarisation by Larochelle")


def _file(part: str, ending: str = "") -> PublishedFile:
    name = f"binarized_mnist_{part}.amat"
    return PublishedFile(name + ending) if ending else PublishedFile(name, _ADDRESS + name, f"sha256:{_PARTS[part]}")


STATIC_MNIST = ArraySet(
    name="static-mnist",
    title=_TITLE,
    folders=("static-mnist", "."),
    forms=tuple(Form(tuple(_file(part, ending) for part in _PARTS), _read) for ending in ("", ".gz")),
    split=_split,
    hashes=_HASHES,
)

ENTRY = Entry(
    name=STATIC_MNIST.name,
    title=_TITLE,
    images="50,000 + 10,000 + 10,000, 28x28 black and white",
    size_mb=109.8,
    licence="none stated (H. Larochelle); from MNIST, CC BY-SA 3.0",
    protocol="all three parts given by the files; already binary",
    load=STATIC_MNIST.load,
    is_here=STATIC_MNIST.is_here,
    fetch=STATIC_MNIST.fetch,
    check=STATIC_MNIST.check,
)
