"""Brings one run from start to end in a folder that can be resumed; shared by `train`, `resume` and the matrix."""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mpdvae.data import Splits, load, steps_per_epoch
from mpdvae.data.class_names import SHOWN
from mpdvae.data.own import own_path
from mpdvae.errors import InputError, RunError, ToldToStop, in_words, listed
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.runs import model_folder
from mpdvae.runs.environment import EVALUATION, TRAINING, describe, noted
from mpdvae.runs.recorded_names import recordable
from mpdvae.runs.run_folder import Run
from mpdvae.runs.trackers import Trackers, tracking
from mpdvae.system.process_group import is_first, world
from mpdvae.system.signals import Stop, Stopped, heeded
from mpdvae.system.untrusted_files import in_short
from mpdvae.system.untrusted_text import encodable
from mpdvae.version import __version__

OWN = "own"
"""Name of the data set of a user's own images."""
PROGRESS_SECONDS = 0.5
"""Minimum seconds between two writes of progress.json without a new evaluation point."""

Say = Callable[[str], None]


def load_data(experiment: Experiment, root: Path | None = None) -> Splits:
    """Loads the data of `experiment`, split as it specifies; downloads them into the data folder if needed."""
    d = experiment.data
    return load(
        d.dataset,
        path=d.path,
        root=root,
        validation_size=d.validation_size,
        split_seed=d.split_seed,
        preparation=d.preparation(),
    )


def data_of(run: Run, root: Path | None = None) -> Splits:
    """Loads the data of `run`.

    Own images that are no longer where they were when the run was made are looked for at `root`; other images there are
    recognised by the hash that the run recorded.
    """
    d = run.experiment.data
    gone = d.dataset == OWN and run.manifest.get("data") is not None and not own_path(d.path or "").exists()
    if gone and root is not None:
        return load_data(with_changes(run.experiment, data__path=str(root)))
    return load_data(run.experiment, root)


def on_device(data: Splits, device: str | None) -> Splits:
    """Returns the data with their pixels on `device`, where everything computed from them will be too; None: not moved.

    Raises:
        InputError: if torch cannot use `device` here.
    """
    check_device(device)
    return data if device is None else data.to(device)


def check_device(device: str | None, argument: str = "--device") -> None:
    """Raises `InputError`, naming `argument`, if `device` is given and torch cannot store a tensor on it here."""
    if device is None:
        return
    import torch

    try:
        if torch.zeros(1, device=device).is_meta:
            raise RuntimeError("tensors there have no values")
    except (
        RuntimeError,
        AssertionError,
        NotImplementedError,
        TypeError,
    ) as error:  # torch has no specific error for this
        reason = in_short(str(error).strip().split("\n")[0].rstrip("."), 200)
        raise InputError(
            f"{argument}: torch cannot use {device!r} here ({reason}); try cpu, or leave it out.", topic="device"
        ) from None


def made_on(folder: Path) -> str | None:
    """Returns the type of device, such as cpu, that the run in `folder` was last trained or measured on; None if that is not
    known. The command that opens the folder says if it is damaged."""
    try:
        environments = Run(folder).manifest.get("environments") or []
    except (InputError, RunError):
        return None
    return str(environments[-1]["fields"].get("device", "cpu")).partition(":")[0] if environments else None


def check_fit(experiment: Experiment, data: Splits) -> None:
    """Raises `InputError` if `experiment` cannot be trained and evaluated on `data`. Called before a folder is created."""
    steps_per_epoch(len(data.train), experiment.training.batch_size)
    experiment.data.protocol().check(data)
    for part, images in (("validation", data.validation), ("test", data.test)):
        if len(images) < 2:
            raise InputError(
                f"{data.title}: expected at least 2 {part} images, because divergences are between pairs, got "
                f"{len(images)}; give more images.",
                topic="own-data",
            )
    experiment.build(data.image_shape)
    from mpdvae.workflows.part_trial import has_own_parts, try_parts

    if has_own_parts(experiment):
        try_parts(experiment, data)


