"""The command on data sets: list, fetch, check, and where they are kept."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from mpdvae.errors import InputError


def data(
    action: Positional[Literal["list", "fetch", "check", "path"]] = "list",
    name: Positional[str] = "",
    data_dir: Path | None = None,
) -> None:
    """List, fetch or check data sets, or say where they are kept.

    Args:
        action: list, fetch NAME, check NAME, or path.
        name: of the data set.
        data_dir: folder of the data; default: $MPDVAE_DATA, else the user's cache folder.
    """
    from mpdvae import data as room
    from mpdvae.data.progress import shown

    if action == "path":
        print(room.data_dir(data_dir))
    elif action == "list":
        _list_data(data_dir)
    elif not name:
        known = ", ".join(entry.name for entry in room.ENTRIES)
        raise InputError(f"data {action}: expected the name of a data set: {known}.")
    elif action == "fetch":
        with shown() as listener:
            room.fetch(name, data_dir, listener)
    else:
        print(room.check(name, data_dir))


def _list_data(data_dir: Path | None) -> None:
    from rich.table import Table

    from mpdvae import data as room
    from mpdvae.workflows.progress_display import plain, stdout

    console, folder = stdout(), room.data_dir(data_dir)
    table = Table("name", "here", "MB", "images", "split", "licence", box=None, header_style="bold", pad_edge=False)
    for entry in room.ENTRIES:
        here = "yes" if entry.is_here(folder) else "no"
        size = "?" if entry.size_mb is None else f"{entry.size_mb:g}"
        table.add_row(entry.name, here, size, entry.images, entry.protocol, entry.licence)
    console.print(table)
    console.print(plain(f"\nThey are kept in {folder}; `mpdvae data fetch NAME` puts one there."))
