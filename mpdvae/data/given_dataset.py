"""Images of a data set of another library: a map-style `torch.utils.data.Dataset`, a `datasets.Dataset` of Hugging Face, or
whatever else has a length and gives items by number. Neither library is imported.

An item is an image, a pair (image, label), or a dictionary. In a dictionary the image and its label are the columns that
`features` calls Image and ClassLabel, or those of the usual names. An image is one of Pillow, or an array or tensor as in
`arrays.py`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt

from mpdvae.data.arrays import channels_first, grey_levels, plain_array
from mpdvae.data.class_names import Classes, ClassNames
from mpdvae.data.labels import class_numbers
from mpdvae.data.layout import ValueRange
from mpdvae.data.picture_file import damage_told
from mpdvae.data.picture_levels import kind_of, levels_of_picture
from mpdvae.data.preparation import AS_STORED, Preparation
from mpdvae.errors import InputError
from mpdvae.system.untrusted_text import encodable

IMAGE_NAMES = ("image", "img", "pixel_values", "picture", "x")
LABEL_NAMES = ("label", "labels", "class", "target", "y")


def is_picture(x: Any) -> bool:
    """Returns whether `x` is a picture of Pillow."""
    return hasattr(x, "getbands")


def holds_pictures(x: Any) -> bool:
    """Returns whether `x` is a list with pictures of Pillow, which as an array would be numbers of palettes, lying on their
    sides."""
    return isinstance(x, list | tuple) and any(map(is_picture, x))


def is_dataset(x: Any) -> bool:
    """Returns whether `x` gives items by number and is no array, table or sequence of Python's."""
    plain = hasattr(x, "__array__") or isinstance(x, list | tuple | str | bytes | Mapping)
    return not plain and hasattr(type(x), "__getitem__") and hasattr(type(x), "__len__")


def refuse_unnumbered(x: Any, where: str) -> None:
    """Raises `InputError`, which calls it `where`, for what holds images and gives none by number: a stream, a loader, a
    dictionary of the parts of a data set."""
    stream = any(kind.__name__ == "IterableDataset" for kind in type(x).__mro__)
    if isinstance(x, Mapping):
        advice = f"give one of its parts, such as {where}[{next(iter(x), 'train')!r}]"
    elif not stream and hasattr(type(x), "__getitem__") and hasattr(type(x), "__len__"):
        return
    elif hasattr(x, "batch_size") and hasattr(x, "dataset"):
        advice = f"give what it loads, {where}.dataset"
    elif stream or hasattr(type(x), "__iter__"):
        advice = f"give a map-style data set or, if it ends and fits into memory, list({where})"
    else:
        return
    raise InputError(
        f"{where}: expected images, or a data set that has a length and gives items by number, got a {type(x).__name__}; "
        f"{advice}.",
        topic="own-data",
    )


