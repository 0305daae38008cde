"""Images in whatever form they are at hand, as levels: arrays, tensors, pictures, files, folders, and lists of these.

    read_images(path)            a folder of pictures, a picture, a numpy archive (.npz) or a numpy array (.npy)
    given_images(images, ...)    the same by path, Pillow images, arrays, torch tensors, lists of these, and data sets of
                                 other libraries (given_dataset.py)

The shape of the model's images tells which axis is the channel, whether there is an axis of images, and the shape of flat
rows. Where images are brought to one size, an array [a b 3] is a picture in colour, [a b c] for a grey model a images, and
[3 b c] for a model in colour one with its channels first; [a b 1], [a b 2] and [a b 4] are refused, since they may be either.

Values are booleans, integers 0..255 (for a model of more levels than 256: bytes, or other integers 0..65535) or floats 0..1,
or numbers for which `value_range` gives black and white. The preparation of the model's training images is applied. Nothing
else is guessed or scaled to fit: what does not fit is rejected.
"""

import os
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt
from torch import Tensor

from mpdvae.data.array_file import mapped_array
from mpdvae.data.arrays import channel_axis, grey_levels, plain_array
from mpdvae.data.class_names import ClassNames
from mpdvae.data.given_dataset import DatasetSource, is_dataset, is_picture, refuse_unnumbered
from mpdvae.data.given_lists import beside_labels, holds_items, listed_column
from mpdvae.data.image_folder import PictureFolder, picture_folder
from mpdvae.data.images import Images
from mpdvae.data.labels import class_numbers
from mpdvae.data.layout import ValueRange, in_unit_range
from mpdvae.data.npz import read_npz
from mpdvae.data.picture_file import damage_told, pictures_in
from mpdvae.data.picture_levels import levels_of_picture
from mpdvae.data.picture_source import PictureSource
from mpdvae.data.preparation import AS_STORED, Preparation
from mpdvae.errors import InputError

ImageShape = tuple[int, int, int]
MOST_BYTES = 4096
"""Bytes of a path, as Linux allows them."""


@dataclass(frozen=True)
class GivenImages:
    """Images with what is known of them."""

    pixels: UInt[Tensor, "n channel height width"]
    labels: Tensor | None = None
    covariates: Tensor | None = None
    """Numbers that are known of each image [n covariate]."""
    names: list[str] | None = None
    """Name of each image's file, relative to the folder; None if the images had no files of their own."""
    reading: str = ""
    """What was read, changed and left out, in one line, for a folder of pictures."""
    omission: str = ""
    """What was left out alone."""
    class_names: ClassNames = ()
    """Names of the classes, in the order of their labels; empty: they have none."""

    def __len__(self) -> int:
        return len(self.pixels)


def read_images(
    path: Path,
    image_shape: ImageShape,
    value_range: ValueRange | None = None,
    split: str = "test",
    preparation: Preparation = AS_STORED,
) -> GivenImages:
    """Reads the images at `path`.

    Arguments:
        path: a folder of pictures, a picture, an .npz archive or an .npy array.
        image_shape: (channel, height, width) by which the axes of an .npy array are told.
        value_range: values of black and white in an array or an archive, as in `given_images`.
        split: part of an archive that holds x_train and x_test.
        preparation: what is done to each image.

    Raises:
        InputError: if there is nothing there, or it cannot be used.
    """
    if path.is_dir():
        return _of_pictures(picture_folder(path), image_shape, preparation)
    if not path.is_file():
        raise InputError(
            f"{path} does not exist: give a folder of pictures, a picture, an .npz archive or an .npy array.",
            topic="own-data",
        )
    if path.suffix.lower() == ".npz":
        found = _part_of(read_npz(path, preparation.bits, value_range), split, path)
        return GivenImages(
            _prepared(found.pixels, preparation), found.labels, found.covariates, class_names=found.class_names
        )
    if path.suffix.lower() == ".npy":
        return GivenImages(_levels(mapped_array(path), image_shape, value_range, str(path), preparation))
    return _of_pictures(PictureFolder(path.parent, pictures_in(path), None, []), image_shape, preparation)


