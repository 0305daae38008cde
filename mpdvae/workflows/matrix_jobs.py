"""The jobs of a matrix: models x data sets x seeds, each with its experiment, its folder and the command that makes it alone.

Seed k gives every model the same order of images, binarisation and noise.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.experiments.recipes import seed_counts
from mpdvae.experiments.remedies import as_options
from mpdvae.runs.run_folder import Run
from mpdvae.system.closed_folder import Inside

INDEPENDENT_PIXELS_COST = 0.3
"""Cost of a run without a PixelCNN relative to a run with one; for the ETA."""


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
            made.append(job if precision is None else in_precision(job, precision))
    return made


def in_precision(job: Job, precision: str, compiled: bool | None = None) -> Job:
    """Returns `job` in the given precision, compiled or not; None: as in its experiment."""
    compiled = job.experiment.training.compile if compiled is None else compiled
    changes = {"training__precision": precision, "training__compile": compiled}
    decided = "" if precision == "auto" else f" {shlex.join(as_options(changes))}"
    return replace(job, experiment=with_changes(job.experiment, **changes), command=job.command + decided)