def check_same_data(run: Run, data: Splits) -> None:
    """Raises `InputError` if `run` was made on data other than `data`."""
    noted = run.manifest.get("data")
    if noted and noted["sha256"] != data.sha256:
        raise InputError(
            f"{run.path}: was made on other data ({noted['protocol']}, hash {noted['sha256'][:12]}) than those present now "
            f"(hash {data.sha256[:12]}); put the former data back, or train in another --out.",
            topic="other-data",
        )
    names = (noted or {}).get("class_names")
    if names is not None and tuple(names) != data.class_names:
        raise InputError(
            f"{run.path}: was made on classes that were called {_called(names)}, but now they are called "
            f"{_called(data.class_names)}; give them their former names, or train in another --out.",
            topic="other-data",
        )


def _called(names: Sequence[str]) -> str:
    return listed([in_short(name, 60) for name in names], SHOWN) if names else "by numbers only"


def describe_run(run: Run, data: Splits, command: str) -> None:
    """Records in the manifest of `run`, at its first start, everything that its results depend on."""
    import torch

    check_same_data(run, data)
    if "data" in run.manifest:
        return
    protocol = run.experiment.data.protocol()
    origin = {"name": run.experiment.data.dataset, "sha256": data.sha256, "protocol": protocol.describe(data)}
    origin |= {"reading": encodable(data.reading)} if data.reading else {}
    names = recordable(data.class_names)
    origin |= {"class_names": list(names)} if names else {}
    vae = run.experiment.build(data.image_shape)
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in vae.named_children()}
    run.note(
        version=__version__,
        torch=torch.__version__,
        python=platform.python_version(),
        platform=platform.system(),
        processor=platform.machine(),
        cores=os.cpu_count(),
        processes=world(),
        data=origin,
        parameters=parts | {"total": sum(parts.values())},
        seed=run.experiment.seed,
        command=run.manifest.get("command", command),  # that of the import, if the model was trained elsewhere
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        status=run.manifest.get("status", "training"),
    )


def note_environment(run: Run, data: Splits, stage: str, step: int) -> None:
    """Records the environment of this process in the manifest of `run`, for training or evaluation, from `step` on.

    Other environments recorded earlier are kept.
    """
    fields = describe(data.train.device)
    run.note(environments=noted(run.manifest.get("environments") or [], fields, stage, step))


def complete(
    run: Run,
    data: Splits,
    command: str,
    say: Say = lambda _: None,
    watch: Any = None,
    watch_likelihoods: Callable[[str, float], None] = lambda _, __: None,
    track: Sequence[str] = (),
    warn: Say = lambda _: None,
) -> None:
    """Trains and evaluates `run` as far as that is not done yet, and writes its progress to progress.json for observers.

    Arguments:
        run: no other process may own its folder (`mpdvae.system.folder_lock`).
        data: data of its experiment.
        command: command line that makes the run.
        say: called with the name of each measurement before it starts.
        watch: progress callback of training.
        watch_likelihoods: progress callback of the evaluation.
        track: names of the trackers that receive the history and the results.
        warn: called with warnings for the user: a damaged checkpoint, a return to an earlier one, a tracker that fails.

    Raises:
        RunError: if the process was asked to stop, or a file cannot be read or written; the message says how to resume.
    """
    from mpdvae.evaluation.run_evaluation import evaluate

    with _going_on(run, data) as stop, tracking(run, track, warn) as trackers:
        noter = _begin(run, data, command)
        _train(run, data, noter, _telling(trackers, watch), warn, stop)
        if run.status != "finished":
            note_environment(run, data, EVALUATION, run.experiment.training.steps)
            evaluate(run, data, say=lambda what: (noter.phase(what), say(what))[-1], watch=watch_likelihoods)
            run.note(finished=datetime.now(UTC).isoformat(timespec="seconds"))
        trackers.tell_results()
        noter.over()


