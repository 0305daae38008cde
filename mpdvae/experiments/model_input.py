"""Images in whatever form they are at hand, as the input of a model: in its shape, its range, and binarised by its protocol.

    vae.preprocess("pictures/")             vae.preprocess([Image.open("3.png"), array])           vae.preprocess(bytes)

A model of black and white pixels takes each image drawn once, white with the probability that its grey level gives, by a seed
that depends on the image alone (`mpdvae.data.protocols`): the same picture always gives the same input, wherever it stands.
To binarise without randomness, pass `images > 0.5`. A model of 256 levels takes them as numbers from -1 to 1. Images are
prepared as the model's training images were (`mpdvae.data.preparation`): resized, for example.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float, UInt
from torch import Tensor

from mpdvae.data.class_names import Classes, ClassNames, as_trained
from mpdvae.data.conditions import NOTHING, Covariates, Known, Labels, checked_known
from mpdvae.data.given_images import GivenImages, given_images, path_of, read_images
from mpdvae.data.layout import ValueRange
from mpdvae.data.protocols import Protocol, evaluation_images, expected_images, images_by_content
from mpdvae.errors import InputError
from mpdvae.experiments.experiment import origin_of

if TYPE_CHECKING:
    from mpdvae.vae import VAE


@dataclass(frozen=True)
class ModelInput:
    """Images as a model takes them."""

    x: Float[Tensor, "batch channel_or_more height width"]
    pixels: UInt[Tensor, "batch channel height width"]
    """Levels that x was made of."""
    protocol: Protocol
    keys: list[int]
    """Key of each image, for the noise of its samples."""
    known: Known = NOTHING
    """Labels and covariates, given or those that the images came with."""
    names: list[str] | None = None
    """Name of each image's file, if it had one."""
    reading: str = ""
    """What was read of a folder of pictures, changed and left out, in one line."""
    omission: str = ""
    """What was left out alone."""
    class_names: ClassNames = ()
    """Names of the classes, in the order of their numbers; empty: they have none."""

    def expected(self) -> Float[Tensor, "batch channel_or_more height width"]:
        """Returns the mean of x over its draws, which codes are made of: grey images where x is black and white draws of
        them."""
        if not self.protocol.binarises:
            return self.x
        return expected_images(self.pixels, self.protocol, self.known).to(self.x.device)


def preprocess(
    vae: "VAE",
    images: Any,
    *,
    value_range: ValueRange | None = None,
    labels: Labels | None = None,
    covariates: Covariates | None = None,
) -> Float[Tensor, "batch channel height width"]:
    """Returns `images` as `vae` takes them, on its device. Warns of files in a folder that are no pictures.

    Arguments:
        vae: a model that was loaded, or built from an experiment.
        images: a path of a folder of pictures, of a picture, of an .npz archive or of an .npy array; a Pillow image; an
            array or a torch tensor: one image or several, with the channels first, last or, for grey images, left out, or
            flat rows; a list of images; or a data set of torch or Hugging Face.
        value_range: values of black and white; None: 0 and 1 for floats, 0 and 255 for integers. Booleans, bytes (uint8)
            and pictures have their own.
        labels: classes of the images, for a conditional model: numbers or names (`vae.class_names`), one for all or one for
            each; None: those that the images come with, by name where the classes of the training images had names.
        covariates: numbers that a conditional model is told of the images: a row for all or one for each; None: those that
            the images come with.

    Raises:
        InputError: for images of another shape or range, labels or covariates that do not fit, damaged files, or a model
            whose data are not known.
    """
    given = model_input(vae, images, value_range, labels=labels, covariates=covariates)
    if given.omission:
        warnings.warn(f"{images}: {given.omission}", stacklevel=3)  # the caller of vae.preprocess
    return given.x


def model_input(
    vae: "VAE",
    images: Any,
    value_range: ValueRange | None = None,
    split: str = "test",
    labels: Labels | None = None,
    covariates: Covariates | None = None,
) -> ModelInput:
    """Returns `images` as `vae` takes them, with what is known of them; see `preprocess`.

    Arguments:
        split: part of an archive that holds x_train and x_test.
    """
    shape, preparation = origin_of(vae).image_shape, origin_of(vae).experiment.data.preparation()
    if (path := path_of(images)) is not None:
        return of_given(vae, read_images(path, shape, value_range, split, preparation), str(path), labels, covariates)
    return of_given(
        vae, given_images(images, shape, value_range, preparation=preparation), "images", labels, covariates
    )


def of_given(
    vae: "VAE", given: GivenImages, where: str, labels: Labels | None = None, covariates: Covariates | None = None
) -> ModelInput:
    """Returns images that belong to no data set as `vae` takes them, with `labels` and `covariates` or, by default, their
    own. Raises `InputError`, which calls them `where`, if they have another shape, labels that are none, or covariates far
    from those of training."""
    _check_shape(vae, given.pixels, where)
    numbers = None if labels is None else origin_of(vae).class_numbers(labels)
    said = checked_known(vae.condition, numbers, covariates, len(given.pixels))
    own_classes = Classes(given.labels, given.class_names) if said.labels is None else Classes(said.labels)
    classes = _as_trained(vae, own_classes)
    own = Known(classes.labels, given.covariates if said.covariates is None else said.covariates)
    protocol = origin_of(vae).experiment.data.protocol()
    x, keys = images_by_content(given.pixels, protocol, own)
    x = _on_device(vae, x)
    vae.check_near_training(vae.told_of(x))
    return ModelInput(x, given.pixels, protocol, keys, own, given.names, given.reading, given.omission, classes.names)


def _as_trained(vae: "VAE", classes: Classes) -> Classes:
    """Returns the classes of images with the numbers and names that they had in the training of `vae`."""
    return as_trained(classes, origin_of(vae).known_names, vae.classes)


def of_data_set(vae: "VAE", name: str, split: str, root: Path | None = None) -> ModelInput:
    """Returns a part of the data set `name` as `vae` takes it: the first fixed draw of its protocol. The data set that the
    model was trained on is split as it was then.

    Arguments:
        vae: as in `preprocess`.
        name: name of the data set in `mpdvae data list`.
        split: "train", "validation" or "test".
        root: folder of the data; None: the default.

    Raises:
        InputError: for an unknown name or part, or images of another shape.
        RunError: if the data set is not here and cannot be fetched.
    """
    from mpdvae.data import load

    data = origin_of(vae).experiment.data
    validation_size = data.validation_size if name == data.dataset else None
    splits = load(name, root=root, validation_size=validation_size, split_seed=data.split_seed)
    images = splits.part(split)
    _check_shape(vae, images.pixels, name)
    x, _ = evaluation_images(images, data.protocol(), split, draws=1)
    known, classes = images.known, _as_trained(vae, Classes(images.labels))
    return ModelInput(
        _on_device(vae, x), images.pixels, data.protocol(), list(range(len(x))), known, class_names=classes.names
    )


def _check_shape(vae: "VAE", pixels: Tensor, where: str) -> None:
    expected, found = origin_of(vae).image_shape, tuple(pixels.shape[1:])
    if found != expected:
        raise InputError(
            f"{where}: expected images of shape {expected} (channel, height, width), which the model takes, got {found}; "
            "resize them, or convert grey to colour or colour to grey.",
            topic="image-shape",
        )


def _on_device(vae: "VAE", x: Tensor) -> Tensor:
    return x.to(next(vae.parameters()).device)
