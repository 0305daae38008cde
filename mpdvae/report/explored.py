"""explore.json and its sheets of images: the data of the report's explorer. Runs of earlier versions lack them.

A sheet is a PNG file of images of equal size, placed side by side without gaps; its width determines the number per row.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field, FiniteFloat

from mpdvae.errors import InputError
from mpdvae.report.schema import Number, Part, read
from mpdvae.system.closed_folder import Inside
from mpdvae.system.untrusted_files import read_bytes

SHEETS = ("points", "linear_walks", "bilinear_walk")
LARGEST_SHEET = 1 << 24
"""In bytes; a thousand small images take less than one million."""
PNG = b"\x89PNG\r\n\x1a\n"


class ImageSize(Part):
    height: int = Field(ge=1)
    width: int = Field(ge=1)


class Points(Part):
    """Test images. The rate and distortion of each are computed from one posterior sample."""

    labels: list[int] | None = None
    kl_nats: list[Number]
    reconstruction_nats: list[Number]


class CodeMap(Part):
    """Coordinates of each point in the plane."""

    x: list[FiniteFloat]
    y: list[FiniteFloat]
    explained_variance: tuple[FiniteFloat, ...] = ()


class LinearWalks(Part):
    walks: int = Field(ge=1)
    steps: int = Field(ge=1)


class BilinearWalk(Part):
    rows: int = Field(ge=1)
    columns: int = Field(ge=1)


class ExploreFile(Part):
    """explore.json"""

    image: ImageSize
    points: Points
    maps: dict[str, CodeMap] = Field(min_length=1)
    neighbours: list[list[int]]
    """For each point, the indices of its nearest neighbours, nearest first."""
    linear_walks: LinearWalks
    bilinear_walk: BilinearWalk
    walks_drawn: bool = False


@dataclass(frozen=True)
class Explored:
    """The data for exploring one run."""

    file: ExploreFile
    sheets: Mapping[str, bytes]
    """Content of the PNG files, by the names in `SHEETS`."""


def read_explored(folder: Inside, advice: str) -> Explored | None:
    """Returns the data for exploring a run; None if its folder lacks explore.json or a sheet.

    Raises:
        InputError: if files are broken or do not match each other; the message names the file and what to do.
    """
    path = folder / "explore.json"
    files = {name: folder / "figures" / f"{name}.png" for name in SHEETS}
    if not all(file.is_file() for file in (path, *files.values())):
        return None
    found = read(ExploreFile, path, advice)
    _check_lengths(found, path, advice)
    sheets = {name: read_bytes(file, LARGEST_SHEET) for name, file in files.items()}
    for name, count in _counts(found).items():
        _check_sheet(sheets[name], count, found.image, files[name], advice)
    return Explored(found, sheets)


def _counts(found: ExploreFile) -> dict[str, int]:
    """Returns the number of images in each sheet."""
    linear, bilinear = found.linear_walks, found.bilinear_walk
    return {
        "points": len(found.neighbours),
        "linear_walks": linear.walks * linear.steps,
        "bilinear_walk": bilinear.rows * bilinear.columns,
    }


def _check_lengths(found: ExploreFile, path: Inside, advice: str) -> None:
    points, count = found.points, len(found.neighbours)
    columns = [points.kl_nats, points.reconstruction_nats, *([points.labels] if points.labels is not None else [])]
    columns += [axis for m in found.maps.values() for axis in (m.x, m.y)]
    if any(len(column) != count for column in columns):
        raise InputError(f"{path} is broken (its lists do not all have {count} points): {advice}.", topic="damaged")
    if any(not 0 <= other < count for row in found.neighbours for other in row):
        raise InputError(f"{path} is broken (a neighbour is not one of its {count} points): {advice}.", topic="damaged")


def _check_sheet(content: bytes, count: int, image: ImageSize, path: Inside, advice: str) -> None:
    if not content.startswith(PNG):
        raise InputError(f"{path} is broken (it is not a PNG file): {advice}.", topic="damaged")
    width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
    if width % image.width or height % image.height or (width // image.width) * (height // image.height) < count:
        raise InputError(
            f"{path} is broken (expected {count} images of {image.height}x{image.width}, got a picture of "
            f"{height}x{width}): {advice}.",
            topic="damaged",
        )
