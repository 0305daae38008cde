"""Places the names of points in a chart so that they overlap neither each other nor anything else that is drawn.

A name stands beside its point if there is room. Otherwise a line leads to it from the point; otherwise a letter takes its
place, beside the point or with a line, and a legend says whose it is. Where a point finds no room at all, it takes the place
that costs the fewest others theirs, and these look for another one (min-conflicts, Minton et al. 1992): a crowd is solved
from within. After a limited number of such moves, points without room are in the legend only.

Room is judged for all widths of the chart at once (`boxes`). Lines cross no text; they cross markers and other lines only
where there is no other way.
"""

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase

import numpy as np

from mpdvae.report.boxes import PADDING, Boxes, Room, boxes, joined, squares, text_size

Point = tuple[float, float]
"""A position as fractions of width and height, from the lower left corner."""

MARKER, DOT = 6.5, 3.0
"""Radius of the marker of a model and of a seed, in pixels."""
BESIDE = ((0, -1), (0, 1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""Directions from a point to a text beside it, in order of preference."""
NEAR, FAR = np.arange(10, 60, 8), np.arange(6, 150, 8)
"""Distances that a line to a name and to a letter may bridge, in pixels."""
ANGLES = np.arange(20) * math.pi / 10
"""Directions of lines."""
PIECE = 4.0
"""Length of the pieces of a line that are compared with texts, in pixels."""
MOVES = 12
"""Maximum number of times that a place is looked for, relative to the number of points."""


@dataclass(frozen=True)
class Label:
    """What stands in the chart for one point, and where."""

    text: str
    """The name, or its letter in the legend; empty if there is no room for either."""
    named: bool
    """Whether the text is the name, so that the legend need not repeat it."""
    shift: tuple[float, float] = (0.0, 0.0)
    """From the point to the middle of the text, in pixels, to the right and up."""
    led: bool = False
    """Whether a line leads from the point to the text."""

    @property
    def side(self) -> str:
        """The side of the text that is fixed: the one towards the point, since fonts may be narrower than the box."""
        wide, _ = text_size(self.text)
        return "center" if abs(self.shift[0]) < wide / 2 else "left" if self.shift[0] > 0 else "right"

    @property
    def end(self) -> tuple[float, float]:
        """From the point to the middle of that side, in pixels, to the right and up."""
        inset = (text_size(self.text)[0] - PADDING) / 2
        return self.shift[0] + {"left": -inset, "center": 0.0, "right": inset}[self.side], self.shift[1]


@dataclass(frozen=True)
class Places:
    """Where the label of one point may stand as far as other labels permit it, best first."""

    labels: tuple[Label, ...]
    texts: Boxes
    """One for each label."""
    lines: Boxes
    """Pieces of the lines."""
    owners: np.ndarray
    """Index of the label that each piece belongs to."""

    def one(self, index: int) -> tuple[Boxes, Boxes]:
        """Returns the text and the line of one label."""
        return self.texts[index : index + 1], self.lines[self.owners == index]


def placed(points: Sequence[Point], names: Sequence[str], room: Room, dots: Sequence[Point] = ()) -> list[Label]:
    """Returns the label of each point.

    Arguments:
        points: positions of large markers.
        names: the texts.
        room: the chart.
        dots: positions of small markers, which have no names.
    """
    if not points:
        return []
    markers = _markers(room, points, dots)
    longest = "W" * len(_letters(len(points) - 1))
    places = [_places(point, name, longest, room, markers) for point, name in zip(points, names, strict=True)]
    chosen, lost = dict[int, int](), Counter[int]()
    waiting = deque(sorted(range(len(points)), key=lambda i: points[i]))
    for _ in range(MOVES * len(points)):
        if not waiting:
            break
        index = waiting.popleft()
        if len(places[index].labels):
            cost = _cost(places, chosen, index) * (1 + np.array([lost[j] for j in chosen]))
            best = int(cost.sum(axis=1).argmin())
            for other, hit in zip(list(chosen), cost[best] > 0, strict=True):
                if hit:
                    del chosen[other]
                    lost[other] += 1
                    waiting.append(other)
            chosen[index] = best
    return _lettered([places[i].labels[chosen[i]] if i in chosen else Label("", False) for i in range(len(points))])


def drawn(points: Sequence[Point], labels: Sequence[Label], room: Room, dots: Sequence[Point] = ()) -> Boxes:
    """Returns the boxes of all markers and labels, and of the pieces of the lines that lead to labels."""
    made = [_made(point, [label], room) for point, label in zip(points, labels, strict=True) if label.text]
    return joined([_markers(room, points, dots), *(boxes for of in made for boxes in (of.texts, of.lines))])


def _markers(room: Room, points: Sequence[Point], dots: Sequence[Point]) -> Boxes:
    return joined([squares(room, points, MARKER), squares(room, dots, DOT)])


def _cost(places: Sequence[Places], chosen: dict[int, int], index: int) -> np.ndarray:
    """Returns which labels (m,) each place (n,) of a point takes the room of; shape (n, m)."""
    mine = places[index]
    hits = np.zeros((len(mine.labels), len(chosen)), bool)
    for column, (other, which) in enumerate(chosen.items()):
        text, line = places[other].one(which)
        hits[:, column] = mine.texts.overlap(joined([text, line])).any(axis=1)
        hits[mine.owners[mine.lines.overlap(text)[:, 0]], column] = True
    return hits


def _places(point: Point, name: str, letter: str, room: Room, markers: Boxes) -> Places:
    """Returns the places of one label that are free of everything but other labels."""
    labels = [
        Label(text, named, (float(x), float(y)), led)
        for text, named, rings in ((name, True, NEAR), (letter, False, FAR))
        for led, shifts in ((False, _beside(text)), (True, _around(text, rings)))
        for x, y in shifts
    ]
    made = _made(point, labels, room)
    free = made.texts.inside(room) & ~made.texts.overlap(markers).any(axis=1)
    crossing = np.zeros(len(labels), bool)
    crossing[made.owners[made.lines.overlap(markers).any(axis=1)]] = True
    order = [*np.flatnonzero(free & ~crossing), *np.flatnonzero(free & crossing)]
    return _made(point, [labels[i] for i in order], room)


def _made(point: Point, labels: Sequence[Label], room: Room) -> Places:
    sizes = np.array([text_size(label.text) for label in labels]).reshape(-1, 2)
    shifts = np.array([label.shift for label in labels]).reshape(-1, 2)
    led = np.array([label.led for label in labels], bool)
    texts = boxes(room, np.tile(point, (len(labels), 1)), shifts, sizes)
    lengths = np.hypot(*shifts.T)
    # The line ends where it enters the text.
    into = np.min(sizes / 2 / np.maximum(np.abs(shifts), 1e-9), axis=1) if len(labels) else lengths
    ends = np.where(led, lengths * (1 - into), 0.0)
    along = np.arange(MARKER, max(ends.max(initial=0.0), MARKER), PIECE) + PIECE / 2
    owners, steps = np.nonzero(along[None, :] - PIECE / 2 < ends[:, None])
    middles = shifts[owners] * (np.minimum(along[steps], ends[owners]) / lengths[owners])[:, None]
    lines = boxes(room, np.tile(point, (len(owners), 1)), middles, np.full((len(owners), 2), PIECE))
    return Places(tuple(labels), texts, lines, owners)


def _beside(text: str) -> np.ndarray:
    wide, high = text_size(text)
    return np.array(BESIDE) * (MARKER + wide / 2, MARKER + high / 2)


def _around(text: str, rings: np.ndarray) -> np.ndarray:
    wide, high = text_size(text)
    reach = MARKER + np.repeat(rings, len(ANGLES))
    angles = np.tile(ANGLES, len(rings))
    return np.stack([(reach + wide / 2) * np.cos(angles), (reach + high / 2) * np.sin(angles)], axis=1)


def _lettered(labels: Sequence[Label]) -> list[Label]:
    """Gives letters to the labels that are no names, in their order."""
    made, count = [], 0
    for label in labels:
        lettered = bool(label.text) and not label.named
        made.append(replace(label, text=_letters(count)) if lettered else label)
        count += lettered
    return made


def _letters(index: int) -> str:
    """Returns A to Z, AA to ZZ, and so on."""
    before, last = divmod(index, len(ascii_uppercase))
    return (_letters(before - 1) if before else "") + ascii_uppercase[last]