class DatasetSource:
    """The images of `dataset`, prepared, and their labels."""

    def __init__(
        self,
        dataset: Any,
        preparation: Preparation = AS_STORED,
        channels: int | None = None,
        where: str = "dataset",
        value_range: ValueRange | None = None,
    ) -> None:
        """Reads the first image, and all labels if there are any.

        Arguments:
            dataset: see the head of this file.
            preparation: what is done to each picture.
            channels: of a model, 3 if palettes of grey shall be read as colour; None: if there is colour beside them.
            where: name of the argument, for messages.
            value_range: values of black and white in arrays, as in `grey_levels`.

        Raises:
            InputError: if it is empty, or its items are no images.
        """
        refuse_unnumbered(dataset, where)
        if not (hasattr(type(dataset), "__getitem__") and hasattr(type(dataset), "__len__")):
            raise InputError(
                f"{where}: expected a data set that has a length and gives items by number, got a {type(dataset).__name__}.",
                topic="own-data",
            )
        if len(dataset) == 0:
            raise InputError(f"{where}: expected at least one image, got none.", topic="own-data")
        self.dataset, self.preparation, self.channels, self.where = dataset, preparation, channels, where
        self.value_range = value_range
        if channels is None and preparation.channels is None and self._has_colour():
            self.channels = 3
        self.image_shape = self._image(0).shape
        self.labels, self.class_names = self._classes() or (None, ())

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, rows: np.ndarray) -> UInt[np.ndarray, "n channel height width"]:
        """Returns the images with these numbers, in this order. Raises `InputError` for one that differs from the first."""
        pixels = np.empty((len(rows), *self.image_shape), self.preparation.dtype)
        for place, row in enumerate(rows):
            image = self._image(int(row))
            if image.shape != self.image_shape:
                raise InputError(
                    f"{self.where}[{row}]: expected the shape of {self.where}[0], {self.image_shape} (channel, height, "
                    f"width), got {image.shape}; make all images alike, such as by preparation=Preparation(size=(32, 32)).",
                    topic="own-data",
                )
            pixels[place] = image
        return pixels

    def _has_colour(self) -> bool:
        """Returns whether palettes of grey stand for colour here: where the first image is in colour, or is such a
        palette and another one is in colour."""
        first = self._parts(0)[0]
        if len(self._image(0)) == 1 and not (is_picture(first) and kind_of(first) == "palette"):
            return False
        return any(len(self._image(row)) == 3 for row in range(len(self)))

    def _image(self, row: int) -> np.ndarray:
        image, where = self._parts(row)[0], f"{self.where}[{row}]"
        if is_picture(image):
            with damage_told(where):
                return levels_of_picture(image, where, self.preparation, self.channels).levels
        array = plain_array(image, where)
        if array.dtype.kind not in "biuf" or array.ndim not in (2, 3):
            raise InputError(
                f"{where}: expected an image, or (image, label), or a dictionary with one of the keys "
                f"{', '.join(IMAGE_NAMES)}, got a {type(image).__name__}.",
                topic="own-data",
            )
        levels = array[None]
        if array.dtype != np.uint8:
            levels = grey_levels(levels, where, self.preparation.bits, self.value_range)
        return self.preparation.apply(channels_first(levels, where).numpy()[0])

    def _parts(self, row: int) -> tuple[Any, Any]:
        """Returns an image and its label, which may be None."""
        item = self.dataset[row]
        if isinstance(item, Mapping):
            image = self._column(item, "Image", IMAGE_NAMES)
            label = self._column(item, "ClassLabel", LABEL_NAMES)
            return None if image is None else item[image], None if label is None else item[label]
        if isinstance(item, tuple | list):
            return item[0] if item else None, item[1] if len(item) > 1 else None
        return item, None

    def _has_label(self, row: int) -> bool:
        """Returns whether an item has a place for a label, which may be empty."""
        item = self.dataset[row]
        if isinstance(item, Mapping):
            return self._column(item, "ClassLabel", LABEL_NAMES) is not None
        return isinstance(item, tuple | list) and len(item) > 1

    def _column(self, item: Mapping[str, Any], feature: str, usual: tuple[str, ...]) -> str | None:
        features = getattr(self.dataset, "features", None) or {}
        of_kind = [name for name, kind in features.items() if type(kind).__name__ == feature]
        return next((name for name in (*of_kind, *usual) if name in item), None)

    def _classes(self) -> Classes | None:
        if not self._has_label(0):
            return None
        labels = [self._parts(row)[1] for row in range(len(self))]
        if all(label is None for label in labels):
            return None
        classes = class_numbers({f"the labels of {self.where}": labels})[0]
        numbers, names = classes.labels, classes.names or self._names()
        fit = numbers is not None and numbers.min() >= 0 and numbers.max() < len(names)
        return Classes(numbers, names if fit else ())

    def _names(self) -> ClassNames:
        """Returns the names that the data set itself gives to the numbers of its classes, as Hugging Face does in ClassLabel
        and torchvision in `classes`."""
        features, item = getattr(self.dataset, "features", None) or {}, self.dataset[0]
        column = self._column(item, "ClassLabel", LABEL_NAMES) if isinstance(item, Mapping) else None
        given: Any = getattr(features.get(column), "names", None) or getattr(self.dataset, "classes", None)
        named = isinstance(given, list | tuple) and all(isinstance(name, str) for name in given)
        return tuple(map(encodable, given)) if named else ()
