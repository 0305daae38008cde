"""Places the names of points in a chart so that they overlap neither each other nor other points.

Greedy: points are taken from left to right, and each name goes to the first of eight places around its point at which it
covers least. Sizes are those of a chart of the page's full width; a narrower one may need the reader's zoom.
"""

from collections.abc import Sequence

Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in pixels."""

CHARACTER, LINE, MARKER = 6.6, 15.0, 7.0
"""Width of a character, height of a line and radius of a marker, in pixels."""
PLACES = {
    "bottom center": (0.0, -1.0),
    "top center": (0.0, 1.0),
    "middle right": (1.0, 0.0),
    "middle left": (-1.0, 0.0),
    "top right": (1.0, 1.0),
    "bottom right": (1.0, -1.0),
    "top left": (-1.0, 1.0),
    "bottom left": (-1.0, -1.0),
}
"""plotly's names of the places, with the direction from the point, in order of preference."""


def placed(points: Sequence[tuple[float, float]], names: Sequence[str], size: tuple[float, float]) -> list[str]:
    """Returns the place of each name.

    Arguments:
        points: positions as fractions of the chart, from its lower left corner.
        names: the texts; an empty one needs no room.
        size: width and height of the chart in pixels.
    """
    width, height = size
    centres = [(x * width, y * height) for x, y in points]
    taken: list[Box] = [(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in centres]
    chosen = ["top center"] * len(points)
    for index in sorted(range(len(points)), key=lambda i: centres[i]):
        if names[index]:
            others = taken[:index] + taken[index + 1 :]
            boxes = {place: _box(centres[index], names[index], toward) for place, toward in PLACES.items()}
            costs = {place: _cost(box, others, size) for place, box in boxes.items()}
            chosen[index] = min(costs, key=lambda place: costs[place])
            taken.append(boxes[chosen[index]])
    return chosen


def _box(centre: tuple[float, float], name: str, toward: tuple[float, float]) -> Box:
    wide, high = len(name) * CHARACTER, LINE
    x = centre[0] + toward[0] * (MARKER + wide / 2)
    y = centre[1] + toward[1] * (MARKER + high / 2)
    return x - wide / 2, y - high / 2, x + wide / 2, y + high / 2


def _cost(box: Box, others: Sequence[Box], size: tuple[float, float]) -> float:
    """Returns the area that the box covers of others, and that it has outside the chart."""
    inside = _overlap(box, (0.0, 0.0, *size))
    area = (box[2] - box[0]) * (box[3] - box[1])
    return sum(_overlap(box, other) for other in others) + (area - inside)


def _overlap(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)
