"""What the scikit-learn estimator is told of images: `labels` and `covariates`, beside X.

    labels        in a form of `mpdvae.data.labels`, or one for all
    covariates    [n], [n covariate], or a row for all    finite numbers, in any units

`fit` decides: a model is told from then on what it was told there. As scikit-learn's classifiers do, the estimator keeps the
classes that occur, in order, as `classes_`, and later labels are classes by value: 7 is the class 7, whatever its number is.
The model itself knows classes by number, their places in `classes_`. Their names are recorded with it, unless the classes are
0, 1, ... themselves (`mpdvae.data.class_names`).
"""

from typing import Any, NamedTuple

import numpy as np
import torch

from mpdvae.data.arrays import plain_array
from mpdvae.data.class_names import SHOWN, ClassNames, numbers_by_name
from mpdvae.data.conditions import Condition, Known, checked_covariates
from mpdvae.data.covariates import of_array
from mpdvae.data.images import Images
from mpdvae.data.labels import column_of
from mpdvae.errors import InputError, listed
from mpdvae.experiments.data_config import MOST_CLASSES
from mpdvae.experiments.experiment import Origin
from mpdvae.system.untrusted_files import in_short
from mpdvae.system.untrusted_text import encodable


class Told(NamedTuple):
    """What `fit` is told of its images."""

    known: Known
    classes: np.ndarray | None
    """The classes that occur, in the order of their numbers; None: no labels."""

    @property
    def condition(self) -> Condition:
        """What the model is told of each image."""
        rows = self.known.covariates
        return Condition(0 if self.classes is None else len(self.classes), 0 if rows is None else rows.shape[1])

    def images(self, pixels: torch.Tensor) -> Images:
        """Returns the images with what is told of them."""
        return Images(pixels, self.known.labels, covariates=self.known.covariates, class_names=names_of(self.classes))


def told_in_fit(labels: Any, covariates: Any, count: int) -> Told:
    """Returns what is told of the `count` images in `fit`, where each has a label and covariates of its own, or none has.
    Raises `InputError` for anything else."""
    rows = None
    if covariates is not None:
        rows = of_array(plain_array(covariates, "covariates", "rows of as many numbers each"), count, "covariates")
    if labels is None:
        return Told(Known(None, rows), None)
    classes, numbers = np.unique(_column(labels, count, shared=False), return_inverse=True)
    if len(classes) > MOST_CLASSES:
        raise InputError(
            f"labels: expected at most {MOST_CLASSES} classes, got {len(classes)}; tell numbers that have an order as "
            "covariates, or join classes.",
            topic="conditional",
        )
    return Told(Known(torch.from_numpy(numbers), rows), classes)


def told_later(condition: Condition, classes: np.ndarray | None, labels: Any, covariates: Any, count: int) -> Known:
    """Returns what a fitted model is told of `count` images.

    Arguments:
        condition: what it is told of each.
        classes: the classes of its training images; None: it is told no class.
        labels: class of each, or one for all.
        covariates: a row for each, or one for all.

    Raises:
        InputError: for labels or covariates that are missing, do not fit, or that the model is not told.
    """
    for name, given, there in (("labels", labels, condition.classes), ("covariates", covariates, condition.covariates)):
        if there and given is None:
            raise InputError(
                f"{name}: expected them for {count} images, as the model was trained with {name}, got none; give "
                f"{name}=..., for each or for all.",
                topic="conditional",
            )
        if given is not None and not there:
            raise InputError(
                f"{name}: this model was trained without them, got some; leave them out, or give {name} to fit, too.",
                topic="conditional",
            )
    return Known(
        None if labels is None or classes is None else _numbers(labels, classes, count),
        None if covariates is None else _rows(covariates, condition.covariates, count),
    )


def names_of(classes: np.ndarray | None) -> ClassNames:
    """Returns the names of classes that the model's record has: none if they are 0, 1, ... themselves."""
    if classes is None or (classes.dtype.kind in "iu" and classes.tolist() == list(range(len(classes)))):
        return ()
    return tuple(encodable(str(value)) for value in classes.tolist())


def classes_of(origin: Origin) -> np.ndarray | None:
    """Returns the classes that a trained model is told, in the order of their numbers: integers if all are called so."""
    count = origin.experiment.data.condition.classes
    names = (count and origin.known_names) or tuple(map(str, range(count)))
    whole = all(name.removeprefix("-").isdecimal() and str(int(name)) == name for name in names)
    return np.array([int(name) for name in names] if whole else names) if count else None


def _column(labels: Any, count: int, shared: bool) -> np.ndarray:
    """Returns integers or text [count]; `shared`: a single one is that of all."""
    array = column_of(labels, "labels")
    if array.dtype.kind not in "iuU":
        array = plain_array(labels, "labels", "one for each image")  # raises for lists of different lengths
        raise InputError(
            f"labels: expected integers or text, got {array.dtype}; convert them, such as by labels.astype(str).",
            topic="conditional",
        )
    if array.shape not in ((count,), *([()] if shared else [])):
        raise InputError(
            f"labels: expected one for each of {count} images{', or one for all' if shared else ''}, got shape "
            f"{array.shape}.",
            topic="conditional",
        )
    return np.broadcast_to(array, count)


def _numbers(labels: Any, classes: np.ndarray, count: int) -> torch.Tensor:
    values, which = np.unique(_column(labels, count, shared=True), return_inverse=True)
    names = list(map(str, classes.tolist()))
    called, numbers = numbers_by_name(names), []
    for value in map(str, values.tolist()):
        if not called(value):
            raise InputError(
                f"labels: expected classes that the model was trained with "
                f"({listed([in_short(name, 60) for name in names], SHOWN)}), got {in_short(value, 60)}; leave its images "
                "out, or fit a model with them, too.",
                topic="conditional",
            )
        numbers.append(called(value)[-1])
    return torch.tensor(numbers)[torch.from_numpy(which)]


def _rows(covariates: Any, number: int, count: int) -> torch.Tensor:
    return checked_covariates(plain_array(covariates, "covariates", "rows of as many numbers each"), number, count)
