"""Searches for the configuration with the lowest validation negative ELBO, using Optuna (https://optuna.org; Akiba et al.
2019, KDD, https://arxiv.org/abs/1907.10902).

    trial      one training run of the recipe with different values of some fields, in a run folder: OUT/trial-0007
    value      its lowest negative ELBO at an evaluation point, in nats, on validation images: the plain ELBO, whatever the
               weights of the objective, so that trials with different weights can be compared
    sampler    tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS)
    pruner     stops a trial at an evaluation point where it is behind, by the median of the trials before it or by
               Hyperband (Li et al. 2018, JMLR 18)

The values of trial k are a function of the seed, of k and of the results known by then, so a search that runs one job after
the other is as reproducible as a run. Workers share the study through its storage and take trials one by one
(`mpdvae.workflows.search_trial`).
"""

import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpdvae.errors import InputError, RunError
from mpdvae.runs.records import ProgressNote, check
from mpdvae.runs.run_folder import PROGRESS
from mpdvae.system.atomic_files import read_json, write_atomically
from mpdvae.system.closed_folder import Inside
from mpdvae.system.turn_lock import turn_lock
from mpdvae.training.fastest_step import VARIANTS, Variant, with_variant
from mpdvae.workflows import gpu_assignment, worker_backends
from mpdvae.workflows.job import check_device, load_data
from mpdvae.workflows.precision_choice import TIMING, by_worker
from mpdvae.workflows.progress_display import RunProgress, Watcher, busy, print_line
from mpdvae.workflows.search_space import changed, fits
from mpdvae.workflows.search_trial import REASON, Search, folder_of, revive, take_part

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, TrialState

BEST = "best.json"
"""File in the folder of the search that holds the best configuration."""
LOOK_SECONDS = 1.0
"""Seconds between two looks at the study."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of one trial."""

    number: int
    folder: Path
    state: str
    """"complete", "pruned" or "failed"."""
    negative_elbo_nats: float | None
    values: dict[str, Any]
    """Values of the varied fields."""
    reason: str
    """Why the trial failed; empty if it did not."""


def search(job: Search, workers: int | None, backend: worker_backends.Backend, address: str | None) -> list[Outcome]:
    """Brings the study to `job.trials` trials, writes the best configuration to best.json, and returns all outcomes, best
    first.

    Raises:
        InputError: if optuna is not installed, `job.out` holds another search, the backend's arguments do not fit each
            other, or the device does not exist here.
        RunError: if no trial finished, or the workers cannot work.
    """
    if address is None:
        check_device(job.device)
    job.out.mkdir(parents=True, exist_ok=True)
    job = job.keeping()
    study = None if job.undecided else _begun(job)
    load_data(job.experiment, job.data_root)  # once, before many processes request the same files
    with worker_backends.backend(backend, workers, address, gpu_assignment.are_shared(job.device)) as count:
        if study is None:
            job = _decided(job)
            study = _begun(job)
        title = f"{job.trials} trials of {job.experiment.name}, {count} in parallel"
        with Watcher(title, _share(study, job)) as watcher:
            _rounds(study, job, count, watcher)
    outcomes = ranked(study, job.out)
    if not outcomes or outcomes[0].negative_elbo_nats is None:
        reason = f" (the last one: {outcomes[-1].reason})" if outcomes else ""
        raise RunError(f"no trial finished{reason}; vary other fields or ranges, in another --out.")
    best = {**outcomes[0].values, "name": f"{job.experiment.name}-tuned"}
    write_atomically(Inside(job.out) / BEST, changed(job.experiment, best).to_json())
    return outcomes


def _begun(job: Search) -> "Study":
    job.note()
    return _opened(job)


def _decided(job: Search) -> Search:
    """Chooses the precision by timing, with variants that all values of the varied fields allow. Another call of the same
    search waits meanwhile, and then finds the choice."""
    with turn_lock(Inside(job.out) / ".choice.lock"):
        job = job.keeping()
        if not job.undecided:
            return job
        allowed = [variant for variant in VARIANTS if _fits(job, variant)]
        with busy(TIMING):
            (choice,) = by_worker([job.experiment], job.data_root, job.device, job.out, allowed)
        print_line(f"{job.experiment.name}: {choice.in_words()}")
        job = replace(job, experiment=with_variant(job.experiment, choice), choice=choice)
        job.note()
    return job


def _fits(job: Search, variant: Variant) -> bool:
    try:
        return fits(with_variant(job.experiment, variant), job.space)
    except InputError:
        return False


