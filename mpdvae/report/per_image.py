"""Numbers of a run by test image, from density.csv: the columns whose noise over images a report needs.

All runs of a study measure the same images, so that their columns can be compared image by image. Several binary draws of
an image are one image: its numbers are averaged over them.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpdvae.errors import InputError
from mpdvae.report.schema import LARGEST
from mpdvae.system.closed_folder import Inside
from mpdvae.system.untrusted_files import in_short, read_bytes

COLUMNS = {
    "nll_nats": ("log_prob_nats", -1.0),
    "negative_elbo_nats": ("elbo_nats", -1.0),
    "kl_nats": ("kl_nats", 1.0),
    "reconstruction_nats": ("reconstruction_nats", 1.0),
    "bits_per_dim": ("bits_per_dim", 1.0),
}
"""Metrics with a value for each image: the column and its sign."""
LARGEST_CSV = 1 << 28
"""In bytes; 50,000 rows of the paper's protocol have about 12 million."""
MOST_CELLS = 4_000_000
"""Each takes tens of bytes of memory, and may have two in the file. The paper's protocol has about 600,000."""


def rows_of(content: bytes) -> "csv.DictReader[str]":
    """Returns the rows of a table, one at a time. Raises `ValueError` or `csv.Error` if it is not one, or has more than
    `MOST_CELLS` cells; a row that is too short counts as a whole one."""
    rows = csv.DictReader(io.TextIOWrapper(io.BytesIO(content), "utf-8", newline=""))
    lines = 1 + max(content.count(b"\n"), content.count(b"\r"))
    if max(lines * len(rows.fieldnames or ()), lines + content.count(b",")) > MOST_CELLS:
        raise ValueError(f"more than {MOST_CELLS:,} cells")
    return rows


@dataclass(frozen=True)
class PerImage:
    """Columns of density.csv, by metric; images in ascending order."""

    images: tuple[int, ...]
    values: Mapping[str, NDArray[np.float64]]
    """Only columns that are finite, and of a size that can be squared, on all images."""


def read_per_image(path: Inside, advice: str) -> PerImage | None:
    """Returns the numbers of each image; None if the file does not exist, as in runs of early versions. Raises `InputError`,
    naming the file and what to do, if it is broken."""
    if not path.exists():
        return None
    try:
        rows = rows_of(read_bytes(path, LARGEST_CSV))
        there = {metric: one for metric, one in COLUMNS.items() if one[0] in (rows.fieldnames or ())}
        images, numbers = [], []
        for row in rows:
            images.append(int(row["image"]))
            numbers.append([float(row[column] or "nan") for column, _ in there.values()])
        table = np.array(numbers, np.float64).reshape(len(numbers), len(there))
        columns = {metric: sign * table[:, k] for k, (metric, (_, sign)) in enumerate(there.items())}
    except (csv.Error, UnicodeDecodeError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path} is broken ({in_short(error)}): {advice}.", topic="damaged") from None
    places: dict[int, list[int]] = defaultdict(list)
    for place, image in enumerate(images):
        places[image].append(place)
    ordered = tuple(sorted(places))
    means = {m: np.array([v[places[image]].mean() for image in ordered]) for m, v in columns.items()}
    return PerImage(ordered, {m: v for m, v in means.items() if len(v) and bool((np.abs(v) <= LARGEST).all())})
