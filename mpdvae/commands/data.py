"""The command `data`: list, fetch and check data sets, and print where they are stored."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from mpdvae.errors import InputError
from mpdvae.system.untrusted_text import tell


def data(
    action: Positional[Literal["list", "fetch", "check", "path"]] = "list",
    name: Positional[str] = "",
    data_dir: Path | None = None,
) -> None:
    """List, fetch or check data sets, or print where they are stored.

    Args:
        action: list, fetch NAME, check NAME, or path.
        name: Name of the data set.
        data_dir: Folder of the data. Default: $MPDVAE_DATA, else the user's cache folder.
    """
    from mpdvae import data as data_sets
    from mpdvae.data.progress import shown

    if action == "path":
        tell(str(data_sets.data_dir(data_dir)))
    elif action == "list":
        _list_data(data_dir)
    elif not name:
        known = ", ".join(entry.name for entry in data_sets.ENTRIES)
        raise InputError(f"data {action}: expected the name of a data set: {known}.")
    elif action == "fetch":
        with shown() as listener:
            data_sets.fetch(name, data_dir, listener)
    else:
        tell(*data_sets.check(name, data_dir).split("\n"))


def _list_data(data_dir: Path | None) -> None:
    from mpdvae import data as data_sets
    from mpdvae.workflows.progress_display import print_line, stdout, table_of

    console, folder = stdout(), data_sets.data_dir(data_dir)
    table = table_of("name", "local", "MB", "images", "split", "licence")
    for entry in data_sets.ENTRIES:
        here = "yes" if entry.is_here(folder) else "no"
        size = "?" if entry.size_mb is None else f"{entry.size_mb:g}"
        table.add_row(entry.name, here, size, entry.images, entry.protocol, entry.licence)
    console.print(table)
    print_line(f"\nData sets are stored in {folder}; `mpdvae data fetch NAME` fetches one.", console)
