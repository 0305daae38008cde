"""Labels of points: of any layout, at any width of the chart, no text overlaps a text, a marker, an axis or a line."""

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from mpdvae.report.boxes import Room, text_size
from mpdvae.report.contours import contours, marked
from mpdvae.report.labels import DOT, MARKER, Label, Point, drawn, placed

ROOM = Room(210.0, 430.0, 290.0)
Rectangle = tuple[float, float, float, float]
"""Left, bottom, right, top, in pixels."""


def crowd(count: int, spread: float) -> list[Point]:
    random = np.random.default_rng([count, int(100 * spread)])
    drawn = np.clip(random.normal((0.3, 0.6), spread, size=(count, 2)), 0.07, 0.93)
    return [(float(x), float(y)) for x, y in drawn]


LAYOUTS: dict[str, list[Point]] = {
    "none": [],
    "one": [(0.5, 0.5)],
    "corners": [(0.07, 0.07), (0.07, 0.93), (0.93, 0.07), (0.93, 0.93)],
    "all in one place": [(0.5, 0.5)] * 12,
    "two places": [(0.07, 0.93)] * 5 + [(0.93, 0.07)] * 5,
    "in a row": [(0.07 + 0.86 * i / 19, 0.5) for i in range(20)],
    "in a column": [(0.07, 0.07 + 0.86 * i / 19) for i in range(20)],
    "on the diagonal": [(0.07 + 0.86 * i / 25, 0.93 - 0.86 * i / 25) for i in range(26)],
    "a ring": [(0.5 + 0.1 * math.cos(i), 0.5 + 0.1 * math.sin(i)) for i in range(26)],
    "a grid": [(0.1 + 0.16 * i, 0.1 + 0.16 * j) for i in range(6) for j in range(6)],
    **{f"a crowd of {n}, {spread}": crowd(n, spread) for n in (6, 26) for spread in (0.02, 0.1, 0.4)},
    "a crowd of 50": crowd(50, 0.1),
}
NAMES: dict[str, Callable[[int], str]] = {
    "usual": lambda i: f"mae-{i}-without-smoothness",
    "long": lambda i: f"{i} " + "wide" * 40,
    "wide": lambda i: f"\u6a21\u578b {i}",
}


def rectangle(point: Point, width: float, middle: tuple[float, float], size: tuple[float, float]) -> Rectangle:
    x, y = point[0] * width + middle[0], point[1] * ROOM.height + middle[1]
    return x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2


def overlap(one: Rectangle, other: Rectangle) -> bool:
    """Whether they share more than a border."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return min(wide, high) > 1e-6


def crosses(point: Point, width: float, label: Label, box: Rectangle) -> bool:
    """Whether the line from a point to its text enters a rectangle."""
    x, y = point[0] * width, point[1] * ROOM.height
    own = rectangle(point, width, label.shift, text_size(label.text))
    for t in np.linspace(0, 1, 100):
        at = x + t * label.shift[0], y + t * label.shift[1]
        if own[0] <= at[0] <= own[2] and own[1] <= at[1] <= own[3]:
            return False
        if box[0] < at[0] < box[2] and box[1] < at[1] < box[3]:
            return True
    return False


@pytest.mark.parametrize("naming", NAMES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_text_overlaps_anything(layout: str, naming: str) -> None:
    points, names = LAYOUTS[layout], [NAMES[naming](i) for i in range(len(LAYOUTS[layout]))]
    dots = [(x, min(0.99, y + 0.03)) for x, y in points]
    labels = placed(points, names, ROOM, dots)
    shown = [(point, label) for point, label in zip(points, labels, strict=True) if label.text]
    for width in np.linspace(ROOM.narrowest, ROOM.widest, 3):
        texts = [rectangle(p, width, label.shift, text_size(label.text)) for p, label in shown]
        markers = [rectangle(p, width, (0, 0), (2 * MARKER, 2 * MARKER)) for p in points]
        markers += [rectangle(p, width, (0, 0), (2 * DOT, 2 * DOT)) for p in dots]
        for text in texts:
            assert min(text[:2]) >= -1e-6
            assert text[2] <= width + 1e-6
            assert text[3] <= ROOM.height + 1e-6
            assert not any(overlap(text, marker) for marker in markers)
        assert not any(overlap(one, other) for one, other in combinations(texts, 2))
        for i, (point, label) in enumerate(shown):
            if label.led:
                assert not any(crosses(point, width, label, text) for text in texts[:i] + texts[i + 1 :])


@pytest.mark.parametrize("naming", NAMES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_name_is_in_the_chart_or_has_a_letter(layout: str, naming: str) -> None:
    points, names = LAYOUTS[layout], [NAMES[naming](i) for i in range(len(LAYOUTS[layout]))]
    labels = placed(points, names, ROOM)
    assert len(labels) == len(names)
    assert all(label.text == name for label, name in zip(labels, names, strict=True) if label.named)
    letters = [label.text for label in labels if label.text and not label.named]
    assert len(set(letters)) == len(letters)
    assert letters == sorted(letters, key=lambda text: (len(text), text))
    assert placed(points, names, ROOM) == labels


@pytest.mark.parametrize(
    "layout", ["in a row", "on the diagonal", "a ring", "a crowd of 6, 0.02", "a crowd of 26, 0.1"]
)
def test_there_is_room_for_a_name_or_letter_of_each_of_26_models(layout: str) -> None:
    points = LAYOUTS[layout]
    assert all(label.text for label in placed(points, [f"mae-{i}-of-many" for i in range(len(points))], ROOM))


@pytest.mark.parametrize("spread", [0.2, 0.3, 0.4])
def test_six_models_have_their_names_where_they_are_apart(spread: float) -> None:
    points = [(0.5 + spread * math.cos(i), 0.5 + spread * math.sin(i)) for i in range(6)]
    assert all(label.named and not label.led for label in placed(points, ["mae-no"] * 6, ROOM))


def test_a_name_at_the_border_stays_inside() -> None:
    (left,), (right,) = placed([(0.0, 0.5)], ["a long name"], ROOM), placed([(1.0, 0.5)], ["a long name"], ROOM)
    assert (left.side, right.side) == ("left", "right")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_numbers_of_contours_cover_neither_points_nor_names(layout: str) -> None:
    points = LAYOUTS[layout]
    labels = placed(points, [f"model-{i}" for i in range(len(points))], ROOM)
    taken = drawn(points, labels, ROOM)
    rates, distortions = (0.0, 20.0), (70.0, 95.0)
    marks = marked(contours(rates, distortions), rates, distortions, ROOM, taken)
    assert len(marks) >= (3 if len(points) <= 12 else 1)
    shown = [(point, label) for point, label in zip(points, labels, strict=True) if label.text]
    for width in np.linspace(ROOM.narrowest, ROOM.widest, 3):
        boxes = [
            rectangle((mark.rate / 20, (mark.distortion - 70) / 25), width, (0, 0), text_size(mark.text))
            for mark in marks
        ]
        others = [rectangle(p, width, label.shift, text_size(label.text)) for p, label in shown]
        others += [rectangle(p, width, (0, 0), (2 * MARKER, 2 * MARKER)) for p in points]
        assert not any(overlap(box, other) for box in boxes for other in others)
        assert not any(overlap(one, other) for one, other in combinations(boxes, 2))
