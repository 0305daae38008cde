"""The codes of images, with what the model says of each: the posterior, its distance from the prior, and log p(x).

    codes = encode_images(mpdvae.load("mae-mnist"), "pictures/")
    codes.write(Path("codes.csv"))

`mpdvae encode` does this. Codes are posterior means of the images as they are, as in `MPDVAE.transform`: grey, where the
model gives likelihoods to black and white draws of them. KL and log p(x) are of one such draw. log p(x) is the
importance-weighted bound with a stated number of samples of q(z|x), with one sample the ELBO; `mpdvae.measures.density` has
error bars and better proposals. The result for an image is a function of the image alone (for a data set: of its place
there), not of the images beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch.nn.utils import parametrize

from mpdvae.data import ENTRIES
from mpdvae.data.class_names import ClassNames
from mpdvae.data.conditions import Covariates, Labels
from mpdvae.data.layout import ValueRange
from mpdvae.divergence import diagonal_normal
from mpdvae.errors import InputError
from mpdvae.evaluation.code_files import write_table
from mpdvae.experiments.model_input import ModelInput, model_input, of_data_set
from mpdvae.measures import density
from mpdvae.measures.memory_budget import in_pieces
from mpdvae.vae import VAE, check_samples

IMAGES_AT_ONCE = 500
SAMPLES = 64


@dataclass(frozen=True)
class ImageCodes:
    """One row per image."""

    names: list[str] | None
    """Files of the images; None if they had none."""
    labels: Int64[np.ndarray, " n"] | None
    mean: Float32[np.ndarray, "n *latent"]
    """Mean of q(z|x): the code, of the image as it is, grey or not."""
    scale: Float32[np.ndarray, "n *latent"]
    """Standard deviation of q(z|x)."""
    kl_nats: Float64[np.ndarray, " n"]
    """KL(q(z|x) || p(z)) in closed form if there is one, otherwise from the samples; of grey images: of a draw of them."""
    log_prob_nats: Float64[np.ndarray, " n"]
    """Lower bound of log p(x) in expectation, from `samples` importance samples; with one sample the ELBO."""
    samples: int
    reading: str = ""
    """What was read of a folder of pictures, changed and left out, in one line."""
    classes: list[str] | None = None
    """Name of the class of each image; None if classes have no names."""

    def columns(self) -> dict[str, np.ndarray]:
        """Returns the columns of a table, by name: image, name, label and class if there are any, mean_0 ..., scale_0 ...,
        kl_nats, and log_prob_nats or, with one sample, elbo_nats."""
        n = len(self.mean)
        table: dict[str, np.ndarray] = {"image": np.arange(n)}
        table |= self._known()
        for field, values in (("mean", self.mean), ("scale", self.scale)):
            table |= {f"{field}_{i}": column for i, column in enumerate(values.reshape(n, -1).T)}
        return table | self._measured()

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the same by field, each with its own axes: mean and scale [n, latent...]."""
        return self._known() | {"mean": self.mean, "scale": self.scale} | self._measured()

    def write(self, path: Path | str) -> None:
        """Writes a table: .csv or .parquet (`columns`, with the samples), or .npz (`arrays`). Raises `InputError` for another
        ending, or for .parquet without the extra of that name."""
        path = Path(path)
        write_table(path, self.arrays() if path.suffix.lower() == ".npz" else self.columns())

    def _known(self) -> dict[str, np.ndarray]:
        known = {"name": self.names, "label": self.labels, "class": self.classes}
        return {name: np.array(x) for name, x in known.items() if x is not None}

    def _measured(self) -> dict[str, np.ndarray]:
        log_prob = "elbo_nats" if self.samples == 1 else "log_prob_nats"
        samples = np.full(len(self.mean), self.samples)
        return {"kl_nats": self.kl_nats, log_prob: self.log_prob_nats, "samples": samples}


def encode_images(
    vae: VAE,
    images: Any,
    samples: int = SAMPLES,
    *,
    split: str = "test",
    seed: int = 0,
    value_range: ValueRange | None = None,
    labels: Labels | None = None,
    covariates: Covariates | None = None,
    data_dir: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageCodes:
    """Returns the codes of `images`.

    Arguments:
        vae: a model that was loaded, or built from an experiment.
        images: anything that `vae.preprocess` takes, or the name of a data set in `mpdvae data list`; an existing path takes
            precedence over a name.
        samples: importance samples per image for log p(x); 1 gives the ELBO.
        split: part of a data set, or of an .npz archive with x_train and x_test: train, validation or test.
        seed: seed of the samples.
        value_range: values of black and white, as in `vae.preprocess`; those of a data set cannot be replaced.
        labels: classes of the images, as in `vae.preprocess`; the labels of a data set cannot be replaced.
        covariates: numbers that a conditional model is told, as in `vae.preprocess`; those of a data set cannot be replaced.
        data_dir: folder of the data sets; None: the default.
        progress: called with the number of decoder evaluations done, and the total.

    Raises:
        InputError: if the images do not fit the model.
        RunError: if the model gives a non-finite weight, or a data set cannot be fetched.
    """
    check_samples(samples)
    given = _input(vae, images, split, value_range, labels, covariates, data_dir)
    expected = given.expected()
    with torch.no_grad(), density.evaluating(vae), parametrize.cached():

        def moments(rows: slice) -> torch.Tensor:
            q = diagonal_normal(vae.encoder(expected[rows]))
            return torch.stack([q.loc, q.scale])

        mean, scale = in_pieces(moments, len(given.x), IMAGES_AT_ONCE, 1).cpu().float().numpy()
    measured = density.estimate(
        vae, given.x, samples, seed=seed, progress=progress, indices=given.keys, proposal="encoder"
    )
    numbers = None if given.known.labels is None else given.known.labels.numpy()
    kl, log_prob = measured.kl.numpy(), measured.log_prob.numpy()
    return ImageCodes(
        given.names, numbers, mean, scale, kl, log_prob, samples, given.reading, _called(numbers, given.class_names)
    )


def _called(labels: np.ndarray | None, names: ClassNames) -> list[str] | None:
    """Returns the name of the class of each image: that of a number beyond the names is empty."""
    if labels is None or not names:
        return None
    return [names[label] if label < len(names) else "" for label in labels.tolist()]


def _input(
    vae: VAE,
    images: Any,
    split: str,
    value_range: ValueRange | None,
    labels: Labels | None,
    covariates: Covariates | None,
    data_dir: Path | None,
) -> ModelInput:
    if not isinstance(images, str) or Path(images).expanduser().exists():
        return model_input(vae, images, value_range, split, labels, covariates)
    known = [entry.name for entry in ENTRIES]
    if images in known:
        for name, given in {"labels": labels, "covariates": covariates, "value_range": value_range}.items():
            if given is not None:
                topic = "own-data" if name == "value_range" else "conditional"
                raise InputError(f"{name}: {images} is used with its own, if any; leave them out.", topic=topic)
        return of_data_set(vae, images, split, data_dir)
    near = get_close_matches(images[:200], known, n=1, cutoff=0.7)
    raise InputError(
        f"{images} does not exist: give a folder of pictures, a picture, an .npz archive, an .npy array or the name of a "
        f"data set{f'; did you mean {near[0]!r}?' if near else ' (`mpdvae data list`).'}",
        topic="own-data",
    )
