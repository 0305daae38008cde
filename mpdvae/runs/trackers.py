"""Logs the history of a run to experiment trackers as it grows: TensorBoard, trackio, Weights & Biases, MLflow.

A tracker receives numbers and the configuration, TensorBoard figures, too (`mpdvae.runs.tracker_logs`). It does not change a
byte of a run; a tracker that fails is dropped, with a message of one sentence. The history in the run folder remains the
source.

    RUN/trackers/NAME.json      the last step that was logged to NAME, and the id by which it knows the run
    RUN/trackers/tensorboard/   the log of TensorBoard: `tensorboard --logdir RUN/trackers`

A resumed run logs to the same log whatever a tracker does not have yet: no point is logged twice.
"""

import json
import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal, get_args

from mpdvae.errors import InputError
from mpdvae.runs.records import TrackerNote, check, check_written
from mpdvae.runs.run_folder import Run
from mpdvae.runs.tracker_logs import Log, MLflowLog, TensorBoardLog, WandbLog
from mpdvae.system.atomic_files import read_json, write_json
from mpdvae.system.closed_folder import Inside
from mpdvae.system.process_group import is_first

Name = Literal["tensorboard", "trackio", "wandb", "mlflow"]
NAMES: tuple[Name, ...] = get_args(Name)
PROJECT = "mpdvae"
FOLDER = "trackers"
LARGEST_PICTURE = 1 << 24
"""Maximum size of a figure in bytes."""
LONGEST = 64
"""Maximum length of a list whose numbers are logged; longer lists are omitted."""
RESULTS = ("density", "diagnostics", "information", "code_use", "representation")

Say = Callable[[str], None]


def check_installed(names: Sequence[str]) -> None:
    """Raises `InputError`, with the command to install it, if a requested tracker is not installed."""
    for name in names:
        if find_spec(name) is None:
            package = "'mpdvae[track]'" if name == "tensorboard" else name
            raise InputError(f"--track {name}: needs {name}; run `pip install {package}`.", topic="extras")


@contextmanager
def tracking(run: Run, names: Sequence[str], say: Say) -> Iterator["Trackers"]:
    """Yields the trackers of `run`: those in `names` and those that it was logged to before. They are closed on exit, even
    after an error. With several processes, only the first one logs."""
    trackers = Trackers(run, say)
    if is_first():
        trackers.start(names)
    try:
        yield trackers
    finally:
        trackers.finish()


