"""Runs the matrix behind the report: models x data sets x seeds, as jobs with one training thread each.

Seed k gives every model the same order of images, binarisation and noise. Jobs are idempotent: finished run folders are used
as they are, interrupted ones resume from their checkpoint.

Workers are started by a backend (`mpdvae.workflows.worker_backends`) and get the whole list of jobs. Each goes through the
list and does the work that is left: it claims the folder of a run (`mpdvae.system.folder_lock`), completes the run, and
takes the next. Several calls of one matrix, on one machine or on several that share the folder, therefore share the work,
and none repeats the work of another. Progress and failures are read from the folders, however the workers were started.

With precision auto, training steps of each network are timed once, in a worker, before its runs begin; seeds, and recipes
that differ in the weights of MAE's terms alone, share the choice. Folders that exist keep theirs.

A job that fails, or whose worker dies, is retried once after the others are done; then it counts as failed.
"""

import shlex
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mpdvae.errors import InputError, RunError, ToldToStop, printable, why
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.experiments.recipes import seed_counts
from mpdvae.experiments.remedies import as_options
from mpdvae.runs.records import ProgressNote, check
from mpdvae.runs.run_folder import FAILURE_LOG, PROGRESS, Run
from mpdvae.system.atomic_files import read_json, write_atomically
from mpdvae.system.closed_folder import Inside
from mpdvae.system.folder_lock import InUse, left_by, owned, owner_of
from mpdvae.system.turn_lock import turn_lock
from mpdvae.system.untrusted_files import LARGEST_JSON, read_bytes
from mpdvae.workflows import gpu_assignment, worker_backends
from mpdvae.workflows.job import check_device, complete, load_data, on_device
from mpdvae.workflows.progress_display import RunProgress, Watcher, busy, print_line

LOOK_SECONDS = 0.5
"""Seconds between two looks at the run folders."""
INDEPENDENT_PIXELS_COST = 0.3
"""Cost of a run without a PixelCNN relative to a run with one; for the ETA."""
TRAINING_SHARE = 0.75
"""Fraction of a run's time that is spent on training; for the ETA."""
MAE_WEIGHTS = ("objective__diversity_weight", "objective__smoothness_weight")
TRIES = 2
"""Number of attempts at a job before it counts as failed."""


@dataclass(frozen=True)
class Job:
    """One run of the matrix."""

    experiment: Experiment
    folder: Path
    command: str
    """Command line that makes this run alone."""
    track: tuple[str, ...] = ()
    """Names of the trackers that record the run."""
    device: str | None = None
    """Device for training and evaluation; "cuda": one of the worker's GPUs; None: the CPU."""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def files(self) -> Inside:
        """The folder as a part of that of the matrix, which may come from a stranger."""
        return Inside(self.folder.parents[1]) / self.folder.parent.name / self.folder.name

    @property
    def cost(self) -> float:
        return 1.0 if self.experiment.decoder.kind.endswith("pixelcnn") else INDEPENDENT_PIXELS_COST

    @property
    def undecided(self) -> bool:
        """Whether its precision is still to be chosen."""
        return self.experiment.training.precision == "auto"

    @property
    def finished(self) -> bool:
        return (self.files / "experiment.json").exists() and Run(self.folder).status == "finished"


def jobs(
    experiments: Sequence[Experiment],
    seeds: int | Sequence[int] | None,
    out: Path,
    track: Sequence[str] = (),
    device: str | None = None,
    precision: str | None = None,
    first_seed: int = 0,
) -> list[Job]:
    """Returns the matrix: every experiment with `seeds` seeds (one number for all or for each; None: that of its study) from
    `first_seed` on, in folders under `out`/runs, recorded by the trackers in `track`, in the given `precision` if any. Seeds
    vary slowest, so that an interrupted matrix has complete seeds. Raises `InputError` for a negative seed or no seeds."""
    if first_seed < 0:
        raise InputError(f"--first-seed: expected a number >= 0, got {first_seed}.")
    where = ["--device", device] if device else []
    counts = list(seeds) if isinstance(seeds, Sequence) else seed_counts(experiments, seeds)
    made = []
    for place in range(max(counts, default=0)):
        seed = first_seed + place
        for experiment in (e for e, count in zip(experiments, counts, strict=True) if place < count):
            folder = out / "runs" / f"{experiment.name}-seed{seed}"
            command = ["mpdvae", "train", experiment.name, "--seed", str(seed), "--threads", "1", "--out", str(folder)]
            command = shlex.join([*command, *where])
            job = Job(with_changes(experiment, seed=seed), folder, command, tuple(track), device)
            made.append(job if precision is None else _in_precision(job, precision))
    return made


