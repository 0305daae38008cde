"""Data for exploring a run in the report: a map of test images, their neighbours, and walks between codes.

    explore.json               class, rate and distortion of each point, its position in each map, its neighbours
    figures/points.png         images of the points, as one sheet
    figures/linear_walks.png   images on straight lines between the codes of two images, one row per walk
    figures/bilinear_walk.png  images between the codes of four images

Sheets are 8-bit PNG files of images side by side without gaps, which a page cuts apart again. The points are a random
subset of the test images, the same for all runs, so that all models are shown on the same images. Codes are posterior means
of one binary draw of the images, the draw that is shown.
"""

import math
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mpdvae.evaluation import image_grids, interpolation
from mpdvae.measures import density
from mpdvae.measures.memory_budget import Budget, drawn_in_pieces, in_pieces
from mpdvae.measures.random_subsets import random_subset
from mpdvae.measures.representation import codes
from mpdvae.measures.representation.maps import CodeMap, maps, nearest
from mpdvae.report.explored import ExploreFile
from mpdvae.report.schema import write
from mpdvae.runs.run_folder import Run
from mpdvae.system.atomic_files import write_atomically
from mpdvae.vae import VAE

NEIGHBOURS = 8
LINEAR_WALKS, STEPS = 6, 9
BILINEAR = 7
"""Rows and columns of the bilinear walk."""
SHEET_VALUES = 2**21
"""Maximum number of values in the sheet of points, so that large images do not make a large report."""


def explore(
    run: Run, vae: VAE, x: Float[Tensor, "n channel height width"], labels: Tensor | None, again: dict[str, str]
) -> None:
    """Writes the files listed in the module docstring.

    Arguments:
        run: receives the files in its folder; its experiment specifies the number of points.
        vae: model of the run.
        x: images of the test split, one draw of each.
        labels: labels of these images.
        again: the command that recreates the files.
    """
    wanted = min(run.experiment.evaluation.explored_images, max(2, SHEET_VALUES // x[0].numel()), len(x))
    chosen = random_subset(wanted, len(x))
    points = x[chosen.to(x.device)]
    found = _points(vae, points, None if labels is None else labels.cpu()[chosen])
    linear, bilinear, drawn = _walks(vae, points)
    sheets = {
        "points": image_grids.sheet(run.experiment.data.shown(points), math.ceil(math.sqrt(len(points)))),
        "linear_walks": image_grids.sheet(run.experiment.data.shown(linear.flatten(0, 1)), STEPS),
        "bilinear_walk": image_grids.sheet(run.experiment.data.shown(bilinear.flatten(0, 1)), BILINEAR),
    }
    for name, content in sheets.items():
        write_atomically(run.folder / "figures" / f"{name}.png", content)
    height, width = x.shape[-2:]
    about = {
        "image": {"height": height, "width": width},
        "linear_walks": {"walks": len(linear), "steps": STEPS},
        "bilinear_walk": {"rows": BILINEAR, "columns": BILINEAR},
        "walks_drawn": drawn,
    }
    write([ExploreFile], run.folder / "explore.json", about | found | {"split": "test"} | again)


def _points(vae: VAE, x: Tensor, labels: Tensor | None) -> dict[str, Any]:
    """Returns everything that is known about each point. Rate and distortion are those of one posterior sample."""
    z, measured = codes(vae, x), Budget().spend(partial(density.estimate, vae, x, 1, proposal="encoder"))
    return {
        "points": {
            "labels": None if labels is None else labels.tolist(),
            "kl_nats": _rounded(measured.kl, 2),
            "reconstruction_nats": _rounded(measured.reconstruction, 2),
        },
        "maps": {name: _map(found) for name, found in maps(z).items()},
        "neighbours": nearest(z, NEIGHBOURS),
    }


def _map(found: CodeMap) -> dict[str, Any]:
    x, y = torch.from_numpy(found.points).T
    return {"x": _rounded(x, 3), "y": _rounded(y, 3), "explained_variance": list(found.explained_variance)}


def _rounded(values: Tensor, digits: int) -> list[float]:
    return [round(value, digits) for value in values.tolist()]


@torch.no_grad()
def image_of(
    vae: VAE, z: Float[Tensor, "n *latent"], told: Tensor | None = None
) -> tuple[Float[Tensor, "n channel height width"], bool]:
    """Returns an image for each code, and whether it was sampled (with the ambient generator): the mean of its pixels, or a
    sample if pixels depend on each other, because the most probable image is then often an empty one. `told` is the
    condition that a conditional model gives them; None: drawn."""
    p = vae.decoded(z, told)
    try:
        return p.mean, False
    except NotImplementedError:
        return p.sample(), True


def _images_of(vae: VAE, z: Tensor, told: Tensor | None) -> tuple[Tensor, bool]:
    """Calls `image_of` in chunks that fit in memory."""
    drawn = False

    def part(rows: slice) -> Tensor:
        nonlocal drawn
        images, drawn = image_of(vae, z[rows], None if told is None else told[rows])
        return images

    images = drawn_in_pieces(part, len(z), "walks")
    return images, drawn


@torch.no_grad()
def _walks(vae: VAE, x: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Returns images [walk step ...] and [row column ...], and whether they were sampled. All are decoded together. Those of
    a conditional model have the condition of the image where the walk begins."""
    ends = x[torch.arange(max(4, 2 * LINEAR_WALKS)) % len(x)]
    z = in_pieces(lambda rows: vae.encode(ends[rows]), len(ends))
    pairs = z[: 2 * min(LINEAR_WALKS, len(x) // 2)]
    straight = interpolation.linear(pairs[0::2], pairs[1::2], STEPS).transpose(0, 1)
    surface = interpolation.bilinear(z[:4], BILINEAR, BILINEAR)
    first, told = straight.shape[0] * STEPS, vae.told_of(ends)
    if told is not None:
        starts = told[: len(pairs)][0::2].repeat_interleave(STEPS, 0)
        told = torch.cat([starts, told[:1].expand(BILINEAR**2, -1)])
    images, drawn = _images_of(vae, torch.cat([straight.flatten(0, 1), surface.flatten(0, 1)]), told)
    return images[:first].unflatten(0, (-1, STEPS)), images[first:].unflatten(0, (BILINEAR, BILINEAR)), drawn
