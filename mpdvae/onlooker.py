"""The run folder as the other processes of a run see it: all of them read, the first one alone writes."""

from pathlib import Path
from typing import Any

from mpdvae.processes import is_first
from mpdvae.runs import Run


class Onlooker(Run):
    """A run folder that another process writes."""

    def note(self, **entries: Any) -> None:
        pass

    def note_progress(self, content: dict[str, Any]) -> None:
        pass

    def write_history(self, entries: list[dict[str, Any]]) -> None:
        pass

    def save_checkpoint(self, *_: Any) -> None:
        pass

    def save_model(self, *_: Any) -> None:
        pass


def run_in(path: Path) -> Run:
    """The run folder `path`, to be written if this is the first process. Raises `InputError` where there is none."""
    return Run(path) if is_first() else Onlooker(path)
