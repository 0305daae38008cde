"""Rectangles in a chart whose width is known within limits only, and whether they overlap.

A chart of fixed height is as wide as the reader's window allows. A box is as large as its text and moves with its point,
which lies at a fraction of the width. The horizontal gap between two boxes is linear in the width: boxes that are apart, on
the same sides, at both limits are apart at every width in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FONT = 11
"""Size of labels, in pixels."""
LINE = 15.0
"""Height of a label, in pixels."""
NARROW, WIDE = frozenset("ijlftrI-.,:;'|!()[]/ "), frozenset("mwMW@%&")
ASIAN = 0x2E7F
"""Characters beyond this one are as wide as high."""
EMS = {"narrow": 0.45, "wide": 1.0, "other": 0.68}
"""Width of a character relative to the size of the font: a little more than in the widest of the common fonts."""
PADDING = 3.0
"""Sum of both margins of a label, in pixels."""


@dataclass(frozen=True)
class Room:
    """The area between the axes of a chart, in pixels."""

    narrowest: float
    widest: float
    height: float


@dataclass(frozen=True)
class Boxes:
    """Rectangles: left and right borders at the least and at the greatest width; bottom and top, from below. Shape (n,)."""

    left: np.ndarray
    right: np.ndarray
    far_left: np.ndarray
    far_right: np.ndarray
    bottom: np.ndarray
    top: np.ndarray

    def __len__(self) -> int:
        return len(self.left)

    def __getitem__(self, chosen: slice | np.ndarray) -> "Boxes":
        return Boxes(*(column[chosen] for column in self._columns))

    def overlap(self, others: "Boxes") -> np.ndarray:
        """Returns whether each of n boxes overlaps each of m others at some width; shape (n, m)."""
        mine, theirs = [c[:, None] for c in self._columns], others._columns
        apart = (mine[4] >= theirs[5]) | (mine[5] <= theirs[4])
        apart |= (mine[0] >= theirs[1]) & (mine[2] >= theirs[3])
        apart |= (mine[1] <= theirs[0]) & (mine[3] <= theirs[2])
        return ~apart

    def inside(self, room: Room) -> np.ndarray:
        """Returns whether each box is inside a chart at every width; shape (n,)."""
        left, low = np.minimum(self.left, self.far_left), self.bottom
        fits = (self.right <= room.narrowest) & (self.far_right <= room.widest) & (self.top <= room.height)
        return fits & (left >= 0) & (low >= 0)

    @property
    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.left, self.right, self.far_left, self.far_right, self.bottom, self.top


def boxes(room: Room, points: np.ndarray, middles: np.ndarray, sizes: np.ndarray) -> Boxes:
    """Returns rectangles that move with points.

    Arguments:
        room: the chart.
        points: fractions of width and height, shape (n, 2), from the lower left corner.
        middles: middle of each rectangle relative to its point, in pixels, shape (n, 2).
        sizes: widths and heights in pixels, shape (n, 2).
    """
    left, right = middles[:, 0] - sizes[:, 0] / 2, middles[:, 0] + sizes[:, 0] / 2
    near, far, y = points[:, 0] * room.narrowest, points[:, 0] * room.widest, points[:, 1] * room.height + middles[:, 1]
    return Boxes(near + left, near + right, far + left, far + right, y - sizes[:, 1] / 2, y + sizes[:, 1] / 2)


def squares(room: Room, points: Sequence[tuple[float, float]], radius: float) -> Boxes:
    """Returns the rectangles of markers of this radius, in pixels."""
    centres = np.array(points, dtype=float).reshape(-1, 2)
    return boxes(room, centres, np.zeros_like(centres), np.full_like(centres, 2 * radius))


def joined(parts: Sequence[Boxes]) -> Boxes:
    """Returns all rectangles in one object; at least one part is needed."""
    return Boxes(*(np.concatenate(columns) for columns in zip(*(part._columns for part in parts), strict=True)))


def text_size(text: str) -> tuple[float, float]:
    """Returns width and height of a label in pixels; never less than in the fonts in which pages are shown."""
    ems = sum(EMS["narrow" if c in NARROW else "wide" if c in WIDE or ord(c) > ASIAN else "other"] for c in text)
    return ems * FONT + PADDING, LINE
