"""The precision of a matrix's jobs, with precision auto: training steps of each network are timed once, in a worker, before
its runs begin. Seeds, and recipes that differ in the weights of MAE's terms alone, share the choice. Folders that exist keep
theirs.
"""

from collections.abc import Sequence
from pathlib import Path

from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.report.numbers import plural
from mpdvae.runs.run_folder import Run
from mpdvae.system.closed_folder import Inside
from mpdvae.system.turn_lock import turn_lock
from mpdvae.training.fastest_step import kept_in
from mpdvae.workflows.matrix_jobs import Job, in_precision
from mpdvae.workflows.precision_choice import TIMING, by_worker, noted
from mpdvae.workflows.progress_display import busy, print_line

MAE_WEIGHTS = ("objective__diversity_weight", "objective__smoothness_weight")


def keeping(matrix: Sequence[Job]) -> list[Job]:
    """Returns the matrix, in which undecided jobs whose folder exists have its precision."""
    return [
        in_precision(job, kept.training.precision, kept.training.compile)
        if job.undecided and (kept := kept_in(job.folder, job.experiment))
        else job
        for job in matrix
    ]


def decided(matrix: Sequence[Job], data_root: Path | None) -> list[Job]:
    """Chooses the precision of each undecided job by timing each recipe once, and creates the folders.

    Another call of the same matrix waits meanwhile, and then finds the folders.
    """
    first = next(job for job in matrix if job.undecided)
    folder = first.folder.parent
    folder.mkdir(parents=True, exist_ok=True)
    with turn_lock(Inside(folder) / ".choice.lock"):
        matrix = keeping(matrix)
        recipes: dict[str, Experiment] = {}
        for job in matrix:
            if job.undecided:
                known = recipes.setdefault(step_of(job), job.experiment)
                recipes[step_of(job)] = max(known, job.experiment, key=mae_terms)
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
                choice = choices[step_of(job)]
                job = in_precision(job, choice.precision, choice.compile)
                noted(Run.create(job.folder, job.experiment), choice)
            decided.append(job)
    return decided


def step_of(job: Job) -> str:
    """Returns a key that is the same for all jobs whose training steps take the same time: seeds of a recipe, and recipes
    that differ only in the weights of MAE's two terms, which cost next to nothing beside the networks."""
    alike = dict.fromkeys(MAE_WEIGHTS, 0.0)
    return with_changes(job.experiment, name="", model="", reproduces="", seed=0, **alike).to_json()


def mae_terms(experiment: Experiment) -> int:
    """Returns how many of MAE's terms the loss has: where recipes share a choice, that with most is timed."""
    return sum(getattr(experiment.objective, name.removeprefix("objective__")) > 0 for name in MAE_WEIGHTS)
