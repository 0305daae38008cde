"""Runs the matrix behind the report (`matrix_jobs`), with one training thread per job.

Jobs are idempotent: finished run folders are used as they are, interrupted ones resume from their checkpoint.

Workers are started by a backend (`mpdvae.workflows.worker_backends`) and get the whole list of jobs. Each goes through the
list and does the work that is left: it claims the folder of a run (`mpdvae.system.folder_lock`), completes the run, and
takes the next. Several calls of one matrix, on one machine or on several that share the folder, therefore share the work,
and none repeats the work of another. Progress and failures are read from the folders, however the workers were started.

A job that fails, or whose worker dies, is retried once after the others are done; then it counts as failed.
"""

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
from mpdvae.runs.records import ProgressNote, check
from mpdvae.runs.run_folder import FAILURE_LOG, PROGRESS, Run
from mpdvae.system.atomic_files import read_json, write_atomically
from mpdvae.system.folder_lock import InUse, left_by, owned, owner_of
from mpdvae.system.untrusted_files import LARGEST_JSON, read_bytes
from mpdvae.workflows import gpu_assignment, worker_backends
from mpdvae.workflows.job import check_device, complete, load_data, on_device
from mpdvae.workflows.matrix_jobs import Job
from mpdvae.workflows.matrix_precision import decided, keeping
from mpdvae.workflows.progress_display import RunProgress, Watcher

LOOK_SECONDS = 0.5
"""Seconds between two looks at the run folders."""
TRAINING_SHARE = 0.75
"""Fraction of a run's time that is spent on training; for the ETA."""
TRIES = 2
"""Number of attempts at a job before it counts as failed."""


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
    matrix = keeping(matrix)
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
            matrix = decided(matrix, data_root)
            to_do = [job for job in matrix if not job.finished]
        title = f"{len(to_do)} of {len(matrix)} runs to do, {min(count, len(to_do))} in parallel"
        with Watcher(title, _share(matrix)) as watcher:
            return _rounds(to_do, matrix, data_root, min(count, len(to_do)), watcher)


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
