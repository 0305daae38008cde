"""The run folder for the other processes of a run: all processes read, only the first one writes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpdvae.runs.run_folder import Run
from mpdvae.system.folder_lock import owned
from mpdvae.system.process_group import is_first


class Observer(Run):
    """A run folder that another process writes to; every write of this one is a no-op."""

    def note(self, **entries: Any) -> None:
        pass

    def note_progress(self, content: dict[str, Any]) -> None:
        pass

    def write_history(self, entries: list[dict[str, Any]]) -> None:
        pass

    def save_checkpoint(self, *_: Any, **__: Any) -> None:
        pass

    def save_model(self, *_: Any) -> None:
        pass

    def tidy(self) -> None:
        pass


@contextmanager
def owned_by_first(path: Path, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Owns the folder `path` within the context (see `mpdvae.system.folder_lock`); yields a function that confirms it. The
    first process owns the folder on behalf of all."""
    if not is_first():
        yield lambda: None
        return
    with owned(path, say) as ownership:
        yield ownership.confirm


def run_in(path: Path) -> Run:
    """Returns the run folder `path`, writable if this is the first process. Raises `InputError` if there is none."""
    return Run(path) if is_first() else Observer(path)