def _in_precision(job: Job, precision: str, compiled: bool | None = None) -> Job:
    """Returns `job` in the given precision, compiled or not; None: as in its experiment."""
    compiled = job.experiment.training.compile if compiled is None else compiled
    changes = {"training__precision": precision, "training__compile": compiled}
    decided = "" if precision == "auto" else f" {shlex.join(as_options(changes))}"
    return replace(job, experiment=with_changes(job.experiment, **changes), command=job.command + decided)


@dataclass(frozen=True)
class Failure:
    """A job that failed at every attempt."""

    job: Job
    reason: str
    """Why it failed, in one line with the name of the log."""


@dataclass(frozen=True)
class _Trace:
    """Traces of failures in a job's folder; they change with each failure."""

    log: int
    """Time at which failure.log was written, in nanoseconds; 0: it does not exist."""
    dead: str
    """Token of an owner that died; empty if there is none."""

    @classmethod
    def of(cls, job: Job) -> "_Trace":
        log, owner = (job.files / FAILURE_LOG).state(), left_by(job.folder)
        return cls(log.st_mtime_ns if log else 0, owner.token if owner else "")


def run_all(
    matrix: Sequence[Job],
    data_root: Path | None,
    workers: int | None = None,
    backend: worker_backends.Backend = "loky",
    address: str | None = None,
) -> list[Failure]:
    """Completes every job of the matrix, showing progress. Returns the jobs that failed; all others are finished.

    Raises:
        InputError: if a folder holds another run, `workers`, `backend` and `address` do not fit each other, or the device
            does not exist here; nothing is started then.
        RunError: if there is no cluster at the address, or its workers cannot work.
    """
    worker_backends.check(backend, workers, address)
    for job in matrix:
        job.files.exists()  # raises for a link to elsewhere
    matrix = _keeping(matrix)
    for job in matrix:
        (Run.check_free if job.undecided else Run.create)(job.folder, job.experiment)
    to_do = [job for job in matrix if not job.finished]
    if not to_do:
        return []
    if address is None:
        check_device(to_do[0].device)
    for experiment in {job.experiment.data.model_dump_json(): job.experiment for job in to_do}.values():
        load_data(experiment, data_root)  # once, before many processes request the same files
    asked = min(workers, len(to_do)) if workers else workers
    with worker_backends.backend(backend, asked, address, gpu_assignment.are_shared(to_do[0].device)) as count:
        if any(job.undecided for job in matrix):
            matrix = _decided(matrix, data_root)
            to_do = [job for job in matrix if not job.finished]
        title = f"{len(to_do)} of {len(matrix)} runs to do, {min(count, len(to_do))} in parallel"
        with Watcher(title, _share(matrix)) as watcher:
            return _rounds(to_do, matrix, data_root, min(count, len(to_do)), watcher)


def _keeping(matrix: Sequence[Job]) -> list[Job]:
    """Returns the matrix, in which undecided jobs whose folder exists have its precision."""
    from mpdvae.training.fastest_step import kept_in

    return [
        _in_precision(job, kept.training.precision, kept.training.compile)
        if job.undecided and (kept := kept_in(job.folder, job.experiment))
        else job
        for job in matrix
    ]


