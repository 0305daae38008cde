"""Labelled features of training and test images."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from mpdvae.errors import InputError


class Labelled(NamedTuple):
    """Features of training and test images, with their labels; checked by `check`."""

    train_codes: Float[np.ndarray, "_train _latent"]
    train_labels: Integer[np.ndarray, " _train"]
    test_codes: Float[np.ndarray, "_test _latent"]
    test_labels: Integer[np.ndarray, " _test"]


def check(data: Labelled) -> None:
    """Raises `InputError` for codes and labels of other forms or that do not match, non-finite codes, or a single class."""
    for name, z, labels in (
        ("train", data.train_codes, data.train_labels),
        ("test", data.test_codes, data.test_labels),
    ):
        if z.ndim != 2 or labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise InputError(
                f"{name}_codes, {name}_labels: expected codes [image latent] and integers [image], got shape {z.shape} and "
                f"{labels.dtype} of shape {labels.shape}."
            )
        if len(z) == 0:
            raise InputError(f"{name}_codes: expected at least one code, got none.")
        if len(z) != len(labels):
            raise InputError(f"{name}_labels: expected one for each of {len(z):,} codes, got {len(labels):,}.")
        broken = np.flatnonzero(~np.isfinite(z).all(axis=1))
        if len(broken):
            raise InputError(
                f"{name}_codes: the code of image {broken[0]} is not finite ({len(broken):,} of {len(z):,} are not).",
                topic="not-a-number",
            )
    if data.train_codes.shape[1] != data.test_codes.shape[1]:
        raise InputError(
            f"test_codes: expected {data.train_codes.shape[1]} dimensions as in train_codes, got "
            f"{data.test_codes.shape[1]}."
        )
    classes = np.unique(data.train_labels)
    if len(classes) < 2:
        raise InputError(
            f"train_labels: expected at least 2 classes, got only the label {classes[0]}.", topic="no-labels"
        )
