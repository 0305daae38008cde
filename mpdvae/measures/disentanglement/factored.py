"""Codes of images with the values of the images' factors of variation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from mpdvae.errors import InputError
from mpdvae.measures.tables import array_of


class Factored(NamedTuple):
    """Codes with their factors: arrays, or tensors or lists, of which `checked` makes arrays."""

    codes: Float[np.ndarray, "n unit"]
    factors: Integer[np.ndarray, "n factor"]


def checked(data: Factored, where: str = "") -> Factored:
    """Returns codes and factors as arrays. Raises `InputError`, which begins the names of the arrays with `where` ("train_"),
    for anything but numbers, codes and factors that do not match, non-finite codes, a factor with a single value, or fewer
    than two units or factors."""
    codes, factors = f"{where}codes", f"{where}factors"
    data = Factored(array_of(data.codes, codes), array_of(data.factors, factors))
    if data.codes.ndim != 2 or data.codes.shape[1] < 2:
        raise InputError(f"{codes}: expected [image unit] with at least 2 units, got shape {data.codes.shape}.")
    if data.factors.ndim != 2 or data.factors.shape[1] < 2:
        raise InputError(f"{factors}: expected [image factor] with at least 2 factors, got shape {data.factors.shape}.")
    if data.factors.dtype.kind not in "iu":
        raise InputError(
            f"{factors}: expected the numbers of values, as integers, got {data.factors.dtype}; number the values of each "
            "factor."
        )
    if len(data.codes) != len(data.factors) or len(data.codes) == 0:
        raise InputError(
            f"{factors}: expected a row for each of {len(data.codes):,} codes, at least one, got {len(data.factors):,}."
        )
    broken = np.flatnonzero(~(np.abs(data.codes) <= np.finfo(np.float32).max).all(axis=1))  # NaN is no such number
    if len(broken):
        raise InputError(
            f"{codes}: the code of image {broken[0]} is not finite in single precision ({len(broken):,} of "
            f"{len(data.codes):,} are not); check that training did not diverge.",
            topic="not-a-number",
        )
    constant = np.flatnonzero((data.factors == data.factors[0]).all(axis=0))
    if len(constant):
        raise InputError(
            f"{factors}: expected at least 2 values of each factor, got only {data.factors[0, constant[0]]} in column "
            f"{constant[0]}; leave this factor out."
        )
    return data


def checked_both(train: Factored, test: Factored) -> tuple[Factored, Factored]:
    """Returns both as arrays. Raises `InputError` as `checked` does for each, and if they differ in units, in factors or in a
    factor's values."""
    train, test = checked(train, "train_"), checked(test, "test_")
    for name, columns, expected in (
        ("test_codes", test.codes.shape[1], train.codes.shape[1]),
        ("test_factors", test.factors.shape[1], train.factors.shape[1]),
    ):
        if columns != expected:
            raise InputError(f"{name}: expected {expected} columns as in the training set, got {columns}.")
    for k, (known, found) in enumerate(zip(train.factors.T, test.factors.T, strict=True)):
        odd = np.setxor1d(known, found)
        if len(odd):
            raise InputError(
                f"test_factors: expected the values of the training set in column {k}, but {odd[0]} is in one of them only; "
                "give more images."
            )
    return train, test


def check_names(names: Sequence[str], ordered: Sequence[bool], factors: int) -> None:
    """Raises `InputError` unless there is one of each for every factor, and names differ."""
    for argument, given in (("names", names), ("ordered", ordered)):
        if len(given) != factors:
            raise InputError(f"{argument}: expected one for each of {factors} factors, got {len(given)}.")
    if len(set(names)) != len(names):
        raise InputError(f"names: expected different names, got {', '.join(names)}.")
