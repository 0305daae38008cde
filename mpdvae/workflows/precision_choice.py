"""Decides `training.precision` auto before a run starts: for one run in this process, for a matrix or a search in one of its
workers, with the worker's single thread and its device.

A run folder keeps its choice: if there is one, nothing is timed. What decides is `mpdvae.training.fastest_step`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from mpdvae.data import Splits
from mpdvae.errors import RunError
from mpdvae.experiments.experiment import Experiment
from mpdvae.runs.run_folder import Run
from mpdvae.system.atomic_files import read_json, write_json
from mpdvae.system.folder_lock import owner_of
from mpdvae.system.process_group import is_first, of_first
from mpdvae.training.fastest_step import VARIANTS, Choice, Variant, fastest, is_undecided, kept_in, with_variant
from mpdvae.workflows import gpu_assignment, worker_backends
from mpdvae.workflows.job import load_data, on_device

TIMING = "timing training steps in both precisions"
"""What is shown meanwhile."""


def decided(
    folder: Path,
    experiment: Experiment,
    load: Callable[[], Splits],
    say: Callable[[str], None] = lambda line: None,
    while_timing: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> tuple[Experiment, Choice | None]:
    """Returns `experiment` with its precision chosen: as in `folder`, if that holds a run, else by timing steps here. With
    it, returns what was measured; None if nothing was.

    All processes of a group call it together and return the choice of the first.

    Arguments:
        load: returns the data, on the device for training; called only if steps are timed.
        say: called with a line about what was measured.
        while_timing: context around the timing, given a description of it.

    Raises:
        InputError: if `folder` holds something else.
        RunError: if a training step needs more memory than is available.
    """
    if not is_undecided(experiment):
        return experiment, None
    kept = kept_in(folder, experiment) if is_first() else None
    if is_first():
        Run.check_free(folder, kept or experiment)
    number = int(of_first(-1.0 if kept is None else float(VARIANTS.index(_variant_of(kept)))))
    if number >= 0:
        return with_variant(experiment, VARIANTS[number]), None
    data = load()
    with while_timing(TIMING):
        choice = fastest(experiment, data)
    say(choice.in_words())
    return with_variant(experiment, choice), choice


def noted(run: Run, choice: Choice | None) -> Run:
    """Returns `run`, with what was measured in its manifest."""
    if choice is not None:
        run.note(fastest_step=asdict(choice))
    return run


def by_worker(
    experiments: Sequence[Experiment],
    data_root: Path | None,
    device: str | None,
    folder: Path,
    variants: Sequence[Variant] = VARIANTS,
) -> list[Choice]:
    """Returns the choice for each of `experiments`, timed in one worker of the current backend, one after the other.

    Arguments:
        device: as for the runs.
        folder: existing folder that workers share.
        variants: variants that may be taken.

    Raises:
        RunError: if the worker fails.
    """
    with TemporaryDirectory(prefix=".choice-", dir=folder) as made:
        results = Path(made).absolute()
        broken = worker_backends.work(
            _choose, list(experiments), data_root, device, tuple(variants), results, workers=1, folder=folder
        )
        files = [results / f"{index}.json" for index in range(len(experiments))]
        if broken or not all(file.exists() for file in files):
            reason = f" ({broken})" if broken else ""
            raise RunError(
                f"precision auto: expected training steps that can be timed, but a worker ended{reason}; choose float32 or "
                "bfloat16, or run the same command again.",
                topic="workers",
            )
        return [Choice(**read_json(file)) for file in files]


def _choose(
    experiments: list[Experiment],
    data_root: Path | None,
    device: str | None,
    variants: tuple[Variant, ...],
    results: Path,
    session: Path,
    number: int,
) -> None:
    """In worker `number`: writes the choice for each of `experiments` to `results`."""
    import torch
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1), parallel_config("sequential"):
            for index, experiment in enumerate(experiments):
                if owner_of(session) is None:
                    return
                data = on_device(load_data(experiment, data_root), gpu_assignment.of_worker(device, number))
                write_json(results / f"{index}.json", asdict(fastest(experiment, data, variants)))
    finally:
        torch.set_num_threads(threads)


def _variant_of(experiment: Experiment) -> Variant:
    training = experiment.training
    return next(v for v in VARIANTS if (v.precision, v.compile) == (training.precision, training.compile))