def _decided(matrix: Sequence[Job], data_root: Path | None) -> list[Job]:
    """Chooses the precision of each undecided job by timing each recipe once, and creates the folders.

    Another call of the same matrix waits meanwhile, and then finds the folders.
    """
    from mpdvae.report.numbers import plural
    from mpdvae.workflows.precision_choice import TIMING, by_worker, noted

    first = next(job for job in matrix if job.undecided)
    folder = first.folder.parent
    folder.mkdir(parents=True, exist_ok=True)
    with turn_lock(Inside(folder) / ".choice.lock"):
        matrix = _keeping(matrix)
        recipes: dict[str, Experiment] = {}
        for job in matrix:
            if job.undecided:
                known = recipes.setdefault(_step_of(job), job.experiment)
                recipes[_step_of(job)] = max(known, job.experiment, key=_mae_terms)
        if not recipes:
            return matrix
        with busy(f"{TIMING}, of {plural(len(recipes), 'network')}"):
            found = by_worker(list(recipes.values()), data_root, first.device, folder)
        choices = dict(zip(recipes, found, strict=True))
        for experiment, choice in zip(recipes.values(), found, strict=True):
            print_line(f"{experiment.name}: {choice.in_words()}")
        decided = []
        for job in matrix:
            if job.undecided:
                choice = choices[_step_of(job)]
                job = _in_precision(job, choice.precision, choice.compile)
                noted(Run.create(job.folder, job.experiment), choice)
            decided.append(job)
    return decided


def _step_of(job: Job) -> str:
    """Returns a key that is the same for all jobs whose training steps take the same time: seeds of a recipe, and recipes
    that differ only in the weights of MAE's two terms, which cost next to nothing beside the networks."""
    alike = dict.fromkeys(MAE_WEIGHTS, 0.0)
    return with_changes(job.experiment, name="", model="", reproduces="", seed=0, **alike).to_json()


def _mae_terms(experiment: Experiment) -> int:
    """Returns how many of MAE's terms the loss has: where recipes share a choice, that with most is timed."""
    return sum(getattr(experiment.objective, name.removeprefix("objective__")) > 0 for name in MAE_WEIGHTS)


def refuse_failures(failures: Sequence[Failure], of: int) -> None:
    """Raises `RunError`, naming the logs, if any of `of` jobs failed."""
    if failures:
        parts = [f"  {failure.job.name}: {failure.reason}" for failure in failures]
        raise RunError(f"{len(failures)} of {of} runs failed; run the same command again to retry them.", parts=parts)


