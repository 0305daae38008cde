"""Images for commands that show a model: those in its folder, or else test images of its data set."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from mpdvae import VAE


def model_images(folder: Path, vae: "VAE", data_dir: Path | None) -> "tuple[Tensor, Tensor | None]":
    """Returns images [n channel height width] in the value range of the model, and their labels, if there are any.

    A model that comes with the package has images in its folder and needs no data. With `data_dir`, the images are the
    test images of the data set there.

    Raises:
        InputError: if the data set is missing, or is not the one that the run was made on.
    """
    from mpdvae.data import evaluation_images
    from mpdvae.evaluation.example_images import read_examples
    from mpdvae.experiments.experiment import origin_of
    from mpdvae.runs.run_folder import Run
    from mpdvae.system.closed_folder import Inside
    from mpdvae.workflows.job import check_same_data, data_of

    examples = read_examples(Inside(folder), origin_of(vae)) if data_dir is None else None
    if examples is not None:
        return examples.x, examples.known.labels
    run = Run(folder)
    data = data_of(run, data_dir)
    check_same_data(run, data)
    return evaluation_images(data.test, run.experiment.data.protocol(), "test", draws=1)
