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
        rows = list(csv.DictReader(io.StringIO(read_bytes(path, LARGEST_CSV).decode("utf-8"))))
        images = np.array([int(row["image"]) for row in rows])
        columns = {
            metric: sign * np.array([float(row[column] or "nan") for row in rows])
            for metric, (column, sign) in COLUMNS.items()
            if rows and column in rows[0]
        }
    except (csv.Error, UnicodeDecodeError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path} is broken ({in_short(error)}): {advice}.", topic="damaged") from None
    places: dict[int, list[int]] = defaultdict(list)
    for place, image in enumerate(images.tolist()):
        places[image].append(place)
    ordered = tuple(sorted(places))
    means = {m: np.array([v[places[image]].mean() for image in ordered]) for m, v in columns.items()}
    return PerImage(ordered, {m: v for m, v in means.items() if len(v) and bool((np.abs(v) <= LARGEST).all())})