def _rounds(
    to_do: Sequence[Job], matrix: Sequence[Job], data_root: Path | None, workers: int, watcher: Watcher
) -> list[Failure]:
    """Sends workers through the list until every job is finished or has failed `TRIES` times; returns the failures."""
    tries: Counter[str] = Counter()
    failed: dict[str, Failure] = {}
    while pending := [job for job in to_do if not job.finished and job.name not in failed]:
        if all(owner_of(job.folder) for job in pending):  # all owned by another call
            watcher.update(_share(matrix), _running(matrix))
            time.sleep(LOOK_SECONDS)
            continue
        before = {job.name: _Trace.of(job) for job in pending}
        _say_what_died(pending, watcher)
        broken = _run_in_processes(pending, matrix, data_root, min(workers, len(pending)), watcher)
        troubled = [job for job in pending if not job.finished and _Trace.of(job) != before[job.name]]
        for job in troubled:
            tries[job.name] += 1
            if tries[job.name] == TRIES:
                failed[job.name] = Failure(job, _reason(job, before[job.name]))
        if broken:
            if not troubled and not any(job.finished for job in pending):
                raise RunError(f"the workers ended before they finished a run ({broken}).", topic="workers")
            workers = max(1, workers // 2)
            watcher.say(
                f"a worker ended early ({broken}), perhaps out of memory; continuing with {workers} in parallel"
            )
    return list(failed.values())


def _run_in_processes(
    pending: Sequence[Job], matrix: Sequence[Job], data_root: Path | None, workers: int, watcher: Watcher
) -> str:
    """Sends `workers` through `pending` once. Returns why they ended early; empty if they did not."""
    over = threading.Event()
    looker = threading.Thread(target=_look_on, args=(pending, matrix, watcher, over), daemon=True)
    traces = [_Trace.of(job) for job in pending]
    looker.start()
    try:
        return worker_backends.work(
            _work, list(pending), traces, data_root, workers=workers, folder=pending[0].folder.parent
        )
    finally:
        over.set()
        looker.join()


def _work(jobs: list[Job], traces: list[_Trace], data_root: Path | None, session: Path, number: int) -> None:
    """In worker `number`: completes those `jobs` that are unfinished, unowned, and have not failed in this round."""
    for index, (job, trace) in enumerate(zip(jobs, traces, strict=True)):
        if owner_of(session) is None:
            return
        if not job.finished and _Trace.of(job).log == trace.log:
            _run_one(index, replace(job, device=gpu_assignment.of_worker(job.device, number)), data_root)


def _run_one(index: int, job: Job, data_root: Path | None) -> tuple[int, str]:
    """In a worker: completes one job unless another process owns it; returns its index and, if it failed, the reason.
    Raises `ToldToStop` if the worker was asked to stop."""
    import torch
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    log = job.files / FAILURE_LOG
    try:
        with owned(job.folder) as ownership, threadpool_limits(1), parallel_config("sequential"):
            try:
                data = on_device(load_data(job.experiment, data_root), job.device)
                complete(
                    Run(job.folder),
                    data,
                    job.command,
                    watch=lambda *_: ownership.confirm(),
                    track=job.track,
                    warn=lambda what: print(printable(f"{job.name}: {what}"), file=sys.stderr, flush=True),
                )
                log.unlink()
            except ToldToStop:
                raise  # not a failure: the run resumes where it stopped
            except Exception as error:
                now = datetime.now(UTC).isoformat(timespec="seconds")
                write_atomically(log, f"{now}, {ownership.owner}\n{traceback.format_exc()}")
                (job.files / PROGRESS).unlink()
                return index, f"{type(error).__name__}: {error} (log: {log})"
    except InUse:
        return index, ""
    return index, ""


def _say_what_died(pending: Sequence[Job], watcher: Watcher) -> None:
    for job in pending:
        if owner := left_by(job.folder):
            watcher.say(f"{job.name}: {owner}, which was working on it, is gone; resuming from its last checkpoint")


def _reason(job: Job, before: _Trace) -> str:
    """Returns why a job failed at the last attempt."""
    log = job.files / FAILURE_LOG
    if _Trace.of(job).log == before.log:
        return f"its worker was killed {TRIES} times, perhaps out of memory; fewer --jobs need less memory"
    return f"{why(read_bytes(log, LARGEST_JSON).decode(errors='replace'))} (log: {log})"


def _look_on(pending: Sequence[Job], matrix: Sequence[Job], watcher: Watcher, over: threading.Event) -> None:
    """Shows progress, and reports each finished job once, until `over` is set."""
    unfinished, last = list(pending), False
    while not last:
        last = over.wait(LOOK_SECONDS)
        for job in [job for job in unfinished if job.finished]:
            unfinished.remove(job)
            watcher.say(f"finished {job.name}")
        watcher.update(_share(matrix), _running(matrix))


def _running(matrix: Sequence[Job]) -> dict[str, RunProgress]:
    running = {}
    for job in matrix:
        path = job.files / PROGRESS
        try:
            noted = check(ProgressNote, read_json(path), str(path), "it will be rewritten")
        except InputError:
            continue  # not started, or just finished
        running[job.name] = RunProgress(noted["phase"], noted["step"], job.experiment.training.steps, noted["latest"])
    return running


def _share(matrix: Sequence[Job]) -> float:
    """Returns the fraction of the matrix's cost that is done, in [0, 1]."""
    running = _running(matrix)
    done = 0.0
    for job in matrix:
        if job.finished:
            done += job.cost
        elif job.name in running:
            done += job.cost * TRAINING_SHARE * running[job.name].step / job.experiment.training.steps
    return done / sum(job.cost for job in matrix)