def given_images(
    images: Any,
    image_shape: ImageShape,
    value_range: ValueRange | None = None,
    where: str = "images",
    preparation: Preparation = AS_STORED,
) -> GivenImages:
    """Returns `images` as levels.

    Arguments:
        images: see the head of this file.
        image_shape: (channel, height, width) by which the axes of arrays are told.
        value_range: values of black and white; None: 0 and 1 for floats, 0 and 255 for integers. Booleans, bytes
            (uint8) and pictures have their own.
        where: name of the argument, for messages.
        preparation: what is done to each image.

    Raises:
        InputError: for anything else.
    """
    if (path := path_of(images)) is not None:
        return read_images(path, image_shape, value_range, preparation=preparation)
    images = listed_column(images)
    if not hasattr(images, "__array__"):
        refuse_unnumbered(images, where)
    if (both := beside_labels(images)) is not None:
        given = given_images(both.images, image_shape, value_range, f"{where}[0]", preparation)
        classes = class_numbers({f"{where}[1]": both.labels})[0]
        return replace(given, labels=classes.labels, class_names=classes.names)
    if is_dataset(images) or holds_items(images):
        source = DatasetSource(images, preparation, image_shape[0], where, value_range)
        pixels = torch.from_numpy(source.read(np.arange(len(source))))
        return GivenImages(pixels, source.labels, class_names=source.class_names)
    if is_picture(images):
        return GivenImages(torch.from_numpy(_picture(images, image_shape, where, preparation))[None])
    if not isinstance(images, list | tuple) or not images:
        return GivenImages(_levels(plain_array(images, where), image_shape, value_range, where, preparation))
    paths = [path_of(image) for image in images]
    if all(path is None and not _is_image(image) for path, image in zip(paths, images, strict=True)):
        return GivenImages(_levels(plain_array(images, where), image_shape, value_range, where, preparation))
    parts = []
    for i, image in enumerate(images):
        part = given_images(image, image_shape, value_range, f"{where}[{i}]", preparation)
        if parts and part.pixels.shape[1:] != parts[0].pixels.shape[1:]:
            raise InputError(
                f"{where}[{i}]: expected the shape of {where}[0], {tuple(parts[0].pixels.shape[1:])} (channel, height, "
                f"width), got {tuple(part.pixels.shape[1:])}; make all images alike.",
                topic="own-data",
            )
        parts.append(part)
    pixels = torch.cat([part.pixels for part in parts])
    return GivenImages(pixels, names=_names(parts, paths))


def _names(parts: list[GivenImages], paths: list[Path | None]) -> list[str] | None:
    """Returns the name of each image's file, relative to the folder that holds all `paths`; None if some have no files of
    their own."""
    there = [Path(os.path.abspath(path)) for path in paths if path is not None]
    named = [part.names or ([] if path.is_dir() else [path.name]) for part, path in zip(parts, there, strict=False)]
    if len(there) < len(paths) or any(len(names) != len(part) for names, part in zip(named, parts, strict=True)):
        return None
    folders = [path if path.is_dir() else path.parent for path in there]
    common = Path(os.path.commonpath(folders)) if len({path.anchor for path in there}) == 1 else Path()
    return [
        os.path.relpath(folder / name, common) if common.is_absolute() else str(folder / name)
        for folder, names in zip(folders, named, strict=True)
        for name in names
    ]


def path_of(images: Any) -> Path | None:
    """Returns the path that `images` is, as text, bytes or a path object; None if it is none. Raises `InputError` for empty
    text, and for the bytes of a file."""
    if not isinstance(images, str | bytes | os.PathLike):
        return None
    if isinstance(images, bytes) and (b"\0" in images or len(images) > MOST_BYTES):
        raise InputError(
            f"images: expected a path, or images, got {len(images):,} bytes that are no path; of a picture in a file, give "
            "the path, or PIL.Image.open(io.BytesIO(content)).",
            topic="own-data",
        )
    if images in ("", b""):
        raise InputError(
            "images: expected a path, or images, got empty text; give '.' for this folder.", topic="own-data"
        )
    return Path(os.fsdecode(images)).expanduser()


def _part_of(parts: dict[str, Images], split: str, path: Path) -> Images:
    if "all" in parts:
        return parts["all"]
    if split not in parts:
        raise InputError(f"{path} holds x_train and x_test, and no {split} images: choose the split train or test.")
    return parts[split]


def _of_pictures(found: PictureFolder, image_shape: ImageShape, preparation: Preparation) -> GivenImages:
    source = PictureSource(found.pictures, preparation, image_shape[0])
    pixels = torch.from_numpy(source.read_all())
    known = found.labels, found.covariates, found.names
    return GivenImages(pixels, *known, found.reading(source), found.omission, found.recorded_names)