class Trackers:
    """Any number of trackers of one run, none of which can stop the run.

    Arguments:
        run: the run whose history is logged.
        say: called with a message of one sentence if a tracker fails.
    """

    def __init__(self, run: Run, say: Say) -> None:
        self.run, self.say = run, say
        self.trackers: dict[str, Tracker] = {}

    def start(self, names: Sequence[str]) -> None:
        """Starts or resumes the trackers, and logs the part of the history that they do not have yet."""
        before = [path.stem for path in (self.run.folder / FOLDER).files("*.json") if path.stem in NAMES]
        for name in dict.fromkeys([*names, *before]):
            self._attempt(name, lambda name=name: self.trackers.update({name: Tracker(self.run, name)}))
        for entry in self.run.history:
            self.tell(entry)

    def tell(self, entry: Mapping[str, Any]) -> None:
        """Logs a new entry of the history."""
        for name, tracker in list(self.trackers.items()):
            self._attempt(name, lambda tracker=tracker: tracker.tell(entry))

    def tell_results(self) -> None:
        """Logs the results of the finished run, and its figures."""
        for name, tracker in list(self.trackers.items()):
            self._attempt(name, tracker.tell_results)

    def finish(self) -> None:
        for name, tracker in list(self.trackers.items()):
            self._attempt(name, tracker.finish)

    def _attempt(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # any error of a tracker: network, login, disk, a missing package
            reason = (str(error).strip().split("\n")[0] or type(error).__name__).rstrip(".")
            self.say(f"tracker {name} failed and is no longer used ({reason}); the run continues.")
            self.trackers.pop(name, None)


class Tracker:
    """One tracker of one run."""

    def __init__(self, run: Run, name: str) -> None:
        self.run, self.name = run, name
        self.noted = run.folder / FOLDER / f"{name}.json"
        known = self.noted.is_file()
        self.state: dict[str, Any] = _known(self.noted) if known else {"step": 0, "id": secrets.token_hex(8)}
        self.log = self._opened(known)
        if not known:
            self._begin()

    def tell(self, entry: Mapping[str, Any]) -> None:
        """Logs an entry of the history, unless the tracker has it already."""
        if entry["step"] > self.state["step"]:
            self.log.log(numbers(entry), entry["step"])
            self._note(step=entry["step"])

    def tell_results(self) -> None:
        """Logs the numbers of the results at the last step, and figures if the tracker supports them."""
        if self.state.get("results"):
            return
        told = {}
        for name in RESULTS:
            if (path := self.run.folder / f"{name}.json").is_file():
                told |= {f"{name}/{key}": value for key, value in numbers(read_json(path)).items()}
        self.log.log(told, self.state["step"])
        self.log.log_pictures(_pictures(self.run.folder), self.state["step"])
        self._note(results=True)

    def finish(self) -> None:
        self.log.close()

    def _begin(self) -> None:
        """Logs what a tracker receives only once."""
        experiment = self.run.experiment.model_dump(mode="json")
        self.log.configure(dict(_configuration(experiment)))
        self._note(id=self.log.id or self.state["id"])

    def _opened(self, known: bool) -> Log:
        """Returns the tracker's log of this run: an existing one is continued."""
        title = f"{self.run.experiment.name}-seed{self.run.experiment.seed}-{self.state['id'][:6]}"
        own_folder = self.run.folder / FOLDER / self.name
        own_folder.exists()  # raises for a link, which the tracker would follow
        folder = own_folder.parent.path
        if self.name == "tensorboard":
            # Points after the recorded step may have been written before a crash.
            return TensorBoardLog(own_folder.path, self.state["step"] if known else None)
        if self.name == "wandb":
            own_folder.parent.mkdir()
            return WandbLog("wandb", project=PROJECT, name=title, id=self.state["id"], dir=str(folder))
        if self.name == "mlflow":
            return MLflowLog(PROJECT, self.state["id"] if known else None, title)
        return WandbLog("trackio", project=PROJECT, name=title)

    def _note(self, **changes: Any) -> None:
        self.state |= changes
        check_written(TrackerNote, self.state, self.noted)
        write_json(self.noted, self.state)


def _known(noted: Inside) -> dict[str, Any]:
    """Returns the record of what was logged before. Raises `InputError` for content that `Tracker` does not write."""
    return check(TrackerNote, read_json(noted), str(noted), "delete it to start the tracker anew")


def numbers(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Returns the numbers in a history entry or a result. Keys are the names of nested parts joined with `/`; names include
    the units."""
    found: dict[str, float] = {}
    for name, value in tree.items():
        if isinstance(value, list) and len(value) <= LONGEST:
            value = {f"{index:02d}": item for index, item in enumerate(value)}
        if isinstance(value, Mapping):
            found |= numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and math.isfinite(value) and name != "step":
            found[prefix + name] = float(value)
    return found


def _configuration(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    """Yields the fields of an experiment as hyperparameters."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _configuration(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value if isinstance(value, str | int | float | bool) else json.dumps(value)


def _pictures(folder: Inside) -> dict[str, Any]:
    """Returns the figures of a run as arrays [channel height width]."""
    import numpy as np
    from PIL import Image

    found = {}
    for path in (folder / "figures").files("*.png"):
        with path.open(LARGEST_PICTURE) as file, Image.open(file, formats=["PNG"]) as image:
            found[f"figures/{path.stem}"] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return found
