"""Lines of equal ELBO in the plane of rate and distortion: rate + distortion is constant, at round numbers.

The number of a line stands on it, as on a map, as close to the upper left end as it covers neither points nor names.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpdvae.report.boxes import Boxes, Room, boxes, joined, text_size

Range = tuple[float, float]
LINES = 12
"""Maximum number of lines."""
PARTS = np.linspace(0.05, 0.95, 19)
"""Where on its line a number may stand, in order of preference."""


@dataclass(frozen=True)
class Contour:
    """One line in the plane, from its upper left to its lower right end, in nats."""

    total: float
    """Rate + distortion."""
    rates: Range
    distortions: Range


@dataclass(frozen=True)
class Mark:
    """The number of a line, and where its middle is, in nats."""

    text: str
    rate: float
    distortion: float


def contours(rates: Range, distortions: Range) -> list[Contour]:
    """Returns lines of equal rate + distortion from border to border of a plane with these axes."""
    least, most = rates[0] + distortions[0], rates[1] + distortions[1]
    step = _round_step((most - least) / LINES)
    found = []
    for multiple in range(math.floor(least / step) + 1, math.ceil(most / step)):
        total = multiple * step
        first, last = max(rates[0], total - distortions[1]), min(rates[1], total - distortions[0])
        if first < last:
            found.append(Contour(total, (first, last), (total - first, total - last)))
    return found


def marked(lines: Sequence[Contour], rates: Range, distortions: Range, room: Room, taken: Boxes) -> list[Mark]:
    """Returns the numbers of the lines that have room for one beside what is taken."""
    marks, kept = [], taken
    for line in lines:
        text = f"{line.total:g}"
        along = line.rates[0] + PARTS * (line.rates[1] - line.rates[0])
        points = np.stack([_fraction(along, rates), _fraction(line.total - along, distortions)], axis=1)
        sizes = np.tile(text_size(text), (len(points), 1))
        tried = boxes(room, points, np.zeros_like(points), sizes)
        free = tried.inside(room) & ~tried.overlap(kept).any(axis=1)
        if free.any():
            first = int(free.argmax())
            marks.append(Mark(text, float(along[first]), float(line.total - along[first])))
            kept = joined([kept, tried[first : first + 1]])
    return marks


def _fraction(values: np.ndarray, limits: Range) -> np.ndarray:
    return (values - limits[0]) / (limits[1] - limits[0])


def _round_step(about: float) -> float:
    """Rounds up to the next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(about))
    return next(step for m in (1, 2, 5, 10) if (step := m * power) >= about)