def _is_image(x: Any) -> bool:
    return isinstance(x, Tensor | np.ndarray) or is_picture(x)


def _picture(image: Any, image_shape: ImageShape, where: str, preparation: Preparation) -> np.ndarray:
    """Returns a picture of Pillow as [channel height width]."""
    with damage_told(where):  # Pillow reads the file only now
        return levels_of_picture(image, where, preparation, image_shape[0]).levels


def _levels(
    x: np.ndarray, image_shape: ImageShape, value_range: ValueRange | None, where: str, preparation: Preparation
) -> Tensor:
    """Returns the array as levels [n channel height width], prepared."""
    if x.dtype.kind not in "biuf":
        raise InputError(f"{where}: expected images, got {_kind(x)}.", topic="own-data")
    x = _with_axis_of_images(x, image_shape, where, preparation)
    if x.size == 0:
        raise InputError(f"{where}: expected at least one image, got shape {x.shape}.", topic="own-data")
    if value_range is not None or x.dtype.kind == "f":
        x = in_unit_range(x, (0.0, 1.0) if value_range is None else value_range, where)
    return _prepared(torch.from_numpy(np.ascontiguousarray(grey_levels(x, where, preparation.bits))), preparation)


def _prepared(pixels: Tensor, preparation: Preparation) -> Tensor:
    return torch.from_numpy(np.stack([preparation.apply(levels) for levels in pixels.numpy()]))


def _with_axis_of_images(x: np.ndarray, image_shape: ImageShape, where: str, preparation: Preparation) -> np.ndarray:
    """Returns `x` as [n channel height width]. Raises `InputError` if its axes do not fit `image_shape`, unless images are
    brought to one size."""
    channel, height, width = image_shape
    if x.ndim == 3 and x.shape == image_shape:
        return x[None]
    if x.ndim == 3 and x.shape == (height, width, channel):
        return x.transpose(2, 0, 1)[None]
    if x.ndim == 4 and x.shape[1:] == image_shape:
        return x
    if x.ndim == 4 and x.shape[1:] == (height, width, channel):
        return x.transpose(0, 3, 1, 2)
    flat = {2: x.shape[1:] == (prod(image_shape),), 3: channel == 1 and x.shape[1:] == (height, width)}
    if flat.get(x.ndim) or (channel == 1 and x.shape == (height, width)):
        return x.reshape(-1, *image_shape)
    if preparation.changes_form and (found := _of_any_size(x, channel, where)) is not None:
        return found
    raise InputError(
        f"{where}: expected images of shape {image_shape} (channel, height, width), which the model takes, got an array of "
        f"shape {x.shape}; resize them, or convert grey to colour or colour to grey.",
        topic="image-shape",
    )


def _of_any_size(x: np.ndarray, channel: int, where: str) -> np.ndarray | None:
    """Returns one image or several of any size as [n channel height width] for a model of images with so many channels; None
    if `x` cannot be that. Three axes are one picture if the last one has three numbers, or as many as the model has channels
    beyond one, or, for a model in colour, the first one has three; otherwise they are grey images, however many. Raises
    `InputError` for a last axis that may be the channels of one picture as well."""
    if x.ndim == 2:
        return x[None, None]
    if x.ndim == 3 and (x.shape[2] == 3 or x.shape[2] == channel > 1):
        return x.transpose(2, 0, 1)[None]
    if x.ndim == 3 and x.shape[2] in (1, 2, 4):
        raise _ambiguous(x.shape, where)
    if x.ndim == 3:
        return x[None] if (channel, x.shape[0]) == (3, 3) else x[:, None]
    axis = channel_axis(x.shape) if x.ndim == 4 else None
    return None if axis is None else np.moveaxis(x, axis, 1)


def _ambiguous(shape: tuple[int, ...], where: str) -> InputError:
    n, height, width = shape
    one = {1: "a grey picture", 2: "a grey picture with transparency", 4: "a picture in colour with transparency"}[
        width
    ]
    advice = {1: "x[None]", 2: "PIL.Image.fromarray(x, 'LA')", 4: "PIL.Image.fromarray(x, 'RGBA')"}[width]
    return InputError(
        f"{where}: expected one picture or several, got an array of shape {shape}, which may be {one} of {n}x{height} or {n} "
        f"grey ones of {height}x{width}; give {advice} for the former, x[:, None] for the latter.",
        topic="image-shape",
    )


def _kind(x: Any) -> str:
    return f"an array of {x.dtype}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
