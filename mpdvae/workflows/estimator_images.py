"""Images in the forms in which users of scikit-learn have them, as levels, and back.

`fit` remembers the form of its X: type, axes, whether rows were flat. Images that come back have it, too. Images for a model
that was trained elsewhere are brought to the form of its training images, as `vae.preprocess` does. The docstring of `MPDVAE`
lists the forms.
"""

import math
import warnings
from typing import Any, cast

import numpy as np
import torch
from sklearn.utils.validation import validate_data

from mpdvae.data.arrays import channels_first, grey_levels, plain_array
from mpdvae.data.given_images import given_images
from mpdvae.data.layout import axes_of_image, in_range, in_unit_range, with_axes
from mpdvae.data.preparation import Preparation
from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.fields import ImageShape
from mpdvae.workflows.estimator_sources import holds_no_numbers, read_levels, unpacked

FEWEST_IMAGES = 4
"""Minimum number of images: two for training and two for validation, because divergences are between pairs."""
FORMS = (
    "an array [n height width], [n channel height width] or [n height width channel], flat rows with image_shape, pictures, "
    "files or a data set"
)


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
        levels = self.levels if fitting else self.experiment_.data.levels
        bits = 16 if levels > 256 else 8
        X = unpacked(X, bits)
        elsewhere = holds_no_numbers(X)
        if not fitting and (elsewhere or self._brings_to_form(X)):
            return self._prepared(X)
        layout = None
        if elsewhere:
            X = self._in_axes(read_levels(X, Preparation(bits=bits)))
        if isinstance(X, torch.Tensor | list | tuple):
            X = plain_array(X, "X")
        fewest = FEWEST_IMAGES if fitting else 1
        _check_numbers(X, fewest)
        if getattr(X, "ndim", 2) > 2:
            X = np.asarray(X)
            layout = X.shape[1:]
            X = X.reshape(len(X), math.prod(layout))
        rows: Any = validate_data(cast(Any, self), X, reset=fitting, ensure_min_samples=fewest)
        if fitting:
            self._dtype, self._rows = rows.dtype, layout is None
            self._layout = axes_of_image(rows.shape[1], layout, self.image_shape)
        images = rows.reshape(-1, *(self._layout if fitting or layout is None else layout))
        pixels = channels_first(grey_levels(in_unit_range(images, self.value_range), "X", bits), "X")
        return pixels if fitting else self._alike(pixels, layout)

    def _in_axes(self, levels: np.ndarray) -> np.ndarray:
        """Returns levels [n channel height width] as an array [n height width] or [n height width channel]: bytes or, of 16
        bits, numbers in `value_range`."""
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
        given = given_images(X, self.image_shape_, self.value_range, "X", preparation)
        if given.omission:
            warnings.warn(f"{X}: {given.omission}", stacklevel=4)
        pixels = given.pixels
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


def _check_numbers(X: Any, fewest: int) -> None:
    """Raises `InputError` for what scikit-learn refuses in several lines: no axes or one, no numbers, numbers that are not
    finite, or fewer images than `fewest`. The words are those that its checks of estimators ask for."""
    if hasattr(X, "tocsr"):  # a sparse matrix
        return
    x = np.asarray(X)
    if x.dtype.kind not in "biufcO" or x.ndim == 0:
        given = f"an array of {x.dtype}" if x.ndim else f"a {type(X).__name__}"
        raise InputError(f"X: expected images, {FORMS}, got {given}; convert them to one of these.", topic="own-data")
    if x.ndim == 1:
        raise InputError(
            f"X: expected images, {FORMS}, got one axis, shape {x.shape}: Reshape your data to one of these.",
            topic="own-data",
        )
    if x.dtype.kind == "c":
        raise InputError("X: Complex data not supported, expected real numbers; give their absolute values, abs(X).")
    if len(x) < fewest:
        raise InputError(
            f"X: expected {fewest} or more images, got {len(x)} sample(s), below the minimum of {fewest}; add some.",
            topic="own-data",
        )
    _check_finite(x)


def _check_finite(x: np.ndarray) -> None:
    if x.dtype.kind == "O":
        try:
            x = x.astype(np.float64)
        except (TypeError, ValueError):
            return  # scikit-learn says which object is no number
    if x.dtype.kind != "f" or np.isfinite(x).all():
        return
    found = np.isnan(x)
    what = "NaN" if found.any() else "infinity"
    at = np.argwhere(found if found.any() else np.isinf(x))
    raise InputError(
        f"Input X contains {what}: expected finite numbers, got {what} in {len(np.unique(at[:, 0]))} of {len(x)} images, the "
        f"first is image {at[0][0]}; leave these images out, or fill their pixels.",
        topic="own-data",
    )


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
