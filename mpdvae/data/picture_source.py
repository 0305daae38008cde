"""Pictures of files, read together or a few at a time as levels [n channel height width].

Whether a palette stands for grey or colour is a matter of all pictures: palettes that hold only grey are grey, unless there
is colour beside them.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt

from mpdvae.data.picture_file import Picture, PictureReader
from mpdvae.data.picture_levels import IN_WORDS, Change
from mpdvae.data.preparation import AS_STORED, Preparation
from mpdvae.errors import InputError
from mpdvae.system.available_memory import check_room

_NAMES = {1: "grey", 3: "colour"}


class PictureSource:
    """Reads `pictures`, of which there is at least one. For one thread at a time."""

    def __init__(
        self, pictures: Sequence[Picture], preparation: Preparation = AS_STORED, channels: int | None = None
    ) -> None:
        """Reads the first picture.

        Arguments:
            pictures: what to read.
            preparation: what is done to each.
            channels: channels of a model, 3 if palettes of grey shall be read as colour.

        Raises:
            InputError: if some are grey and others colour, or the first one cannot be read.
        """
        self.pictures, self.preparation = pictures, preparation
        self.reader = PictureReader(preparation)
        self._changes: Counter[Change] = Counter()
        self._read_before = np.zeros(len(pictures), np.bool_)
        if preparation.channels is None and self._have_colour(channels):
            self.reader.channels = 3
        self.image_shape = self._levels(0).shape

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, rows: np.ndarray) -> UInt[np.ndarray, "n channel height width"]:
        """Returns the pictures with these numbers, in this order. Raises `InputError` for one that is damaged, or unlike the
        first."""
        pixels = np.empty((len(rows), *self.image_shape), self.preparation.dtype)
        for place, row in enumerate(rows):
            pixels[place] = self._alike(int(row))
        return pixels

    def read_all(self) -> UInt[np.ndarray, "n channel height width"]:
        """Returns all pictures. Raises `InputError` as `read` does, or if there is no room for them in memory."""
        height, width = self.image_shape[1:]
        size = len(self) * int(np.prod(self.image_shape)) * self.preparation.bits // 8
        check_room(size, f"{self.pictures[0].file.parent} with {len(self)} pictures of {height}x{width}")
        pixels = self.read(np.arange(len(self)))
        self.reader.close()
        return pixels

    def changes(self) -> list[str]:
        """Returns what was changed in the pictures read so far, counted, in words."""
        return [
            words.format(f"{self._changes[change]:,}", background=self.preparation.background)
            for change, words in IN_WORDS.items()
            if self._changes[change]
        ]

    def _have_colour(self, channels: int | None) -> bool:
        """Returns whether palettes of grey stand for colour here. Raises `InputError` if some of the other pictures are grey
        and others colour."""
        first: dict[str, Picture] = {}
        for picture in self.pictures:
            first.setdefault(picture.kind, picture)
        if "grey" in first and "colour" in first:
            kind, other_kind = (kind for kind in first if kind != "palette")
            raise _mixed(first[kind], kind, first[other_kind], other_kind)
        if "palette" not in first or "grey" in first:
            return False
        return "colour" in first or channels == 3 or any(len(self._levels(row)) == 3 for row in range(len(self)))

    def _alike(self, row: int) -> np.ndarray:
        levels, picture, first = self._levels(row), self.pictures[row], self.pictures[0]
        (channel, height, width), expected = levels.shape, self.image_shape
        if channel != expected[0]:
            raise _mixed(first, _NAMES[expected[0]], picture, _NAMES[channel])
        if (height, width) != expected[1:]:
            raise InputError(
                f"{picture} is {height}x{width} (height x width), but {first} is {expected[1]}x{expected[2]}: resize all "
                "pictures to one size, such as by --data.resize 32.",
                topic="own-data",
            )
        return levels

    def _levels(self, row: int) -> np.ndarray:
        found = self.reader.read(self.pictures[row])
        if not self._read_before[row]:
            self._changes.update(found.changes)
            self._read_before[row] = True
        return found.levels


def _mixed(first: Picture, kind: str, other: Picture, other_kind: str) -> InputError:
    return InputError(
        f"{other} is {other_kind}, but {first} is {kind}: make all pictures grey or all colour, such as by --data.colours "
        "grey.",
        topic="own-data",
    )
