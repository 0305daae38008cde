"""Covariates of own images: numbers that are known of each, such as an age, an angle or a dose.

    covariates, covariates_train, covariates_test    arrays of an .npz archive beside x, x_train, x_test: [n] or [n covariate]
    FOLDER/covariates.csv                            a row per picture, with a header: the picture's file, then numbers

The file is the path within the folder as `mpdvae encode` writes it, such as CLASS/1.png. Rows may come in any order; every
picture has one.
"""

import csv
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from mpdvae.errors import InputError
from mpdvae.system.untrusted_files import in_short, read_bytes

TABLE = "covariates.csv"
"""Name of the table in a folder of pictures."""
LARGEST_TABLE = 1 << 26
"""Bytes of a table that is read, a million rows of several numbers."""


def of_array(x: np.ndarray, count: int, where: str) -> Float32[Tensor, "n covariate"]:
    """Returns the covariates of `count` images. Raises `InputError`, which calls the array `where`, unless there is a row of
    finite numbers, or one number, for each."""
    if x.dtype.kind not in "iuf" or x.ndim not in (1, 2) or len(x) != count or x.size == 0:
        raise InputError(
            f"{where}: expected numbers [{count}] or [{count} covariate], one row for each image, got {x.dtype} of shape "
            f"{x.shape}.",
            topic="own-data",
        )
    with np.errstate(over="ignore"):  # refused below
        rows = x.reshape(count, -1).astype(np.float32)
    if not np.isfinite(rows).all():
        image = int(np.flatnonzero(~np.isfinite(rows).all(1))[0])
        raise InputError(
            f"{where}: expected finite numbers, got {x.reshape(count, -1)[image].tolist()} for image {image}; leave the "
            "image out, or fill in the value.",
            topic="own-data",
        )
    return torch.from_numpy(np.ascontiguousarray(rows))


def of_folder(folder: Path, names: list[str]) -> Float32[Tensor, "n covariate"] | None:
    """Returns the covariates of the pictures `names` in `folder`; None if it has no table of them. Raises `InputError` if the
    table is damaged, or misses a picture."""
    path = folder / TABLE
    if not path.is_file():
        return None
    head, *lines = _lines(path)
    rows = {Path(line[0]).as_posix(): line[1:] for line in lines if line}
    missing = [name for name in names if Path(name).as_posix() not in rows]
    if missing:
        raise InputError(
            f"{path}: expected a row for each picture, found none for {in_short(missing[0])}; the first column holds file "
            "names within the folder.",
            topic="own-data",
        )
    chosen = [rows[Path(name).as_posix()] for name in names]
    try:
        numbers = np.array([[float(cell) for cell in row] for row in chosen])
    except ValueError as error:
        raise InputError(
            f"{path}: expected {len(head) - 1} numbers in each row ({in_short(error)}).", topic="own-data"
        ) from None
    return of_array(numbers, len(names), str(path))


def _lines(path: Path) -> list[list[str]]:
    try:
        lines = list(csv.reader(read_bytes(path, LARGEST_TABLE).decode("utf-8-sig").splitlines()))
    except (UnicodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({in_short(error)}).", topic="own-data") from None
    if not lines or len(lines[0]) < 2:
        raise InputError(
            f"{path}: expected a header with the column of files and the names of covariates, got "
            f"{in_short(','.join(lines[0])) if lines else 'an empty file'}.",
            topic="own-data",
        )
    return lines
