"""Images in the forms in which users of scikit-learn have them, as levels, and back.

`fit` remembers the form of its X: type, axes, whether rows were flat. Images that come back have it, too. Images for a model
that was trained elsewhere are brought to the form of its training images, as `vae.preprocess` does. The docstring of `MPDVAE`
lists the forms.
"""

import math
from typing import Any, cast

import numpy as np
import torch
from sklearn.utils.validation import validate_data

from mpdvae.data.arrays import channels_first, grey_levels, plain_array
from mpdvae.data.given_dataset import DatasetSource, holds_pictures, is_picture
from mpdvae.data.given_images import given_images
from mpdvae.data.layout import axes_of_image, in_range, in_unit_range, with_axes
from mpdvae.data.preparation import Preparation
from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.fields import ImageShape

FEWEST_IMAGES = 4
"""Minimum number of images: two for training and two for validation, because divergences are between pairs."""


class ImagesInX:
    """The part of the estimator that reads images from X and returns images in the same form."""

    image_shape: Any
    value_range: Any
    levels: Any
    experiment_: Experiment
    image_shape_: ImageShape
    _dtype: np.dtype
    _rows: bool
    _layout: tuple[int, ...]

    def _pixels(self, X: Any, fitting: bool) -> torch.Tensor:
        """Returns X as levels [n channel height width]: bytes, or of 16 bits if the model has more levels than 256."""
        if is_picture(X):
            X = [X]
        if not fitting and (holds_pictures(X) or self._brings_to_form(X)):
            return self._prepared(X)
        layout = None
        if holds_pictures(X):
            X = self._of_pictures(X)
        if isinstance(X, torch.Tensor | list | tuple):
            X = plain_array(X, "X")
        if getattr(X, "ndim", 2) > 2:  # scikit-learn converts, or rejects, what has no axes
            X = np.asarray(X)
            layout = X.shape[1:]
            X = X.reshape(len(X), math.prod(layout))
        rows: Any = validate_data(cast(Any, self), X, reset=fitting, ensure_min_samples=FEWEST_IMAGES if fitting else 1)
        if fitting:
            self._dtype, self._rows = rows.dtype, layout is None
            self._layout = axes_of_image(rows.shape[1], layout, self.image_shape)
        images = rows.reshape(-1, *(self._layout if fitting or layout is None else layout))
        levels = self.levels if fitting else self.experiment_.data.levels
        bits = 16 if levels > 256 else 8
        pixels = channels_first(grey_levels(in_unit_range(images, self.value_range), "X", bits), "X")
        return pixels if fitting else self._alike(pixels, layout)

    def _of_pictures(self, X: Any) -> np.ndarray:
        """Returns pictures of Pillow as an array [n height width] or [n height width channel], as they look: bytes or, of 16
        bits, numbers in `value_range`."""
        source = DatasetSource(X, Preparation(bits=16 if self.levels > 256 else 8), where="X")
        levels = source.read(np.arange(len(source)))
        levels = levels[:, 0] if levels.shape[1] == 1 else levels.transpose(0, 2, 3, 1)
        return in_range(levels / 65535, levels.dtype, self.value_range) if levels.dtype == np.uint16 else levels

    def _brings_to_form(self, X: Any) -> bool:
        """Returns whether images X, in an array or in lists, are brought to the form of the model's, as those of its training
        were."""
        held = isinstance(X, np.ndarray | torch.Tensor | list | tuple)
        return held and self.experiment_.data.preparation().changes_form and not _are_rows(X)

    def _prepared(self, X: Any) -> torch.Tensor:
        """Returns images as `vae_.preprocess` reads them: prepared as those that the model was trained on."""
        preparation = self.experiment_.data.preparation()
        pixels = given_images(X, self.image_shape_, self.value_range, "X", preparation).pixels
        channel, height, width = pixels.shape[1:]
        return self._alike(pixels, (height, width) if channel == 1 else (height, width, channel))

    def _alike(self, pixels: torch.Tensor, given: tuple[int, ...] | None) -> torch.Tensor:
        """Returns images, which have the shape of those that the model was trained on. Raises `InputError`, which calls their
        shape `given`, if they have not."""
        if tuple(pixels.shape[1:]) != self.image_shape_:
            raise InputError(f"X: expected images of shape {self._layout} as in fit, got {given}.", topic="image-shape")
        return pixels

    def _as_given(self, images: torch.Tensor) -> np.ndarray:
        """Returns images from the model in the form and value range of the images in `fit`."""
        x = with_axes(self.experiment_.data.shown(images).cpu().numpy(), self._layout)
        return in_range(x.reshape(len(x), -1) if self._rows else x, self._dtype, self.value_range)

    def _of_trained(self, image_shape: ImageShape) -> None:
        """Takes the form of images of a trained model: floats, in the axes that `image_shape` asks for. Raises `InputError`
        if these are other images."""
        numbers = math.prod(image_shape)
        self.image_shape_ = image_shape
        setattr(self, "n_features_in_", numbers)  # noqa: B010 - scikit-learn's name, which its classes do not declare
        self._dtype, self._rows = np.dtype(np.float32), False
        self._layout = axes_of_image(numbers, None, self.image_shape)
        _check_layout(self._layout, image_shape)


def _are_rows(X: Any) -> bool:
    """Returns whether X has two axes: flat rows."""
    axes = getattr(X, "ndim", None)
    if axes is None:  # of lists, the length of the first ones tells
        return not X or np.ndim(X[0]) == 1
    return axes == 2


def _check_layout(layout: tuple[int, ...], image_shape: tuple[int, int, int]) -> None:
    """Raises `InputError` unless images [n *layout] have `image_shape`."""
    found = tuple(channels_first(np.zeros((1, *layout), np.uint8), "image_shape").shape[1:])
    if found != image_shape:
        raise InputError(
            f"image_shape: expected the shape of the model's images, {image_shape} (channel, height, width), in any order of "
            f"the channels, got {layout}.",
            topic="image-shape",
        )
