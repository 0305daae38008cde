"""SHA-256 of the files of a run, noted in its manifest when a computation that wrote them ends.

    manifest["files"] = {"history.jsonl": "9f86d0...", "model/model.safetensors": ...}
    manifest["sha256"]   of the manifest's own content, without this entry: `Run.note` keeps it

A file that a computation did not touch keeps the hash it had: what was damaged meanwhile stays found out.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from mpdvae.runs.run_folder import Run

FOLDERS_LEFT_OUT = {"trackers", "partial"}
"""What trackers keep for themselves, and parts of a measurement that is not finished."""
FILES_LEFT_OUT = {"manifest.json", "progress.json", "owner.json"}
ENDINGS_LEFT_OUT = {".log", ".lock"}

P = ParamSpec("P")
T = TypeVar("T")


def run_files(folder: Path) -> dict[str, Path]:
    """The files of a run by their name in it, whatever they are; without its manifest, logs, locks, progress, `trackers/`,
    `partial/`, links and hidden files."""
    found = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
    return {name: path for name, path in found.items() if _is_recorded(Path(name))}


def sha256_of(path: Path) -> str:
    """SHA-256 of the content of `path`, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record(run: Run, before: Mapping[str, object] | None = None) -> None:
    """Notes the hashes of all files of `run`.

    Arguments:
        before: `states` of the files as they were when the computation began; those of files that are still the same keep
            the hash that is noted. None: all are hashed.
    """
    known, now = run.manifest.get("files", {}), states(run.path)
    untouched = {name for name in known if before is not None and name in now and now[name] == before.get(name)}
    files = {name: known[name] if name in untouched else sha256_of(run.path / name) for name in now}
    run.note(files=files)


def states(folder: Path) -> dict[str, object]:
    """What changes of each file of a run when it is written again."""
    found = {name: path.stat() for name, path in run_files(folder).items()}
    return {name: (state.st_ino, state.st_mtime_ns, state.st_size) for name, state in found.items()}


def recording(compute: Callable[Concatenate[Run, P], T]) -> Callable[Concatenate[Run, P], T]:
    """Lets `compute`, which writes into the folder of the run that is its first argument, note the hashes of what it wrote
    when it has ended well."""

    @functools.wraps(compute)
    def compute_and_record(run: Run, /, *arguments: P.args, **named: P.kwargs) -> T:
        before = states(run.path)
        result = compute(run, *arguments, **named)
        record(run, before)
        return result

    return compute_and_record


def _is_recorded(name: Path) -> bool:
    hidden = any(part.startswith(".") for part in name.parts)
    left_out = name.parts[0] in FOLDERS_LEFT_OUT or str(name) in FILES_LEFT_OUT or name.suffix in ENDINGS_LEFT_OUT
    return not hidden and not left_out
