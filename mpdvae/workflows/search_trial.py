"""Runs the trials of a search in worker processes, and defines what the workers share.

A worker asks the study for a trial, trains it in a folder of its own, and reports its value to the study.

Asking for a trial and claiming its folder happen under one lock, during which no other worker begins a trial: if a trial
counts as running but its folder has no owner, its process died. The trial is then enqueued again with the same folder,
where training resumes from the last checkpoint.
"""

import json
import re
import traceback
import warnings
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import finalize

from mpdvae.errors import InputError, ToldToStop
from mpdvae.experiments.experiment import Experiment, from_json, with_changes
from mpdvae.runs.records import SearchNote, check, check_written
from mpdvae.runs.run_folder import FAILURE_LOG, Run
from mpdvae.system.atomic_files import read_json, write_atomically, write_json
from mpdvae.system.closed_folder import Inside
from mpdvae.system.folder_lock import Ownership, owned, owner_of
from mpdvae.system.turn_lock import turn_lock
from mpdvae.system.untrusted_files import in_short
from mpdvae.training.fastest_step import Choice
from mpdvae.workflows import gpu_assignment
from mpdvae.workflows.job import load_data, on_device, train_only
from mpdvae.workflows.precision_choice import noted
from mpdvae.workflows.search_space import Space, changed

if TYPE_CHECKING:
    from filelock import FileLock
    from optuna import Study, Trial
    from optuna.pruners import BasePruner
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

Pruner = Literal["median", "hyperband", "none"]
UNPRUNED_TRIALS = 5
"""Number of trials that finish before the median pruner prunes any."""
TRIES = 2
"""Number of times a trial whose process dies is started before it counts as failed."""
FOLDER, REASON = "folder", "reason"
"""Keys of a trial's attributes in the study."""
NAME = re.compile(r"trial-\d{4,9}")
"""Names of folders."""
SEARCH = "search"
"""Key of the study's attribute that identifies its search."""


@dataclass(frozen=True)
class Search:
    """Everything that a worker needs to take part in a search."""

    experiment: Experiment
    space: Space
    out: Path
    trials: int
    """Total number of trials, including those of earlier calls."""
    storage: str
    """URL of a database; empty: a journal file in `out`."""
    pruner: Pruner
    data_root: Path | None
    command: str
    track: tuple[str, ...] = ()
    """Names of the trackers that record every trial."""
    device: str | None = None
    """Device for training; "cuda": each worker uses one of its GPUs; None: the CPU."""
    choice: Choice | None = None
    """What was measured, if the precision was chosen by timing."""

    @property
    def path(self) -> Inside:
        """File that defines the search, next to the trials."""
        return Inside(self.out) / "search.json"

    @property
    def undecided(self) -> bool:
        """Whether the precision is still to be chosen."""
        return self.experiment.training.precision == "auto"

    def keeping(self) -> "Search":
        """Returns the search with the precision that was chosen in an earlier call, if there was one."""
        if not self.path.exists():
            return self
        found = self._noted()
        timed = found.get("fastest_step") or {}
        known = {field.name: timed[field.name] for field in fields(Choice) if field.name in timed}
        search = replace(self, choice=Choice(**known) if known else None)
        if not self.undecided:
            return search
        kept = from_json(json.dumps(found["experiment"]), str(self.path)).training
        return replace(
            search,
            experiment=with_changes(
                self.experiment, training__precision=kept.precision, training__compile=kept.compile
            ),
        )

    def study(self) -> "Study":
        """Opens the study, creating it if needed. Connections to a database are closed when it is no longer used.

        Raises:
            InputError: if the database has another search of the same name.
        """
        import optuna
        from optuna.storages import RDBStorage

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = self._storage()
        study = optuna.create_study(
            storage=storage,
            study_name=self.out.resolve().name,
            direction="minimize",
            pruner=self._pruner(),
            load_if_exists=True,
        )
        if isinstance(storage, RDBStorage):
            finalize(study, storage.engine.dispose)
        ours = self._content()
        if (other := study.user_attrs.get(SEARCH, ours)) != ours:
            raise InputError(
                f"--storage: {self.storage} has another search called {study.study_name!r} (its "
                f"{_differing(other, ours)} differ); choose an --out of another name.",
                topic="taken",
            )
        if SEARCH not in study.user_attrs:
            study.set_user_attr(SEARCH, ours)
        return study

    def _storage(self) -> "BaseStorage":
        from optuna.storages import JournalStorage, RDBStorage
        from optuna.storages.journal import JournalFileBackend

        if self.storage:
            return RDBStorage(self.storage)
        journal = Inside(self.out) / "study.journal"
        journal.exists()  # raises for a link, which optuna would follow
        return JournalStorage(JournalFileBackend(str(journal)))

    def _pruner(self) -> "BasePruner":
        from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

        training = self.experiment.training
        if self.pruner == "hyperband":
            return HyperbandPruner(min(training.evaluate_every, training.steps), training.steps)
        return MedianPruner(n_startup_trials=UNPRUNED_TRIALS) if self.pruner == "median" else NopPruner()

    def _noted(self) -> dict[str, Any]:
        return check(SearchNote, read_json(self.path), str(self.path), "choose another --out")

    def note(self) -> None:
        """Writes the definition of the search next to the trials. Raises `InputError` if another search is there."""
        ours = self._content()
        if self.path.exists() and (differing := _differing(self._noted(), ours)):
            raise InputError(
                f"{self.out}: holds another search (its {differing} differ); choose another --out.", topic="taken"
            )
        content = ours | ({"fastest_step": asdict(self.choice)} if self.choice else {})
        check_written(SearchNote, content, self.path)
        write_json(self.path, content)

    def _content(self) -> dict[str, Any]:
        """Returns the data that identify this search, as read back from JSON."""
        return {
            "experiment": self.experiment.model_dump(mode="json"),
            "vary": {name: str(what) for name, what in self.space.items()},
            "pruner": self.pruner,
        }