def ranked(study: "Study", out: Path) -> list[Outcome]:
    """Returns all trials that ended: complete ones by value, then pruned ones, then failed ones."""
    outcomes = [_outcome(trial, out) for trial in _ended(study)]
    order = ["complete", "pruned", "failed"]
    return sorted(outcomes, key=lambda o: (order.index(o.state), o.negative_elbo_nats or 0.0, o.number))


def _opened(job: Search) -> "Study":
    try:
        return job.study()
    except ImportError:
        raise InputError(
            "tune: needs packages that are not installed; run `pip install 'mpdvae[tune]'`.", topic="extras"
        ) from None
    except InputError:
        raise
    except Exception as error:  # the errors of any database
        if not job.storage:
            raise
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"--storage: {job.storage!r} cannot be opened ({reason}); try sqlite:///study.db.") from None


def _rounds(study: "Study", job: Search, workers: int, watcher: Watcher) -> None:
    """Starts workers until the study has all its trials."""
    while True:
        for line in revive(study, job.out):
            watcher.say(line)
        done = len(_ended(study))
        if done >= job.trials:
            return
        before = _states(study)
        over = threading.Event()
        looker = threading.Thread(target=_look_on, args=(study, job, watcher, over), daemon=True)
        looker.start()
        try:
            broken = worker_backends.work(take_part, job, workers=min(workers, job.trials - done), folder=job.out)
        finally:
            over.set()
            looker.join()
        if broken and _states(study) == before:
            raise RunError(f"the workers ended before they began a trial ({broken}).", topic="workers")
        if broken:
            workers = max(1, workers // 2)
            watcher.say(
                f"a worker ended early ({broken}), perhaps out of memory; continuing with {workers} in parallel"
            )
        elif len(_ended(study)) == done:
            time.sleep(LOOK_SECONDS)  # another call of this search is working on the last trials


def _states(study: "Study") -> "list[TrialState]":
    return [trial.state for trial in study.get_trials(deepcopy=False)]


def _ended(study: "Study") -> "list[FrozenTrial]":
    """Returns the last trial of each folder, if it has ended."""
    last = {folder_of(trial): trial for trial in study.get_trials(deepcopy=False)}
    return [trial for trial in last.values() if trial.state.is_finished()]


def _outcome(trial: "FrozenTrial", out: Path) -> Outcome:
    state = {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed")
    nats = [value for value in (trial.value, *trial.intermediate_values.values()) if value is not None]
    reason = trial.user_attrs.get(REASON, "its process died") if state == "failed" else ""
    best = min(nats) if nats and state != "failed" else None
    return Outcome(trial.number, out / folder_of(trial), state, best, trial.params, reason)


def _look_on(study: "Study", job: Search, watcher: Watcher, over: threading.Event) -> None:
    """Shows progress, and reports the outcome of each trial once, until `over` is set."""
    said, last = {trial.number for trial in _ended(study)}, False
    while not last:
        last = over.wait(LOOK_SECONDS)
        for trial in _ended(study):
            if trial.number not in said:
                said.add(trial.number)
                watcher.say(in_words(_outcome(trial, job.out)))
        watcher.update(_share(study, job), _running(study, job))


def in_words(outcome: Outcome) -> str:
    """Describes an outcome in one line."""
    nats = outcome.negative_elbo_nats
    came_to = outcome.state if nats is None else f"{outcome.state}, -ELBO {nats:z.2f} nats"
    values = ", ".join(f"{name} {value_in_words(value)}" for name, value in outcome.values.items())
    return f"{outcome.folder.name}: {came_to} ({values})" + (f": {outcome.reason}" if outcome.reason else "")


def value_in_words(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _running(study: "Study", job: Search) -> dict[str, RunProgress]:
    running = {}
    for trial in study.get_trials(deepcopy=False):
        try:
            path = Inside(job.out) / folder_of(trial) / PROGRESS
            noted = check(ProgressNote, read_json(path), str(path), "it will be rewritten")
        except InputError:
            continue  # not started, or ended
        if not trial.state.is_finished():
            steps = job.experiment.training.steps
            running[folder_of(trial)] = RunProgress(noted["phase"], noted["step"], steps, noted["latest"])
    return running


def _share(study: "Study", job: Search) -> float:
    """Returns the fraction of the search that is done, in [0, 1]; a pruned trial counts as a whole one."""
    running = _running(study, job)
    parts = sum(min(1.0, progress.step / progress.steps) for progress in running.values())
    return min(1.0, (len(_ended(study)) + parts) / job.trials)
