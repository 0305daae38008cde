"""The matrix of runs behind the report: models x data sets x seeds, as jobs of one training thread each.

Seed k is the same order of images, binarisation and noise for every model, so that models are compared seed by seed.
Jobs are idempotent: a run folder that is finished is used as it is, one that was interrupted goes on from its checkpoint.
joblib starts the jobs, as many at a time as there are cores.
"""

import os
import shlex
import threading
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mpdvae.console import RunProgress, Watcher
from mpdvae.errors import InputError, RunError
from mpdvae.experiment import Experiment, with_changes
from mpdvae.jobs import complete, load_data
from mpdvae.records import ProgressNote, check
from mpdvae.runs import Run, read_json, write_atomically

LOOK_SECONDS = 0.5
INDEPENDENT_PIXELS_COST = 0.3
"""Cost of a run without a PixelCNN, relative to one with; for the ETA."""
TRAINING_SHARE = 0.75
"""Share of a run's time that is training; for the ETA."""


@dataclass(frozen=True)
class Job:
    """One run of the matrix."""

    experiment: Experiment
    folder: Path
    command: str
    """That makes this run again, alone."""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def cost(self) -> float:
        return 1.0 if self.experiment.decoder.kind == "pixelcnn" else INDEPENDENT_PIXELS_COST

    @property
    def finished(self) -> bool:
        return (self.folder / "experiment.json").exists() and Run(self.folder).status == "finished"


def jobs(experiments: Sequence[Experiment], seeds: int, out: Path) -> list[Job]:
    """The matrix: every experiment with seeds 0 .. seeds-1, in folders under `out`/runs. Seeds vary slowest, so that an
    interrupted matrix has whole seeds."""
    if seeds < 1:
        raise InputError(f"--seeds: expected a number >= 1, got {seeds}.")
    made = []
    for seed in range(seeds):
        for experiment in experiments:
            folder = out / "runs" / f"{experiment.name}-seed{seed}"
            command = ["mpdvae", "train", experiment.name, "--seed", str(seed), "--threads", "1", "--out", str(folder)]
            made.append(Job(with_changes(experiment, seed=seed), folder, shlex.join(command)))
    return made


def run_all(matrix: Sequence[Job], data_root: Path | None, workers: int | None = None) -> None:
    """Brings every job of the matrix to its end, showing progress.

    Raises:
        InputError: a folder holds another run; nothing is started then.
        RunError: some jobs failed; the others are finished and the message names the logs.
    """
    if workers is not None and workers < 1:
        raise InputError(f"--jobs: expected a number >= 1, got {workers}.")
    for job in matrix:
        Run.create(job.folder, job.experiment)
    to_do = [job for job in matrix if not job.finished]
    if not to_do:
        return
    for experiment in {job.experiment.data.model_dump_json(): job.experiment for job in to_do}.values():
        load_data(experiment, data_root)  # once, before many processes ask for the same files
    workers = min(workers or os.cpu_count() or 1, len(to_do))
    title = f"{len(to_do)} of {len(matrix)} runs to do, {workers} at a time"
    with Watcher(title, _share(matrix)) as watcher:
        failed = _run_in_processes(to_do, matrix, data_root, workers, watcher)
    if failed:
        names = "\n".join(f"  {job.name}: {reason}" for job, reason in failed)
        raise RunError(f"{len(failed)} of {len(to_do)} runs failed; the same command goes on with them.\n{names}")


def _run_in_processes(
    to_do: Sequence[Job], matrix: Sequence[Job], data_root: Path | None, workers: int, watcher: Watcher
) -> list[tuple[Job, str]]:
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    over = threading.Event()
    looker = threading.Thread(target=_look_on, args=(matrix, watcher, over), daemon=True)
    looker.start()
    failed = []
    try:
        with parallel_config(backend="loky", inner_max_num_threads=1):
            calls = (delayed(_run_one)(index, job, data_root, Path.cwd()) for index, job in enumerate(to_do))
            results = Parallel(n_jobs=workers, return_as="generator_unordered")(calls)
            for index, reason in cast(Iterable[tuple[int, str]], results):
                if reason:
                    failed.append((to_do[index], reason))
                else:
                    watcher.say(f"finished {to_do[index].name}")
    except TerminatedWorkerError:
        raise RunError(
            "a worker process was killed, out of memory perhaps; the same command with fewer --jobs goes on."
        ) from None
    except KeyboardInterrupt:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=False, kill_workers=True)
        raise
    finally:
        over.set()
        looker.join()
    return failed


def _run_one(index: int, job: Job, data_root: Path | None, folder: Path = Path()) -> tuple[int, str]:
    """In a worker: brings one job to its end; returns its index and, if it failed, why."""
    import torch

    os.chdir(folder)  # a worker that served an earlier matrix may be elsewhere, and paths can be relative
    torch.set_num_threads(1)
    try:
        complete(Run(job.folder), load_data(job.experiment, data_root), job.command)
    except Exception as error:
        log = job.folder / "error.log"
        write_atomically(log, traceback.format_exc())
        (job.folder / "progress.json").unlink(missing_ok=True)
        return index, f"{type(error).__name__}: {error} (log: {log})"
    return index, ""


def _look_on(matrix: Sequence[Job], watcher: Watcher, over: threading.Event) -> None:
    while not over.wait(LOOK_SECONDS):
        watcher.update(_share(matrix), _running(matrix))


def _running(matrix: Sequence[Job]) -> dict[str, RunProgress]:
    running = {}
    for job in matrix:
        path = job.folder / "progress.json"
        try:
            noted = check(ProgressNote, read_json(path), str(path), "it is written anew")
        except InputError:
            continue  # not started, or just finished
        running[job.name] = RunProgress(noted["phase"], noted["step"], job.experiment.training.steps, noted["latest"])
    return running


def _share(matrix: Sequence[Job]) -> float:
    """How much of the matrix's cost is behind, in [0, 1]."""
    running = _running(matrix)
    done = 0.0
    for job in matrix:
        if job.finished:
            done += job.cost
        elif job.name in running:
            done += job.cost * TRAINING_SHARE * running[job.name].step / job.experiment.training.steps
    return done / sum(job.cost for job in matrix)
