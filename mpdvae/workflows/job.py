"""One run from start to end, in a folder that can be continued: what `train`, `resume` and the matrix have in common."""

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
from mpdvae.errors import InputError, RunError, ToldToStop, in_words
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.runs.environment import EVALUATION, TRAINING, describe, noted
from mpdvae.runs.run_folder import Run
from mpdvae.runs.trackers import Trackers, tracking
from mpdvae.system.process_group import is_first, world
from mpdvae.system.signals import Stop, Stopped, heeded
from mpdvae.version import __version__

OWN = "own"
"""The data set of a user's images."""
PROGRESS_SECONDS = 0.5
"""A run notes how far it is at most this often."""

Say = Callable[[str], None]


def load_data(experiment: Experiment, root: Path | None = None) -> Splits:
    """The data of `experiment`, divided as it says, fetched into the data folder if need be."""
    d = experiment.data
    return load(d.dataset, path=d.path, root=root, validation_size=d.validation_size, split_seed=d.split_seed)


def data_of(run: Run, root: Path | None = None) -> Splits:
    """The data of `run`. Own images that it was made on, and that are no longer where they were, are looked for at `root`:
    their hash, which the run has noted, tells others."""
    d = run.experiment.data
    gone = d.dataset == OWN and run.manifest.get("data") is not None and not Path(d.path or "").expanduser().exists()
    if gone and root is not None:
        return load_data(with_changes(run.experiment, data__path=str(root)))
    return load_data(run.experiment, root)


def on_device(data: Splits, device: str | None) -> Splits:
    """The data with their pixels on `device`, and so everything that is computed from them; None: where they are.

    Raises `InputError` for a device that torch cannot use here.
    """
    check_device(device)
    return data if device is None else data.to(device)


def check_device(device: str | None, argument: str = "--device") -> None:
    """Raises `InputError`, naming the `argument`, unless torch can keep a tensor on `device` here, or none is named."""
    if device is None:
        return
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch has no error of its own for this
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise InputError(
            f"{argument}: torch cannot use {device!r} here ({reason}); try cpu, or leave it out.", topic="device"
        ) from None


def check_fit(experiment: Experiment, data: Splits) -> None:
    """Raises `InputError` where `experiment` cannot be trained and measured on `data`: before any folder is made."""
    steps_per_epoch(len(data.train), experiment.training.batch_size)
    experiment.data.protocol().check(data)
    for part, images in (("validation", data.validation), ("test", data.test)):
        if len(images) < 2:
            raise InputError(
                f"{data.title}: expected at least 2 {part} images, because divergences are between pairs, got {len(images)}; "
                "give more images.",
                topic="own-data",
            )
    experiment.build(data.image_shape)


def check_same_data(run: Run, data: Splits) -> None:
    """Raises `InputError` where `run` was made on other data than `data`."""
    noted = run.manifest.get("data")
    if noted and noted["sha256"] != data.sha256:
        raise InputError(
            f"{run.path}: was made on other data ({noted['protocol']}, hash {noted['sha256'][:12]}) than there are now "
            f"(hash {data.sha256[:12]}); put the former data back, or train in another --out.",
            topic="other-data",
        )


def describe_run(run: Run, data: Splits, command: str) -> None:
    """Notes what the results of `run` depend on in its manifest, where this is its first start."""
    import torch

    check_same_data(run, data)
    if "data" in run.manifest:
        return
    protocol = run.experiment.data.protocol()
    origin = {"name": run.experiment.data.dataset, "sha256": data.sha256, "protocol": protocol.describe(data)}
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
        command=run.manifest.get("command", command),  # that of the import, for a model trained elsewhere
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        status=run.manifest.get("status", "training"),
    )


