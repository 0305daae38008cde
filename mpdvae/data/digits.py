"""scikit-learn's digits: 1,797 handwritten digits, 8x8, for tests and first experiments. They ship with scikit-learn.

Their 17 levels 0..16 become grey levels 0..255: round(255 level / 16). The 300 test images are always the same: the last
300 of the 1,797 shuffled with the paper's seed, 524287; the other 1,497 are split by the seed of the protocol, 200 of them
for validation.
"""

from pathlib import Path

import numpy as np
import torch

from mpdvae.data.entry import Entry
from mpdvae.data.files import checksum
from mpdvae.data.images import Images, Splits
from mpdvae.data.progress import Listener
from mpdvae.data.protocols import PAPER_SPLIT_SEED, split_train_validation
from mpdvae.errors import InputError

_TEST_SIZE = 300
_VALIDATION_SIZE = 200
_SHA256 = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"


def load_digits(root: Path, validation_size: int | None, split_seed: int) -> Splits:
    """Loads the digits, split 1,297 / 200 / 300 by default. `root` is ignored."""
    levels, labels = _arrays()
    grey = np.round(levels.astype(np.float64) * 255 / 16).astype(np.uint8)
    images = Images(torch.from_numpy(grey)[:, None], torch.from_numpy(labels))
    rest, test = split_train_validation(len(images), _TEST_SIZE, PAPER_SPLIT_SEED)
    size = _VALIDATION_SIZE if validation_size is None else validation_size
    train, validation = split_train_validation(len(rest), size, split_seed)
    parts = (images.take(rest[train]), images.take(rest[validation]), images.take(test))
    return Splits.of("digits", "scikit-learn digits", *parts, split_seed)


def _arrays() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits  # takes a second to import, needed only here

    rows, labels = load_digits(return_X_y=True)
    return np.asarray(rows, np.uint8).reshape(-1, 8, 8), np.asarray(labels, np.int64)


def _check(root: Path) -> str:
    given = checksum(_arrays()[0].tobytes())
    if given != _SHA256:
        raise InputError(
            f"scikit-learn's digits have SHA-256 {given}, expected {_SHA256}: install another version of scikit-learn.",
            topic="downloads",
        )
    return f"scikit-learn digits: the images match the known checksum (SHA-256 of the levels as uint8)\n  {given}"


def _nothing_to_fetch(root: Path, listener: Listener) -> None:
    listener.say("scikit-learn digits: included in scikit-learn, nothing to fetch")


ENTRY = Entry(
    name="digits",
    title="scikit-learn digits",
    images="1,797, 8x8 grey",
    size_mb=0.1,
    licence="BSD-3-Clause (scikit-learn; UCI, E. Alpaydin, C. Kaynak)",
    protocol="1,297 / 200 / 300 by seed, the test images fixed",
    load=load_digits,
    is_here=lambda root: True,
    fetch=_nothing_to_fetch,
    check=_check,
)
