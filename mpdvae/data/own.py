"""Own data: a numpy archive (npz.py), a numpy array, a folder of pictures (image_folder.py), or a data set of another library
(given_dataset.py); prepared, and split here unless the files define a split.

Without a test set, a tenth of the images becomes one; then a tenth of the rest (or the requested number) is set aside for
validation, both at random by the split seed. A tenth of many large images is more than is needed to measure a model, and more
than fits into memory: at most `MOST_ASIDE` values, or `FEWEST_ASIDE` images, are set aside for each, and at least `PAIR`.

Pictures and arrays of more than `IN_MEMORY` bytes stay in their files (stored_images.py). Nothing else depends on that.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mpdvae.data.array_file import ArraySource, is_streamed
from mpdvae.data.arrays import channels_first, grey_levels, plain_array
from mpdvae.data.class_names import ClassNames
from mpdvae.data.conditions import NOTHING, Covariates, Known
from mpdvae.data.covariates import of_array
from mpdvae.data.given_dataset import DatasetSource
from mpdvae.data.given_lists import beside_labels
from mpdvae.data.image_folder import picture_folder
from mpdvae.data.images import Images, Splits
from mpdvae.data.labels import class_numbers
from mpdvae.data.layout import ValueRange
from mpdvae.data.npz import read_npz
from mpdvae.data.picture_source import PictureSource
from mpdvae.data.preparation import AS_STORED, Preparation
from mpdvae.data.protocols import PAPER_SPLIT_SEED, split_train_validation
from mpdvae.data.stored_images import Source, StoredImages
from mpdvae.errors import InputError

IN_MEMORY = 1 << 28
"""Bytes of all pictures that are kept in memory: three times as many as CIFAR-10 has."""
MOST_ASIDE = 1 << 24
"""Values of the images that are set aside, 64 MiB in float32: 21,399 grey images of 28x28, 1,365 in colour of 64x64."""
FEWEST_ASIDE = 200
PAIR = 2
"""The fewest images that are set aside for each: divergences are between pairs."""
_FEWEST = 10


def own_path(path: Path | str) -> Path:
    """Returns `path` with a leading `~` replaced by the home folder. Raises `InputError` for a user that does not exist."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path}: there is no such user; give the path of the images.", topic="own-data") from None


def load_own(path: Path, validation_size: int | None, split_seed: int, preparation: Preparation = AS_STORED) -> Splits:
    """Loads, prepares and splits the images at `path`. Raises `InputError` with one clear sentence for anything wrong with
    them."""
    title = titled(f"own data {path.name}", preparation)
    if path.is_dir():
        found = picture_folder(path)
        source = PictureSource(found.pictures, preparation)
        parts = {"all": _held(source, Known(found.labels, found.covariates), found.recorded_names)}
        splits = split_own(parts, str(path), title, validation_size, split_seed)
        return replace(splits, reading=found.reading(source), omission=found.omission)
    if not path.is_file():
        raise InputError(
            f"{path} does not exist: give an .npz file, an .npy file or a folder of pictures; if a run's images have moved, "
            "give their new place with --data-dir.",
            topic="own-data",
        )
    if path.suffix.lower() == ".npy":
        parts = {"all": _held(ArraySource(path, preparation))}
    else:
        parts = {name: prepared(images, preparation) for name, images in read_npz(path, preparation.bits).items()}
    return split_own(parts, str(path), title, validation_size, split_seed)


def from_dataset(
    dataset: Any,
    title: str = "own images",
    *,
    validation_size: int | None = None,
    split_seed: int = PAPER_SPLIT_SEED,
    preparation: Preparation = AS_STORED,
    covariates: Covariates | None = None,
    value_range: ValueRange | None = None,
    where: str = "dataset",
) -> Splits:
    """Returns the images of a data set of another library, split as those of a folder.

    Arguments:
        dataset: a map-style `torch.utils.data.Dataset`, a `datasets.Dataset` of Hugging Face, or anything else that has a
            length and gives images, or pairs or dictionaries of image and label, by number; see `DatasetSource`.
        title: what the data are called.
        validation_size: number of images set aside for validation; None: a tenth, within the bound of this module.
        split_seed: seed of the split.
        preparation: what is done to each picture.
        covariates: numbers that are known of each image, [n] or [n covariate].
        value_range: values of black and white in arrays; None: 0 and 1 for floats, 0 and 255 for integers. Booleans, bytes
            (uint8) and pictures have their own.
        where: name of the argument, for messages.

    Raises:
        InputError: if its items are no images, or differ in shape, or covariates are no finite numbers.
    """
    source = DatasetSource(dataset, preparation, where=where, value_range=value_range)
    told = None if covariates is None else _numbers(covariates, len(source))
    parts = {"all": _held(source, Known(source.labels, told), source.class_names)}
    splits = split_own(parts, title, titled(title, preparation), validation_size, split_seed)
    return replace(splits, preparation=preparation)