def note_environment(run: Run, data: Splits, stage: str, step: int) -> None:
    """Notes the environment of this process in the manifest of `run`, for training or evaluation, from `step` on. Another one
    that was noted before stays."""
    fields = describe(data.train.pixels.device)
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
    """Trains and evaluates what of `run` is not done yet. Notes its progress in progress.json for whoever looks on.

    Arguments:
        run: its folder must be in no other hands (`ownership`).
        data: of its experiment.
        command: that makes it.
        say: told what is measured next.
        watch: of training.
        watch_likelihoods: of the evaluation.
        track: names of trackers that are told the history and the results.
        warn: told what a person should know: a damaged checkpoint, a return to an earlier one, a tracker that fails.

    Raises `RunError` where the process was told to stop, or the system refuses a file; the message says how to go on.
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
    """The part of `complete` before the evaluation."""
    with _going_on(run, data) as stop, tracking(run, track, warn) as trackers:
        noter = _begin(run, data, command)
        _train(run, data, noter, _telling(trackers, watch), warn, stop)
        noter.over()


def how_to_resume(run: Run, data: Splits) -> str:
    """The command that goes on with `run` on the device where `data` are."""
    device = data.train.pixels.device
    return f"mpdvae resume {run.path}" + ("" if device.type == "cpu" else f" --device {device}")


def _telling(trackers: Trackers, watch: Any) -> Callable[[int, dict[str, Any] | None], None]:
    """A watcher of training that tells `trackers`, then `watch`, where there is one."""

    def told(done: int, entry: dict[str, Any] | None) -> None:
        if entry:
            trackers.tell(entry)
        if watch is not None:
            watch(done, entry)

    return told


@contextmanager
def _going_on(run: Run, data: Splits) -> Iterator[Stop]:
    """Inside, a request to stop and what the system refuses end in a `RunError` that says how to go on."""
    goes_on = f"what was written before is whole, and `{how_to_resume(run, data)}` goes on"
    try:
        with heeded() as stop:
            yield stop
    except Stopped as signal:
        raise ToldToStop(f"{run.path}: told to stop by {signal}; {goes_on}.") from None
    except OSError as error:
        run.check_there()
        raise RunError(f"{in_words(error)}; {goes_on}.", topic="disk") from error


def _begin(run: Run, data: Splits, command: str) -> "_ProgressNoter":
    run.tidy()
    describe_run(run, data, command)
    return _ProgressNoter(run, data)


def _train(run: Run, data: Splits, noter: "_ProgressNoter", watch: Any, warn: Say, stop: Stop) -> None:
    from mpdvae.training.loop import train

    def watch_both(done: int, entry: dict[str, Any] | None) -> None:
        noter.step(done, entry)
        if watch is not None:
            watch(done, entry)

    if run.status not in {"trained", "finished"}:
        train(run, data, watch_both, warn, stop)


class _ProgressNoter:
    """Writes how far a run is to progress.json, not more often than is of use; with the first step, where it is trained."""

    def __init__(self, run: Run, data: Splits) -> None:
        self.data, self.begun = data, False
        self.run, self.last, self.entry = run, 0.0, (run.history or [None])[-1]

    def step(self, done: int, entry: dict[str, Any] | None) -> None:
        if not self.begun:  # not earlier: a run that cannot go on is left as it is
            note_environment(self.run, self.data, TRAINING, done - 1)
            self.begun = True
        self.entry = entry or self.entry
        if entry or time.monotonic() - self.last > PROGRESS_SECONDS:
            self._write("training", done)

    def phase(self, name: str) -> None:
        self._write(name, self.run.experiment.training.steps)

    def over(self) -> None:
        if is_first():
            (self.run.path / "progress.json").unlink(missing_ok=True)

    def _write(self, phase: str, done: int) -> None:
        self.last = time.monotonic()
        self.run.check_there()
        self.run.note_progress({"phase": phase, "step": done, "latest": self.entry})


def this_command() -> str:
    """The command line that is running, as one would type it."""
    import shlex

    return shlex.join(["mpdvae", *sys.argv[1:]])
