"""Compares a run with its repetition, trained from the same configuration.

A run is a pure function of its configuration, so in the same environment history, weights and results are equal byte for
byte. In another environment they drift apart from the first differing digit on: `compare` names the step and the number
where that begins, and requires the results to agree within a tolerance.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mpdvae.data import Splits
from mpdvae.errors import InputError
from mpdvae.runs import environment
from mpdvae.runs.checksums import sha256_of
from mpdvae.runs.model_folder import load
from mpdvae.runs.run_folder import Run
from mpdvae.workflows.job import note_environment
from mpdvae.workflows.result_comparison import Compared, Pair
from mpdvae.workflows.result_comparison import compare as compare_files
from mpdvae.workflows.verification import compare_results, measurements

HISTORY, WEIGHTS = "history.jsonl", "model/model.safetensors"


@dataclass(frozen=True)
class Repetition:
    """Two runs of one experiment."""

    compared: list[Compared]
    """History, weights and results."""
    weights: str
    """The difference of the weights, as a sentence."""
    environments: list[str]
    """Fields in which the environments of training or evaluation differ."""
    exact: bool
    """Whether both were made in the same environment, as far as that was recorded."""
    allowed: float
    """Tolerance for the results unless `exact`."""

    @property
    def tolerance(self) -> float:
        return 0.0 if self.exact else self.allowed

    @property
    def faults(self) -> list[str]:
        return [file.name for file in self.compared if not file.agrees(self.tolerance)]

    @property
    def agrees(self) -> bool:
        return not self.faults

    @property
    def first_difference(self) -> Pair | None:
        """The first number of the history that differs, or None."""
        history = next(file for file in self.compared if file.name == HISTORY)
        return next(iter(history.differing()), None)

    @property
    def sentences(self) -> list[str]:
        """Summary of the comparison, besides the numbers."""
        first = self.first_difference
        history = "The histories are equal, byte for byte."
        if first is not None:
            difference = "" if first.difference is None else f", a difference of {first.difference:+.3g}"
            history = f"The histories first differ at {first.name}: {first.one} and {first.other}{difference}."
        places = f"The environments differ in {', '.join(self.environments)}." if self.environments else ""
        unknown = "" if self.exact or places else "The environment of the first run was not recorded in full."
        return [sentence for sentence in (history, self.weights, places, unknown) if sentence]


def original(folder: Path, out: Path) -> Run:
    """Returns the run to repeat. Raises `InputError` if it cannot be repeated, or `out` is its own folder."""
    run = Run(folder)
    if "imported" in run.manifest:
        raise InputError(
            f"{folder}: was imported and not trained here; use `mpdvae verify` to measure it again.",
            topic="not-finished",
        )
    if run.status != "finished":
        raise InputError(
            f"{folder}: this run is not finished; `mpdvae resume {folder}` resumes it.", topic="not-finished"
        )
    if out.resolve() == folder.resolve():
        raise InputError(f"--out: expected a folder other than that of the run, got {out}.", topic="taken")
    return run


def begin(run: Run, out: Path) -> Run:
    """Returns the second run, in a new folder or as it was left."""
    return Run.create(out, run.experiment)


def threads_of(run: Run) -> int | None:
    """Returns the number of threads that `run` was trained with; None if it was not recorded."""
    fields = environment.recorded(run.manifest, environment.TRAINING)
    return environment.threads_of(fields[-1]) if fields else None


def measure_alike(one: Run, other: Run, data: Splits, say: Callable[[str], None]) -> None:
    """Repeats on `other` each measurement of `one` that it lacks, with the same options."""
    from mpdvae.evaluation.run_evaluation import evaluate

    done = measurements(other.path)
    for arguments in measurements(one.path):
        if arguments not in done:
            note_environment(other, data, environment.EVALUATION, other.experiment.training.steps)
            evaluate(other, data, say=say, **arguments)


def compare(one: Run, other: Run, tolerance: float) -> Repetition:
    """Compares two runs number by number.

    Arguments:
        tolerance: difference allowed if the environments differ or were not recorded; see `result_comparison`.
    """
    environments, exact = _environments(one, other)
    files = [compare_files(name, one.path, other.path) for name in (HISTORY, WEIGHTS)]
    return Repetition(
        compared=[*files, *compare_results(one.path, other.path)],
        weights=_weights(one, other),
        environments=environments,
        exact=exact,
        allowed=tolerance,
    )


def _environments(one: Run, other: Run) -> tuple[list[str], bool]:
    differing: list[str] = []
    exact = True
    for stage in (environment.TRAINING, environment.EVALUATION):
        for a in environment.recorded(one.manifest, stage) or [{}]:
            for b in environment.recorded(other.manifest, stage) or [{}]:
                differing += environment.differing(a, b)
                exact = exact and environment.same(a, b)
    return list(dict.fromkeys(differing)), exact


def _weights(one: Run, other: Run) -> str:
    """Describes in a sentence how far apart the averaged weights are."""
    if sha256_of(one.folder / WEIGHTS) == sha256_of(other.folder / WEIGHTS):
        return "The weights are equal, byte for byte."
    ours, theirs = load(one.path).state_dict(), load(other.path).state_dict()
    apart = {name: (tensor.double() - theirs[name].double()).abs().max().item() for name, tensor in ours.items()}
    name = max(apart, key=lambda name: apart[name])
    count = sum(distance > 0 for distance in apart.values())
    return f"{count} of {len(apart)} weight tensors differ, {name} the most, by up to {apart[name]:.3g}."
