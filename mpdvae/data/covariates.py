"""Covariates of own images: numbers that are known of each, such as an age, an angle or a dose.

    covariates, covariates_train, covariates_test    arrays of an .npz archive beside x, x_train, x_test: [n] or [n covariate]
    FOLDER/covariates.csv                            a row per picture, with a header: the picture's file, then numbers

The file is the path within the folder as `mpdvae encode` writes it, such as CLASS/1.png. Rows may come in any order; every
picture has one. Rows of no picture are left out with a warning.
"""

import csv
import warnings
from pathlib import Path
from typing import NamedTuple

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
    table is damaged, or does not have one row of finite numbers for each picture; warns of rows of no picture."""
    path = folder / TABLE
    if not path.is_file():
        return None
    head, *lines = _lines(path)
    expected, rows = [Path(name).as_posix() for name in names], _by_file(path, lines)
    missing = next((name for name in expected if name not in rows), None)
    if missing is not None:
        raise InputError(
            f"{path}: expected a row for each picture, found none for {in_short(missing)}; the first column holds file "
            "names within the folder.",
            topic="own-data",
        )
    if others := rows.keys() - set(expected):
        line = min((rows[name] for name in others), key=lambda line: line.number)
        warnings.warn(
            f"{path}: left out {len(others):,} {'row' if len(others) == 1 else 'rows'} of no picture in the folder, the "
            f"first in {line.where}",
            stacklevel=2,
        )
    numbers = [_numbers(path, rows[name], len(head.cells) - 1) for name in expected]
    return of_array(np.array(numbers), len(names), str(path))


class _Line(NamedTuple):
    number: int
    """Counted from 1, as editors do."""
    cells: list[str]

    @property
    def where(self) -> str:
        """Line and file, in words."""
        return f"line {self.number:,} ({in_short(self.cells[0])})"

    @property
    def given(self) -> str:
        """What stands behind the file, in words."""
        return f"'{in_short(','.join(self.cells[1:]))}'" if self.cells[1:] else "nothing"


def _by_file(path: Path, lines: list[_Line]) -> dict[str, _Line]:
    rows: dict[str, _Line] = {}
    for line in lines:
        first = rows.setdefault(Path(line.cells[0]).as_posix(), line)
        if first is not line:
            raise InputError(
                f"{path}: expected one row for each picture, but {line.where} is of the same one as line "
                f"{first.number:,}; delete one of them.",
                topic="own-data",
            )
    return rows


def _numbers(path: Path, line: _Line, count: int) -> list[float]:
    try:
        numbers = [float(cell) for cell in line.cells[1:]]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise InputError(
            f"{path}: expected {count} numbers in each row, as the header names, got {line.given} in {line.where}.",
            topic="own-data",
        )
    largest = float(np.finfo(np.float32).max)
    if not all(abs(number) <= largest for number in numbers):  # NaN is no such number
        raise InputError(
            f"{path}: expected finite numbers, got {line.given} in {line.where}; leave the picture out, or "
            "fill in the value.",
            topic="own-data",
        )
    return numbers


def _lines(path: Path) -> list[_Line]:
    """Returns the header and the rows that are not empty."""
    try:
        reader = csv.reader(read_bytes(path, LARGEST_TABLE).decode("utf-8-sig").splitlines())
        lines = [_Line(reader.line_num, cells) for cells in reader if cells]
    except (UnicodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({in_short(error)}).", topic="own-data") from None
    if not lines or len(lines[0].cells) < 2:
        raise InputError(
            f"{path}: expected a header with the column of files and the names of covariates, got "
            f"{in_short(','.join(lines[0].cells)) if lines else 'an empty file'}.",
            topic="own-data",
        )
    return lines
