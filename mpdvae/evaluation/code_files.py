"""Tables as files: CSV, numpy archives, Parquet. A file appears whole or not at all.

Names of files that are no UTF-8 have their other bytes written out in each format alike: none has a place for them.

Parquet is written by pyarrow, the reference implementation; it is an extra, imported where it is used.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mpdvae.errors import InputError
from mpdvae.system.atomic_files import write_atomically
from mpdvae.system.untrusted_text import encodable

ENDINGS = (".npz", ".csv", ".parquet")


def check_path(path: Path) -> None:
    """Raises `InputError` unless a table can be written to `path`: its ending is known and what it needs is installed."""
    if path.suffix.lower() not in ENDINGS or path.is_dir():
        raise InputError(
            f"--out: expected the name of a file that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}, got {str(path)!r}."
        )
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401  # pyright: ignore[reportMissingImports] - an extra
        except ModuleNotFoundError:
            raise InputError(
                f"{path}: writing Parquet needs pyarrow: pip install 'mpdvae[parquet]'; .csv and .npz need nothing more.",
                topic="extras",
            ) from None


def write_table(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Writes `columns`, each with a value (in an archive: an array) per row, in the format of the ending of `path`. Raises
    `InputError` as `check_path` does."""
    check_path(path)
    columns = {name: _encodable(column) for name, column in columns.items()}
    write_atomically(path, {".csv": _csv, ".npz": _npz, ".parquet": _parquet}[path.suffix.lower()](columns))


def _encodable(column: np.ndarray) -> np.ndarray:
    return np.array([encodable(text) for text in column.tolist()]) if column.dtype.kind == "U" else column


def _csv(columns: Mapping[str, np.ndarray]) -> bytes:
    """Numbers have the fewest digits that give them back in their own precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(map(str, column) for column in columns.values()), strict=True))
    return text.getvalue().encode()


def _npz(columns: Mapping[str, np.ndarray]) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **columns)
    return content.getvalue()


def _parquet(columns: Mapping[str, np.ndarray]) -> bytes:
    import pyarrow  # pyright: ignore[reportMissingImports]
    from pyarrow import parquet  # pyright: ignore[reportMissingImports]

    content = io.BytesIO()
    parquet.write_table(pyarrow.table(dict(columns)), content)
    return content.getvalue()
