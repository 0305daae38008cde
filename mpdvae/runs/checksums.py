"""SHA-256 of the files of a run, recorded in its manifest when the computation that wrote them ends.

    manifest["files"] = {"history.jsonl": "9f86d0...", "model/model.safetensors": ...}
    manifest["sha256"]   of the manifest's own content, without this entry: updated by `Run.note`

A file that a computation did not touch keeps its recorded hash, so that damage in the meantime is still detected.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from mpdvae.runs.run_folder import Run
from mpdvae.system.closed_folder import Inside

FOLDERS_LEFT_OUT = {"trackers", "partial"}
"""Folders of the trackers' own files, and of the parts of an unfinished measurement."""
FILES_LEFT_OUT = {"manifest.json", "progress.json", "owner.json"}
ENDINGS_LEFT_OUT = {".log", ".lock"}

LARGEST_FILE = 1 << 33
"""Maximum size of a file of a run, in bytes."""

P = ParamSpec("P")
T = TypeVar("T")


def run_files(folder: Path) -> dict[str, Inside]:
    """Returns all files of a run by their path relative to its folder, whatever they are, except its manifest, logs, locks,
    progress, `trackers/`, `partial/`, links and hidden files."""
    found = {path.parts: path for path in Inside(folder).all_files()}
    return {"/".join(parts): found[parts] for parts in sorted(found) if _is_recorded(Path(*parts))}


def sha256_of(path: Inside) -> str:
    """Returns the SHA-256 of the content of `path`, in hexadecimal."""
    with path.open(LARGEST_FILE) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record(run: Run, before: Mapping[str, object] | None = None) -> None:
    """Records the hashes of all files of `run` in its manifest.

    Arguments:
        before: `states` of the files before the computation began; files whose state has not changed keep their recorded
            hash. None: all files are hashed.
    """
    known, now = run.manifest.get("files", {}), states(run.path)
    untouched = {name for name in known if before is not None and name in now and now[name] == before.get(name)}
    files = {name: known[name] if name in untouched else sha256_of(run.folder / name) for name in now}
    run.note(files=files)


def states(folder: Path) -> dict[str, object]:
    """Returns, for each file of a run, the metadata that change when it is rewritten."""
    found = {name: state for name, path in run_files(folder).items() if (state := path.state()) is not None}
    return {name: (state.st_ino, state.st_mtime_ns, state.st_size) for name, state in found.items()}


def recording(compute: Callable[Concatenate[Run, P], T]) -> Callable[Concatenate[Run, P], T]:
    """Decorates `compute`, which writes into the folder of its first argument, a run: when it succeeds, the hashes of the
    files that it wrote are recorded."""

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
