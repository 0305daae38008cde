"""The run folder: everything about one run, in files that can be read without this package.

    experiment.json     the complete configuration          manifest.json    versions, data hash, machine, times, command
    history.jsonl       one line per evaluation point       checkpoints/     step-N.safetensors + step-N.json
    model/              model.safetensors (averaged weights) + experiment.json + README.md
    density.json  density.csv  diagnostics.json  information.json  code_use.json  representation.json  codes.json
    disentanglement.json       if factors are known         partial/         parts of an unfinished measurement
    density-train.json  ...    the same for another split
    figures/            failure.log      the traceback of a failed attempt

Files are written atomically (`atomic_files`), and so are checkpoints (`checkpoints`); `model_folder` reads and writes the
model. Times are recorded only in the manifest: history and weights are the same bytes however often a run was interrupted.
The folder contains no pickles.

A run folder may come from a stranger: its files are named by an `Inside`, so that no link in it is followed.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import finalize

from mpdvae.errors import InputError, RunError, listed
from mpdvae.experiments.experiment import Experiment, ImageShape, recorded
from mpdvae.runs import checkpoints
from mpdvae.runs.model_folder import read_experiment, save_model
from mpdvae.runs.records import HistoryEntry, Manifest, ProgressNote, check, check_course, check_written
from mpdvae.system import folder_lock
from mpdvae.system.atomic_files import check_folder, read_json, remove_asides, write_atomically, write_json, write_once
from mpdvae.system.closed_folder import FOLDER, HAS_OPENAT, Inside
from mpdvae.system.untrusted_files import LARGEST_JSON, parse_json, read_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from mpdvae.vae import VAE

PROGRESS = "progress.json"
SHOWN_FIELDS = 5
"""Maximum number of differing fields that a message names."""
FAILURE_LOG = "failure.log"
"""File beside the run with the traceback of a failed attempt."""


class Run:
    """One run folder.

    Arguments:
        path: an existing run folder. Raises `InputError` if there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise InputError(
                f"{self.path}: no such folder; give the folder that `mpdvae train ... --out` made.", topic="not-a-run"
            )
        self.folder = Inside(self.path)
        """The same folder, for all that is read, written or removed in it."""
        if not (self.folder / "experiment.json").is_file():
            raise InputError(f"{self.path}: not a run folder (it has no experiment.json).", topic="not-a-run")
        self.experiment = read_experiment(self.folder)
        self._identity = _identity_of(self)

    @classmethod
    def create(cls, path: Path, experiment: Experiment) -> "Run":
        """Returns a new folder for `experiment`, or the existing one if it contains exactly the same experiment.

        Raises `InputError` for a folder with any other content, which is left untouched, and for an experiment whose
        precision is still to be chosen.
        """
        path = Path(path)
        cls.check_free(path, experiment)
        if experiment.training.precision == "auto":
            raise InputError(
                f"{path}: training.precision: expected float32 or bfloat16 in a run folder, got auto; "
                "`mpdvae.workflows.precision_choice.decided` chooses one of them.",
                topic="options",
            )
        file = Inside(path) / "experiment.json"
        if file.exists() or not write_once(file, experiment.to_json()):
            cls.check_free(path, experiment)  # another process may have made it since the first check
        return cls(path)

    @classmethod
    def check_free(cls, path: Path, experiment: Experiment) -> None:
        """Raises `InputError` unless `path` is new, empty, or the folder of exactly this experiment. Writes nothing."""
        check_folder(path)
        others = path.is_dir() and any(_holds_something(file.name) for file in path.iterdir())
        if (Inside(path) / "experiment.json").exists():  # asked after the listing: another process may just make it
            differing = differing_fields(cls(path).experiment, experiment)
            if differing:
                raise InputError(
                    f"{path}: already holds another run (it differs in {listed(differing, SHOWN_FIELDS)}); "
                    "choose another --out, or delete that folder.",
                    topic="taken",
                )
        elif others:
            raise InputError(f"{path}: is not empty and not a run; choose another --out.", topic="taken")

    # -- manifest ------------------------------------------------------------------------------------------------------

    @property
    def manifest(self) -> dict[str, Any]:
        path = self.folder / "manifest.json"
        advice = "delete it if you no longer need the run"
        return check(Manifest, read_json(path), str(path), advice) if path.exists() else {}

    def note(self, **entries: Any) -> None:
        """Adds or replaces entries of the manifest."""
        self.check_there()
        content = {**self.manifest, **entries}
        check_written(Manifest, content, self.folder / "manifest.json")
        write_json(self.folder / "manifest.json", content | {"sha256": manifest_sha256(content)})

    def check_there(self) -> None:
        """Raises `RunError` if the folder was deleted or moved away, so that it is not partly recreated, even if another one
        has its place now."""
        if not self._is_there() or not (self.folder / "experiment.json").is_file():
            raise RunError(
                f"{self.path}: the folder was deleted or moved while it was in use, and nothing more is written there; put "
                "it back and run `mpdvae resume`, or train again.",
                topic="taken",
            )

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(self.path.stat(), self._identity)
        except OSError:
            return False

    def tidy(self) -> None:
        """Removes temporary files that killed processes left behind. Only the folder's owner may call this."""
        remove_asides(self.folder)
        checkpoints.remove_halves(self.folder / "checkpoints")
        if self.status == "finished":
            self.end_progress()

    def note_progress(self, content: dict[str, Any]) -> None:
        """Records how far the run is, for other processes to read."""
        check_written(ProgressNote, content, self.folder / PROGRESS)
        write_atomically(self.folder / PROGRESS, json.dumps(content))

    def end_progress(self) -> None:
        """Removes the record of how far the run is."""
        (self.folder / PROGRESS).unlink()

    @property
    def status(self) -> str:
        """`new`, `training`, `trained` or `finished` (trained and evaluated)."""
        return self.manifest.get("status", "new")

    # -- history -------------------------------------------------------------------------------------------------------

    @property
    def history(self) -> list[dict[str, Any]]:
        """One entry per evaluation point, in order of steps. Raises `InputError` for an invalid line."""
        path = self.folder / "history.jsonl"
        advice = f"delete {self.path} to train this run again"
        entries = []
        for number, line in enumerate(read_bytes(path, LARGEST_JSON).splitlines() if path.exists() else [], 1):
            try:
                content = parse_json(line)
            except ValueError:
                raise InputError(f"{path}: line {number} is damaged (not JSON); {advice}.", topic="damaged") from None
            entries.append(check(HistoryEntry, content, f"{path}, line {number}", advice))
        check_course(entries, str(path), advice)
        return entries

    def write_history(self, entries: list[dict[str, Any]]) -> None:
        """Writes the history, of which the last entry is new. Raises `RunError` if it could not be read again."""
        self.check_there()
        path = self.folder / "history.jsonl"
        for entry in entries[-1:]:
            check_written(HistoryEntry, entry, path)
        text = "".join(json.dumps(entry, allow_nan=False) + "\n" for entry in entries)
        if len(text) > LARGEST_JSON:
            raise RunError(
                f"{path}: is not written, because it could not be read again (it would have {len(text):,} bytes, more than "
                f"{LARGEST_JSON:,}); train again with a larger training.evaluate-every, in another --out."
            )
        write_atomically(path, text)

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def save_checkpoint(
        self, step: int, tensors: Mapping[str, "Tensor"], state: dict[str, Any], passing: bool = False
    ) -> None:
        """Saves the state after `step` updates; see `checkpoints.save`."""
        self.check_there()
        of = {"step": step, "experiment": self.experiment.model_dump(mode="json")}
        checkpoints.save(self.folder / "checkpoints", step, tensors, of | state, passing)

    def load_checkpoint(
        self,
        say: Callable[[str], None] = lambda line: None,
        passing: bool = True,
        largest: int = checkpoints.LARGEST,
    ) -> tuple[dict[str, "Tensor"], dict[str, Any]] | None:
        """Returns tensors and state of the newest intact checkpoint; None if there is no checkpoint.

        Arguments:
            say: called with a message for each newer checkpoint that is damaged; the manifest records these, too.
            passing: whether checkpoints between evaluation points count.
            largest: maximum size of the tensors, in bytes.

        Raises `RunError` if there are checkpoints but all are damaged, `InputError` for one of another experiment.
        """
        found = checkpoints.newest(self.folder / "checkpoints", passing, largest)
        if found is None:
            return None
        self._check_checkpoint(found.path, found.state)
        for path in found.damaged:
            say(f"{path}: this checkpoint is damaged; resuming from that of step {found.state['step']}")
        told = self.manifest.get("damaged_checkpoints", [])
        if new := [path.stem for path in found.damaged if path.stem not in told]:
            self.note(damaged_checkpoints=[*told, *new])
        return found.tensors, found.state

    def _check_checkpoint(self, path: Inside, state: dict[str, Any]) -> None:
        of = recorded(json.dumps(state["experiment"]), str(path))
        if differing := differing_fields(of, self.experiment):
            named = listed(differing, SHOWN_FIELDS)
            raise InputError(
                f"{path}: belongs to another experiment than experiment.json (it differs in {named}); restore "
                f"{self.path / 'experiment.json'}, or choose another --out.",
                topic="taken",
            )

    # -- model ---------------------------------------------------------------------------------------------------------

    def save_model(self, vae: "VAE", image_shape: ImageShape, class_names: tuple[str, ...] | None = None) -> None:
        self.check_there()
        save_model(self.folder / "model", vae, self.experiment, image_shape, class_names=class_names)


def _identity_of(run: Run) -> os.stat_result:
    """Returns what distinguishes the folder of `run` from any other that takes its place. It stays open as long as `run`
    exists, because the system reuses the number of a folder that nobody uses any more."""
    if not HAS_OPENAT:
        return run.path.stat()
    descriptor = os.open(run.path, FOLDER)
    finalize(run, os.close, descriptor)
    return os.fstat(descriptor)


def _holds_something(name: str) -> bool:
    """Returns whether a file of this name is neither the lock file of its folder nor a file that is being written."""
    return name != folder_lock.FILE and not name.startswith(".")


def manifest_sha256(content: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a manifest's entries, without the entry of this hash."""
    rest = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def differing_fields(one: Experiment, other: Experiment) -> list[str]:
    """Returns the dotted names of the fields in which two experiments differ."""

    def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for name, value in tree.items():
            flat |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        return flat

    a, b = leaves(one.model_dump()), leaves(other.model_dump())
    missing = object()
    return sorted(name for name in a.keys() | b.keys() if a.get(name, missing) != b.get(name, missing))