def images_of_array(x: Any, where: str, preparation: Preparation = AS_STORED) -> Images:
    """Returns the images of an array, a tensor or nested lists, prepared, or of a pair of these and labels. Those of a
    memory-mapped array stay in its file if they are too many. Raises `InputError`, calling them `where`, if they are no
    images."""
    if (both := beside_labels(x)) is not None:
        images, classes = images_of_array(both.images, f"{where}[0]", preparation), both.labels
        return images.of_classes(class_numbers({f"{where}[1]": classes})[0])
    if is_streamed(x):
        return _held(ArraySource(x, preparation))
    pixels = channels_first(grey_levels(plain_array(x, where), where, preparation.bits), where)
    return prepared(Images(pixels), preparation)


def _numbers(covariates: Covariates, count: int) -> Float[Tensor, "n covariate"]:
    return of_array(plain_array(covariates, "covariates", "rows of as many numbers each"), count, "covariates")


def _held(source: Source, known: Known = NOTHING, names: ClassNames = ()) -> Images:
    """Returns the images in memory, or in their files if they are too many."""
    stored = StoredImages(source, known, class_names=names)
    if len(source) * math.prod(source.image_shape) * source.preparation.bits // 8 > IN_MEMORY:
        return stored
    return Images(stored.pixels, known.labels, covariates=known.covariates, class_names=names)


def prepared(images: Images, preparation: Preparation) -> Images:
    """Returns images in memory, each of them prepared."""
    pixels = np.stack([preparation.apply(levels) for levels in images.pixels.numpy()])
    return replace(images, pixels=torch.from_numpy(pixels))


def titled(name: str, preparation: Preparation) -> str:
    """Returns the name of data that were prepared."""
    return name + (f" ({preparation.in_words})" if preparation.in_words else "")


def split_own(parts: dict[str, Images], where: str, title: str, validation_size: int | None, split_seed: int) -> Splits:
    """Splits images that are called "all", or "train" and "test". Raises `InputError`, naming `where`, if they are too
    few."""
    train, test = _with_test(parts, where, split_seed)
    tenth = min(max((len(train) + 9) // 10, PAIR), most_aside(train))
    size = tenth if validation_size is None else validation_size
    if not 0 < size < len(train):
        raise InputError(
            f"{where} has too few images: {len(train)} remain besides the test images, of which {size} cannot be set "
            "aside for validation.",
            topic="own-data",
        )
    kept, aside = split_train_validation(len(train), size, split_seed)
    return Splits.of("own", title, train.part(kept), train.part(aside), test, split_seed)


def most_aside(images: Images) -> int:
    """Returns how many of such images are set aside at the most, for testing or for validation."""
    return max(FEWEST_ASIDE, MOST_ASIDE // math.prod(images.image_shape))


def _with_test(parts: dict[str, Images], where: str, split_seed: int) -> tuple[Images, Images]:
    if "all" in parts:
        images = parts["all"]
        if len(images) < _FEWEST:
            raise InputError(
                f"{where} has too few images: {len(images)}, but at least {_FEWEST} are needed to set a tenth aside for "
                "testing and another for validation, two images or more each; give more images.",
                topic="own-data",
            )
        tenth = min(max(len(images) // 10, PAIR), most_aside(images))
        rest, test = split_train_validation(len(images), tenth, split_seed)
        return images.part(rest), images.part(test)
    train, test = parts["train"], parts["test"]
    if train.image_shape != test.image_shape:
        raise InputError(
            f"training and test images in {where} differ in shape: {train.image_shape} and {test.image_shape} (channel, "
            "height, width).",
            topic="own-data",
        )
    return train, test
