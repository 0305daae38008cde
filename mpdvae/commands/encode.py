"""The command `encode`, which writes the codes of images to a file."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from mpdvae.commands.label_option import Label
from mpdvae.system.devices import AUTO, device_for
from mpdvae.system.untrusted_text import tell


def encode(
    source: Positional[str],
    images: Positional[str],
    out: Path,
    samples: int = 64,
    split: Literal["train", "validation", "test"] = "test",
    value_range: tuple[float, float] | None = None,
    label: Label = None,
    covariates: tuple[float, ...] | None = None,
    seed: int = 0,
    device: str = AUTO,
    data_dir: Path | None = None,
) -> None:
    """Write the codes of images, with their KL and log p, to a table.

    A row per image: file, label, mean and scale of its posterior, KL and log p(x) in nats.

    Args:
        source: Folder of a run or of a model, name of a model that comes with the package (`mpdvae models`), or owner/name
            of a model on the Hugging Face Hub.
        images: Folder of pictures, one picture, .npz archive, .npy array, or name of a data set (`mpdvae data list`). What
            exists takes precedence over a name.
        out: Path of the table: .npz, .csv, or .parquet (extra `parquet`).
        samples: Importance samples per image for log p(x); 1: the ELBO.
        split: Part of the data set, or of an archive that holds x_train and x_test.
        value_range: Values of black and white in an array, if they are not 0 and 1 for floats, 0 and 255 for integers.
        label: Class of the images, by name or number, for a conditional model; default: that of their folder, or data set.
        covariates: Covariates of the images, for a model that is conditioned on them; default: those that came with them.
        seed: Random seed of the importance samples.
        device: auto, cpu, cuda, mps, ... auto: a GPU if there is one.
        data_dir: Folder of the data sets.
    """
    from mpdvae import load
    from mpdvae.evaluation.code_files import check_path
    from mpdvae.evaluation.image_codes import encode_images
    from mpdvae.workflows.job import check_device
    from mpdvae.workflows.progress_display import Watcher

    check_path(out)
    used = device_for(device)
    check_device(used)
    vae = load(source).to(used or "cpu")
    with Watcher(f"encoding {images}") as watcher:
        codes = encode_images(
            vae,
            images,
            samples,
            split=split,
            seed=seed,
            value_range=value_range,
            labels=label,
            covariates=covariates,
            data_dir=data_dir,
            progress=lambda done, total: watcher.update(done / total, {}),
        )
    codes.write(out)
    if codes.reading:
        tell(f"{images}: {codes.reading}")
    tell(str(out))