def train_only(
    run: Run,
    data: Splits,
    command: str,
    watch: Any = None,
    warn: Say = lambda _: None,
    track: Sequence[str] = (),
) -> None:
    """Trains `run` as `complete` does, without the evaluation."""
    with _going_on(run, data) as stop, tracking(run, track, warn) as trackers:
        noter = _begin(run, data, command)
        _train(run, data, noter, _telling(trackers, watch), warn, stop)
        noter.over()


def how_to_resume(run: Run, data: Splits) -> str:
    """Returns the command that resumes `run` on the device of `data`."""
    device = data.train.device
    return f"mpdvae resume {run.path}" + ("" if device.type == "cpu" else f" --device {device}")


def _telling(trackers: Trackers, watch: Any) -> Callable[[int, dict[str, Any] | None], None]:
    """Returns a progress callback of training that reports to `trackers`, then to `watch`, if given."""

    def told(done: int, entry: dict[str, Any] | None) -> None:
        if entry:
            trackers.tell(entry)
        if watch is not None:
            watch(done, entry)

    return told


@contextmanager
def _going_on(run: Run, data: Splits) -> Iterator[Stop]:
    """Turns a request to stop, or an `OSError`, within the context into a `RunError` that says how to resume."""
    goes_on = f"everything written before is intact, and `{how_to_resume(run, data)}` resumes the run"
    try:
        with heeded() as stop:
            yield stop
    except Stopped as signal:
        raise ToldToStop(f"{run.path}: stopped by {signal}; {goes_on}.") from None
    except OSError as error:
        run.check_there()
        raise RunError(f"{in_words(error)}; {goes_on}.", topic="disk") from error


def _begin(run: Run, data: Splits, command: str) -> "_ProgressNoter":
    run.tidy()
    describe_run(run, data, command)
    return _ProgressNoter(run, data)


def _train(run: Run, data: Splits, noter: "_ProgressNoter", watch: Any, warn: Say, stop: Stop) -> None:
    from mpdvae.training.loop import train

    own = run.experiment.own_parts or run.experiment.objective.own_terms
    if own and (run.folder / "model" / "model.safetensors").is_file():
        # Refuses weights of code that has changed since, before it replaces them.
        model_folder.check_terms(run.path, model_folder.load(run.path).to(data.train.device))

    def watch_both(done: int, entry: dict[str, Any] | None) -> None:
        noter.step(done, entry)
        if watch is not None:
            watch(done, entry)

    if run.status not in {"trained", "finished"}:
        train(run, data, watch_both, warn, stop)


class _ProgressNoter:
    """Writes the progress of a run to progress.json, at a limited rate; at the first training step also records the
    environment."""

    def __init__(self, run: Run, data: Splits) -> None:
        self.data, self.begun = data, False
        self.run, self.last, self.entry = run, 0.0, (run.history or [None])[-1]

    def step(self, done: int, entry: dict[str, Any] | None) -> None:
        if not self.begun:  # not earlier: a run that cannot be resumed stays unchanged
            note_environment(self.run, self.data, TRAINING, done - 1)
            self.begun = True
        self.entry = entry or self.entry
        if entry or time.monotonic() - self.last > PROGRESS_SECONDS:
            self._write("training", done)

    def phase(self, name: str) -> None:
        self._write(name, self.run.experiment.training.steps)

    def over(self) -> None:
        if is_first():
            self.run.end_progress()

    def _write(self, phase: str, done: int) -> None:
        self.last = time.monotonic()
        self.run.check_there()
        self.run.note_progress({"phase": phase, "step": done, "latest": self.entry})


def this_command() -> str:
    """Returns the command line of this process as a user would type it."""
    import shlex

    return encodable(shlex.join(["mpdvae", *sys.argv[1:]]))
