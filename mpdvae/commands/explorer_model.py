r"""The interactive model behind `mpdvae explore`, independent of how it is displayed.

Codes come from a map of test images; they are moved along one dimension, mixed, or drawn from the prior at a temperature,

.. math:: z' = m + T (z - m), \qquad z \sim p(z), \quad m = E z,

which keeps codes near the mean of the prior for T < 1 and spreads them for T > 1. Images are drawn with fixed noise, so
that the same settings show the same image.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mpdvae.evaluation import image_grids, interpolation
from mpdvae.evaluation.exploration import image_of
from mpdvae.experiments.experiment import Experiment
from mpdvae.measures import code_diagnostics
from mpdvae.measures.random_subsets import random_subset
from mpdvae.measures.representation import posteriors
from mpdvae.measures.representation.maps import principal_map
from mpdvae.seeding import seeded
from mpdvae.system.untrusted_files import in_short
from mpdvae.vae import VAE

POINTS = 500
DRAWS = 4
"""Number of images drawn of one code, if its pixels are drawn."""
MEAN_DRAWS = 1000
"""Number of draws from the prior used to estimate its mean."""


@dataclass(frozen=True)
class Live:
    """A model with some images and their codes."""

    experiment: Experiment
    vae: VAE
    x: Float[Tensor, "point channel height width"]
    z: Float[Tensor, "point *latent"]
    """Posterior means."""
    classes: list[int] | None
    """Number of the class of each image; None if there are no labels."""
    labels: list[str]
    """What these classes are called: by name where classes have names, otherwise by number; empty without labels."""
    places: Float[np.ndarray, "point 2"]
    """Coordinates in the map of principal components."""
    spread: Float[Tensor, " dimension"]
    """Standard deviation of the aggregate posterior in each dimension."""
    dimensions: list[int]
    """All dimensions, most informative first."""
    pixels_are_drawn: bool
    """Whether pixels depend on each other, so that each image of a code is a new draw; otherwise it is the mean."""

    def called(self, point: int) -> str:
        """Returns what the class of an image is called, "class owl", or which image it is, on one line."""
        return f"image {point}" if self.classes is None else f"class {in_short(self.labels[point], 60)}"

    def repeated(self, point: int) -> Float[Tensor, "repeat *latent"]:
        """Returns the code of an image, as often as its image is to be shown: several draws differ in what the code leaves
        open."""
        return self.z[[point] * (DRAWS if self.pixels_are_drawn else 1)]

    def moved(self, point: int, dimension: int, deviations: float) -> Float[Tensor, "repeat *latent"]:
        """Returns the code of an image, moved along one dimension by `deviations` standard deviations, as often as
        `repeated` does."""
        z = self.repeated(point).clone()
        z.flatten(1)[:, dimension] += deviations * self.spread[dimension].to(z)
        return z

    def mixed(self, first: int, second: int, steps: int) -> Float[Tensor, "step *latent"]:
        """Returns codes on the line between the codes of two images."""
        return interpolation.linear(self.z[first], self.z[second], steps)

    @torch.no_grad()
    def drawn(self, count: int, temperature: float, seed: int) -> Float[Tensor, "count *latent"]:
        """Returns codes drawn from the prior at a temperature."""
        prior = self.vae.prior()
        with seeded("mean of the prior"):
            middle = prior.sample((MEAN_DRAWS,)).mean(0)
        with seeded(seed, "explore"):
            return middle + temperature * (prior.sample((count,)) - middle)

    def images(self, z: Float[Tensor, "n *latent"], columns: int, point: int | None = None) -> bytes:
        """Returns a PNG of the images of codes: means, or draws if pixels depend on each other. Those of a conditional model
        have the condition of the image `point`; None: conditions that are drawn."""
        told = None if point is None else self.vae.told_of(self.x[[point]])
        with seeded("explore"):
            return self.png(image_of(self.vae, z, None if told is None else told.expand(len(z), -1))[0], columns)

    def png(self, images: Tensor, columns: int) -> bytes:
        """Returns a PNG of images in the value range of the model."""
        return image_grids.png(image_grids.in_rows(self.experiment.data.shown(images), columns))


def live(
    experiment: Experiment, vae: VAE, x: Float[Tensor, "n channel height width"], labels: Int64[Tensor, " n"] | None
) -> Live:
    """Encodes random images out of `x`, which are in the value range of the model of `experiment`."""
    chosen = random_subset(min(POINTS, len(x)), len(x))
    x = x[chosen]
    q = posteriors(vae, x)
    spread = (q.mean.var(0) + q.variance.mean(0)).sqrt()
    z = vae.encode(x)
    with torch.no_grad(), seeded("explore"):
        pixels_are_drawn = image_of(vae, z[:1])[1]
    classes = None if labels is None else labels[chosen].tolist()
    names = dict(enumerate(vae.class_names))
    return Live(
        experiment=experiment,
        vae=vae,
        x=x,
        z=z,
        classes=classes,
        labels=[""] * len(x) if classes is None else [names.get(label, str(label)) for label in classes],
        places=principal_map(q.mean.numpy()).points,
        spread=spread,
        dimensions=code_diagnostics.information_per_dimension(q).argsort(descending=True).tolist(),
        pixels_are_drawn=pixels_are_drawn,
    )