def _differing(other: dict[str, Any], ours: dict[str, Any]) -> str:
    return ", ".join(key for key in ours if other.get(key) != ours[key])


def take_part(job: Search, session: Path, number: int) -> None:
    """In worker `number`: trains trials until the study has enough."""
    study, job = job.study(), replace(job, device=gpu_assignment.of_worker(job.device, number))
    while owner_of(session) is not None:
        with ExitStack() as stack:
            with _turn(job.out):
                trial = _next_trial(study, job)
                if trial is None:
                    return
                (Inside(job.out) / folder_of(trial)).mkdir()
                folder = job.out / folder_of(trial)
                ownership = stack.enter_context(owned(folder))
            _try(study, trial, job, ownership)


def _turn(out: Path) -> "FileLock":
    """Returns a lock; while it is held, no other process begins a trial or decides which trials are dead."""
    return turn_lock(Inside(out) / ".turn.lock")


def _next_trial(study: "Study", job: Search) -> "Trial | None":
    """Returns a new trial or one that was enqueued again; None if enough trials have begun."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    from mpdvae.seeding import derive_seed

    known = study.get_trials(deepcopy=False)
    begun = len({folder_of(trial) for trial in known})
    if begun >= job.trials and not any(trial.state == TrialState.WAITING for trial in known):
        return None
    seed = derive_seed(job.experiment.seed, "trial", begun) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Trials that other workers are at count as bad ones, so that no two try nearly the same.
        study.sampler = TPESampler(seed=seed, constant_liar=True)
    trial = study.ask({name: what.distribution() for name, what in job.space.items()})
    if FOLDER not in trial.user_attrs:
        trial.set_user_attr(FOLDER, f"trial-{begun:04d}")
    return trial


def _try(study: "Study", trial: "Trial", job: Search, ownership: Ownership) -> None:
    """Trains one trial and reports its value to the study."""
    import torch
    from joblib import parallel_config
    from optuna.trial import TrialState
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    folder = job.out / folder_of(trial)
    try:
        run = Run.create(folder, changed(job.experiment, trial.params))
        if "fastest_step" not in run.manifest:
            noted(run, job.choice)
        with threadpool_limits(1), parallel_config("sequential"):
            _train(run, job, trial, ownership)
        study.tell(trial, min(entry["negative_elbo_nats"] for entry in run.history))
    except _Behind:
        study.tell(trial, state=TrialState.PRUNED)
    except ToldToStop:
        raise  # the trial still counts as running, and will be resumed
    except Exception as error:
        write_atomically(Inside(folder) / FAILURE_LOG, traceback.format_exc())
        trial.set_user_attr(REASON, f"{type(error).__name__}: {error}")
        study.tell(trial, state=TrialState.FAIL)


class _Behind(Exception):
    """Raised when the pruner stops a trial."""


def _train(run: Run, job: Search, trial: "Trial", ownership: Ownership) -> None:
    """Trains `run` and reports each evaluation point. After a resume, earlier points are reported to the new trial, too."""
    reported: set[int] = set()

    def report(entry: dict[str, Any]) -> None:
        if entry["step"] not in reported:
            reported.add(entry["step"])
            trial.report(entry["negative_elbo_nats"], entry["step"])

    def watch(done: int, entry: dict[str, Any] | None) -> None:
        ownership.confirm()
        if entry is not None:
            report(entry)
            if done < run.experiment.training.steps and trial.should_prune():
                raise _Behind

    for entry in run.history:
        report(entry)
    data = on_device(load_data(run.experiment, job.data_root), job.device)
    train_only(run, data, job.command, watch, track=job.track)


def revive(study: "Study", out: Path) -> list[str]:
    """Enqueues trials whose process is gone again; the second time, they count as failed. Returns a line for each."""
    from optuna.trial import TrialState

    lines = []
    with _turn(out):
        known = study.get_trials(deepcopy=False)
        for trial in known:
            folder = folder_of(trial)
            if trial.state != TrialState.RUNNING or owner_of(out / folder) is not None:
                continue
            study.tell(trial.number, state=TrialState.FAIL)
            again = sum(folder_of(other) == folder for other in known) < TRIES
            if again:
                study.enqueue_trial(trial.params, user_attrs={FOLDER: folder})
            lines.append(f"{folder}: its process is gone; {'resuming it' if again else 'it counts as failed'}")
    return lines


def folder_of(trial: "FrozenTrial | Trial") -> str:
    """Returns the name of the folder of a trial. Raises `InputError` for a study whose names lead elsewhere."""
    name = trial.user_attrs.get(FOLDER, f"trial-{trial.number:04d}")
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        raise InputError(f"the study names the folder {in_short(name, 60)!r} for a trial; choose another --out.")
    return name
