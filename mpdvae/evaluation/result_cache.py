"""A cache for results that many runs share: computed once, stored in a folder as JSON.

A result is stored under the hash of its cache key: everything that it is a function of. Several processes may request the
same results at once. Each result has a lock, and a process starts with the results that no other process is computing, so
that two processes share the work instead of waiting for each other. An unreadable file is computed again; an unwritable
folder costs time, not results.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import Timeout

from mpdvae.errors import InputError
from mpdvae.system.atomic_files import read_json, write_json
from mpdvae.system.closed_folder import Inside
from mpdvae.system.turn_lock import turn_lock

Compute = Callable[[], dict[str, Any]]


def shared(folder: Path, wanted: Mapping[str, tuple[dict[str, Any], Compute]]) -> dict[str, dict[str, Any]]:
    """Returns the requested results, by name.

    Arguments:
        folder: folder of the cache.
        wanted: by name, the cache key of each result, as JSON, and the function that computes it. Results must be JSON.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _take_or_compute(folder, wanted)
    except OSError:
        return {name: compute() for name, (_, compute) in wanted.items()}


def _take_or_compute(folder: Path, wanted: Mapping[str, tuple[dict[str, Any], Compute]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    while missing := [name for name in wanted if name not in found]:
        for name in missing:
            with suppress(Timeout):  # another process is computing it
                found[name] = _one(folder, *wanted[name], patience=0.0)
        if not found.keys() & set(missing):
            found[missing[0]] = _one(folder, *wanted[missing[0]], patience=-1.0)
    return {name: found[name] for name in wanted}


def _one(folder: Path, key: dict[str, Any], compute: Compute, patience: float) -> dict[str, Any]:
    """Returns a result from the cache, or computes it. If another process is computing it, waits for `patience` seconds
    (negative: indefinitely), then raises `Timeout`."""
    path = Inside(folder) / f"{sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()}.json"
    if (kept := _kept(path, key)) is not None:
        return kept
    with turn_lock(path.with_suffix(".lock"), patience):
        if (kept := _kept(path, key)) is None:
            kept = compute()
            write_json(path, {"key": key, "result": kept})
        return kept


def _kept(path: Inside, key: dict[str, Any]) -> dict[str, Any] | None:
    try:
        content = read_json(path)
    except InputError:
        return None
    if not isinstance(content, dict) or content.get("key") != key or not isinstance(content.get("result"), dict):
        return None
    return content["result"]
