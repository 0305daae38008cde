"""Commands that write images from a model to a PNG."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from mpdvae.commands.label_option import Label
from mpdvae.errors import InputError, listed
from mpdvae.system.devices import AUTO, device_for
from mpdvae.system.untrusted_files import in_short
from mpdvae.system.untrusted_text import tell

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mpdvae import VAE

NAMED = 40
"""Classes whose columns are named."""


def sample(
    source: Positional[str],
    out: Path,
    count: int = 64,
    seed: int = 0,
    label: Label = None,
    covariates: tuple[float, ...] | None = None,
    pixel_noise: bool = True,
    device: str = AUTO,
) -> None:
    """Sample images from a model and write them to a PNG.

    Args:
        source: Folder of a run or of a model, or name of a model that comes with the package (`mpdvae models`).
        out: Path of the PNG.
        count: Number of images.
        seed: Random seed of the samples.
        label: Class of the images, by name or number, of a model that is conditioned on classes; default: a column of each.
        covariates: Covariates of the images, of a model that is conditioned on them; default: those of training images.
        pixel_noise: Whether pixels are drawn given the code. Without, they take their mean, or their more probable value.
        device: auto, cpu, cuda, mps, ... auto: a GPU if there is one.
    """
    from mpdvae.evaluation import image_grids
    from mpdvae.seeding import seeded

    image_grids.check_png_path(out)
    vae = _model(source, device)
    by_class = label is None and vae.classes and (covariates is not None or not vae.condition.covariates)
    columns = vae.classes if by_class else max(1, round(count**0.5))
    labels = [i % vae.classes for i in range(count)] if by_class else label
    with _drawing(f"drawing {count} images"), seeded(seed, "sample"):
        if pixel_noise:
            images = vae.sample(count, labels, covariates)
        else:
            images = vae.decode(_codes(vae, count), labels=labels, covariates=covariates)
    _save(out, image_grids.png(image_grids.in_rows(_shown(vae, images), columns)))
    if by_class and vae.class_names:
        columns_are = listed([in_short(name, 60) for name in vae.class_names[:count]], NAMED)
        tell(f"The columns, from the left, are the classes {columns_are}.")


def reconstruct(
    source: Positional[str],
    out: Path,
    count: int | None = None,
    seed: int = 0,
    device: str = AUTO,
    data_dir: Path | None = None,
) -> None:
    """Write test images and their reconstructions to a PNG.

    Three rows: images; the more probable value of each pixel, given the posterior mean; a random draw.

    Args:
        source: Folder of the run, or name of a model that comes with the package (`mpdvae models`).
        out: Path of the PNG.
        count: Number of images, chosen at random. Default: 10, or all if there are fewer.
        seed: Random seed of the choice of images and of the draw.
        device: auto, cpu, cuda, mps, ... auto: a GPU if there is one.
        data_dir: Folder of the data; for your own images that have moved: their new location.
    """
    import torch

    from mpdvae.evaluation import image_grids
    from mpdvae.seeding import seeded

    image_grids.check_png_path(out)
    vae = _model(source, device)
    with seeded(seed, "reconstruct"):
        x = _some_images(source, vae, 10, data_dir, count)
        with _drawing("reconstructing images"):
            rows = [x, vae.reconstruct(x), vae.reconstruct(x, greedy=False)]
    _save(out, image_grids.png(_shown(vae, torch.stack(rows))))


def traverse(
    source: Positional[str],
    out: Path,
    dimensions: int = 8,
    columns: int = 9,
    seed: int = 0,
    device: str = AUTO,
    data_dir: Path | None = None,
) -> None:
    """Traverse the most informative latent dimensions and write the images to a PNG.

    One row per dimension, from -3 to 3 standard deviations of the codes, around a test image's code.

    Args:
        source: Folder of the run, or name of a model that comes with the package (`mpdvae models`).
        out: Path of the PNG.
        dimensions: Number of dimensions, and of rows.
        columns: Images per row.
        seed: Random seed of the choice of the test image.
        device: auto, cpu, cuda, mps, ... auto: a GPU if there is one.
        data_dir: Folder of the data; for your own images that have moved: their new location.
    """
    from mpdvae.evaluation import image_grids
    from mpdvae.evaluation.run_pictures import traversal
    from mpdvae.seeding import seeded

    image_grids.check_png_path(out)
    vae = _model(source, device)
    with seeded(seed, "traverse"), _drawing("traversing the latent space"):
        x = _some_images(source, vae, 500, data_dir)
        z, told = traversal(vae, x, dimensions, columns), vae.told_of(x[:1])
        images = vae.decode_told(z, None if told is None else told.expand(len(z), -1))
    _save(out, image_grids.png(_shown(vae, images)))


def _codes(vae: "VAE", count: int) -> "Tensor":
    """Returns codes from the prior."""
    import torch

    with torch.no_grad():
        return vae.prior().sample((count,))


def _model(source: str, asked: str) -> "VAE":
    from mpdvae.runs.model_folder import load
    from mpdvae.sharing.shipped import located
    from mpdvae.workflows.job import check_device

    device = device_for(asked)
    check_device(device)
    return load(located(source)).to(device or "cpu")


def _shown(vae: "VAE", images: "Tensor") -> "Tensor":
    """Maps images from the value range of the model to [0, 1]."""
    from mpdvae.experiments.experiment import origin_of

    channels = origin_of(vae).image_shape[0]
    if channels not in (1, 3):
        seen = "the first three as red, green and blue" if channels > 3 else "the first, in grey"
        tell(f"The images have {channels} channels; the picture shows {seen}.")
    return origin_of(vae).experiment.data.shown(images)


def _device(vae: "VAE") -> "torch.device":
    return next(vae.parameters()).device


@contextmanager
def _drawing(what: str) -> Iterator[None]:
    """Displays what is being drawn and, if known, the progress and the remaining time."""
    from mpdvae.distributions.pixels import watching_draws
    from mpdvae.workflows.progress_display import Watcher

    with Watcher(what) as watcher, watching_draws(lambda share: watcher.update(share, {})):
        yield


def _some_images(source: str, vae: "VAE", most: int, data_dir: Path | None, count: int | None = None) -> "Tensor":
    """Returns `count` random images for the model; by default `most`, or all if there are fewer.

    Uses torch's global generator.
    """
    import torch

    from mpdvae.commands.model_images import model_images
    from mpdvae.sharing.shipped import located

    x, _ = model_images(located(source), vae, data_dir)
    count = min(most, len(x)) if count is None else count
    if not 1 <= count <= len(x):
        raise InputError(f"--count: expected 1 to {len(x)} images, got {count}.")
    return x[torch.randperm(len(x))[:count]].to(_device(vae))


def _save(out: Path, content: bytes) -> None:
    from mpdvae.system.atomic_files import write_atomically

    write_atomically(out, content)
    tell(str(out))
