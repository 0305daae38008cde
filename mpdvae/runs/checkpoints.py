"""Checkpoints from which a run resumes, written atomically.

    step-N       at an evaluation point: a run rolls back to these; the last two are kept
    passing-N    at a step at which a run was asked to stop, or that was skipped; kept until the next step-N

A checkpoint consists of tensors in a .safetensors file and plain numbers in a .json file beside it, which holds the
checksums of both and is written last: an interrupted write leaves the previous checkpoint in force, and a damaged file is
detected. Nothing else in the folder is read or removed, whatever its name ends in.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpdvae.errors import InputError, RunError
from mpdvae.runs.records import CheckpointState, check, check_written
from mpdvae.runs.tensor_file import apart
from mpdvae.system.atomic_files import read_json, write_atomically, write_json
from mpdvae.system.closed_folder import Inside

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 2
NAME = re.compile(r"(step|passing)-\d{8,12}\.(json|safetensors)")
"""Names of the files of a checkpoint."""
LARGEST = 1 << 33
"""Maximum size of the tensors of a checkpoint of unknown origin, in bytes: four times the largest model, in float64."""


@dataclass(frozen=True)
class Found:
    """The newest intact checkpoint."""

    path: Inside
    """Path of its JSON file."""
    tensors: dict[str, "Tensor"]
    state: dict[str, Any]
    damaged: tuple[Inside, ...]
    """Newer checkpoints, which are damaged."""


def save(folder: Inside, step: int, tensors: Mapping[str, "Tensor"], state: dict[str, Any], passing: bool) -> None:
    """Saves the state after `step` updates in `folder`, and removes the checkpoints that it makes obsolete. Raises `RunError`
    if the state could not be read again."""
    from safetensors.torch import save as to_bytes

    check_written(CheckpointState, state, folder)
    data = to_bytes(apart(tensors))
    path = folder / f"{'passing' if passing else 'step'}-{step:08d}.json"
    write_atomically(path.with_suffix(".safetensors"), data)
    write_json(path, {"sha256": hashlib.sha256(data).hexdigest(), "state_sha256": _checksum(state)} | state)
    kept = {path, *_of(folder, "step-*.json")[-KEPT:]}
    for old in set(_of(folder, "*.json")) - kept:
        old.unlink()
        old.with_suffix(".safetensors").unlink()


def newest(folder: Inside, passing: bool = True, largest: int = LARGEST) -> Found | None:
    """Returns the newest intact checkpoint in `folder`, with or without `passing` ones; None if there is none at all.

    Arguments:
        passing: whether checkpoints between evaluation points count.
        largest: maximum size of the tensors in bytes; a checkpoint that is larger counts as damaged and is not read.

    Raises `RunError` if all are damaged.
    """
    paths = [*_of(folder, "step-*.json"), *(_of(folder, "passing-*.json") if passing else ())]
    paths.sort(key=lambda path: path.stem.partition("-")[::-1], reverse=True)  # by step; at equal steps, step-N first
    for i, path in enumerate(paths):
        if (checkpoint := _whole(path, largest)) is not None:
            return Found(path, *checkpoint, damaged=tuple(paths[:i]))
    if paths:
        raise RunError(
            f"{folder}: every checkpoint is damaged (checksums differ); "
            "delete that folder to train this run from the beginning.",
            topic="damaged",
        )
    return None


def remove_halves(folder: Inside) -> None:
    """Removes tensors whose JSON file was never written or is already removed."""
    for tensors in _of(folder, "*.safetensors"):
        if not tensors.with_suffix(".json").exists():
            tensors.unlink()


def _of(folder: Inside, pattern: str) -> list[Inside]:
    """Returns the files of checkpoints in `folder` that match `pattern`, sorted."""
    return [path for path in folder.files(pattern) if NAME.fullmatch(path.name)]


def _whole(path: Inside, largest: int) -> tuple[dict[str, "Tensor"], dict[str, Any]] | None:
    """Returns tensors and state of the checkpoint with the JSON file `path`; None if it is not intact."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    tensors = path.with_suffix(".safetensors")
    try:
        data = tensors.read_bytes(largest) if tensors.exists() else b""
        state = check(CheckpointState, read_json(path), str(path), "")
        whole = state.pop("sha256") == hashlib.sha256(data).hexdigest()
        # Checkpoints of earlier versions have no checksum of their plain numbers.
        whole &= state.pop("state_sha256", None) in (None, _checksum(state))
        return (load(data), state) if whole else None
    except (InputError, KeyError, SafetensorError):
        return None


def _checksum(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
