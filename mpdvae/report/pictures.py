"""The grids of images that runs wrote, as data URIs."""

from collections.abc import Sequence
from dataclasses import dataclass

from mpdvae.report.collect import PICTURES, Study, Variant
from mpdvae.report.explored import PNG
from mpdvae.report.explorer import data_uri
from mpdvae.system.closed_folder import Inside

LARGEST_PICTURE = 1 << 24
"""In bytes; grids of small images have a few thousand."""
CAPTIONS = {
    "reconstructions": "Test images and, below each, its reconstruction.",
    "samples": "Samples from the prior.",
    "interpolations": "From one test image to another through the latent space.",
}


@dataclass(frozen=True)
class Picture:
    """A grid of images of one model."""

    model: str
    seed: int
    source: str
    """The picture as a data URI."""


@dataclass(frozen=True)
class Gallery:
    """The same picture of every model."""

    name: str
    caption: str
    pictures: tuple[Picture, ...]


def galleries(study: Study) -> list[Gallery]:
    """Returns the pictures, each from the first seed of a model that has it."""
    found = [Gallery(name, CAPTIONS[name], tuple(of_variants(study.variants, name))) for name in PICTURES]
    return [gallery for gallery in found if gallery.pictures]


def of_variants(variants: Sequence[Variant], name: str) -> list[Picture]:
    """Returns one picture of each of these variants that has it."""
    pictures = []
    for variant in variants:
        run = next((run for run in variant.runs if name in run.pictures), None)
        source = None if run is None else _source(run.pictures[name])
        if run is not None and source is not None:
            pictures.append(Picture(variant.label, run.seed, source))
    return pictures


def _source(path: Inside) -> str | None:
    """Returns a PNG file as a data URI; None if the file is not a PNG, or too large for a page."""
    state = path.state()
    content = path.read_bytes(LARGEST_PICTURE) if state and state.st_size <= LARGEST_PICTURE else b""
    return data_uri(content) if content.startswith(PNG) else None
