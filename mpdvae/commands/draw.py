"""Commands that draw from a model into a PNG."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from mpdvae.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mpdvae import VAE


def sample(directory: Positional[Path], out: Path, count: int = 64, seed: int = 0, device: str | None = None) -> None:
    """Draw images from a model into a PNG.

    Args:
        directory: folder of a run or of a model.
        out: the PNG.
        count: how many images.
        seed: of the draw.
        device: cpu, cuda, ...; default: cpu.
    """
    from mpdvae.evaluation import image_grids
    from mpdvae.runs.model_folder import model_experiment
    from mpdvae.seeding import seeded

    image_grids.check_png_path(out)
    vae = _model(directory, device)
    with _drawing(f"drawing {count} images"), seeded(seed, "sample"):
        images = vae.sample(count)
    columns = max(1, round(count**0.5))
    _save(out, image_grids.png(image_grids.in_rows(model_experiment(directory).data.shown(images), columns)))


def reconstruct(
    directory: Positional[Path],
    out: Path,
    count: int = 10,
    seed: int = 0,
    device: str | None = None,
    data_dir: Path | None = None,
) -> None:
    """Draw test images and their reconstructions into a PNG.

    Three rows: the images; the more probable value of each pixel, given the posterior mean; one draw.

    Args:
        directory: folder of the run.
        out: the PNG.
        count: how many images, chosen at random.
        seed: of the choice and the draw.
        device: cpu, cuda, ...; default: cpu.
        data_dir: folder of the data; of own images that have moved: their new place.
    """
    import torch

    from mpdvae.evaluation import image_grids
    from mpdvae.runs.model_folder import model_experiment
    from mpdvae.seeding import seeded

    image_grids.check_png_path(out)
    vae = _model(directory, device)
    with seeded(seed, "reconstruct"), _drawing(f"reconstructing {count} images"):
        x = _some_test_images(directory, count, data_dir).to(_device(vae))
        rows = [x, vae.reconstruct(x), vae.reconstruct(x, greedy=False)]
    _save(out, image_grids.png(model_experiment(directory).data.shown(torch.stack(rows))))


def traverse(
    directory: Positional[Path],
    out: Path,
    dimensions: int = 8,
    columns: int = 9,
    seed: int = 0,
    device: str | None = None,
    data_dir: Path | None = None,
) -> None:
    """Walk along the most informative latent dimensions, in a PNG.

    A row per dimension, from -3 to 3 standard deviations of the codes, around that of a test image.

    Args:
        directory: folder of the run.
        out: the PNG.
        dimensions: how many rows.
        columns: images in a row.
        seed: of the choice of the image.
        device: cpu, cuda, ...; default: cpu.
        data_dir: folder of the data; of own images that have moved: their new place.
    """
    from mpdvae.evaluation import image_grids
    from mpdvae.evaluation.run_evaluation import traversal
    from mpdvae.runs.model_folder import model_experiment
    from mpdvae.seeding import seeded

    image_grids.check_png_path(out)
    vae = _model(directory, device)
    with seeded(seed, "traverse"), _drawing("walking through the latent space"):
        x = _some_test_images(directory, None, data_dir).to(_device(vae))
        images = vae.decode(traversal(vae, x, dimensions, columns))
    _save(out, image_grids.png(model_experiment(directory).data.shown(images)))


def _model(directory: Path, device: str | None) -> "VAE":
    from mpdvae import load
    from mpdvae.workflows.job import check_device

    check_device(device)
    return load(directory).to(device or "cpu")


def _device(vae: "VAE") -> "torch.device":
    return next(vae.parameters()).device


@contextmanager
def _drawing(what: str) -> Iterator[None]:
    """Says what is being drawn, and how far it is and how long it will take where that is known."""
    from mpdvae.distributions.pixels import watching_draws
    from mpdvae.workflows.progress_display import Watcher

    with Watcher(what) as watcher, watching_draws(lambda share: watcher.update(share, {})):
        yield


def _some_test_images(directory: Path, count: int | None, data_dir: Path | None) -> "Tensor":
    """`count` random binary test images of a run's data (None: enough to measure codes), by the ambient generator."""
    import torch

    from mpdvae.data import evaluation_images
    from mpdvae.runs.run_folder import Run
    from mpdvae.workflows.job import check_same_data, data_of

    run = Run(directory)
    data = data_of(run, data_dir)
    check_same_data(run, data)
    count = min(500, len(data.test)) if count is None else count
    if not 1 <= count <= len(data.test):
        raise InputError(f"--count: expected 1 to {len(data.test)} images, got {count}.")
    x, _ = evaluation_images(data.test, run.experiment.data.protocol(), "test", draws=1)
    return x[torch.randperm(len(x))[:count]]


def _save(out: Path, content: bytes) -> None:
    from mpdvae.system.atomic_files import write_atomically

    write_atomically(out, content)
    print(out)
