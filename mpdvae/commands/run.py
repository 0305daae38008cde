"""Commands on one run: train, resume, evaluate, import."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from mpdvae.commands.kind_options import with_kinds
from mpdvae.commands.options import Track, parse, validated
from mpdvae.errors import InputError, RunError
from mpdvae.experiments.experiment import Experiment, from_json
from mpdvae.runs.trackers import check_installed
from mpdvae.system.devices import AUTO, device_for
from mpdvae.system.process_group import after_first, check_processes, cores, is_first, own_device
from mpdvae.system.untrusted_files import LARGEST_JSON, read_bytes
from mpdvae.system.untrusted_text import tell

if TYPE_CHECKING:
    from mpdvae.data import Splits
    from mpdvae.runs.run_folder import Run
    from mpdvae.training.fastest_step import Choice


def train(arguments: Sequence[str]) -> None:
    """Train a recipe, or an experiment.json, with any field changed.

    mpdvae train RECIPE --out DIR [--FIELD VALUE ...]

    `mpdvae recipes` lists recipes; `mpdvae train RECIPE --help` lists the common fields.
    `mpdvae train RECIPE --help-all` lists all of them."""
    if not arguments or arguments[0].startswith("-"):
        if {"-h", "--help"} & set(arguments):
            tell(*(inspect.getdoc(train) or "").split("\n"))
            return
        raise InputError("train: expected the name of a recipe first; `mpdvae recipes` lists them.", topic="options")
    name, *rest = arguments
    experiment = with_kinds(experiment_called(name), rest)

    def collect(
        out: Path,
        experiment: Annotated[Experiment, tyro.conf.arg(name="")] = experiment,
        threads: int | None = None,
        data_dir: Path | None = None,
        device: str = AUTO,
        processes: int | None = None,
        track: Track = (),
    ) -> tuple[Path, Experiment, int | None, Path | None, str | None, int | None, Track]:
        """Returns the values of the options.

        Args:
            out: Folder of the run. It must be new, or contain this same run, which is then resumed.
            experiment: Each of its fields is an option.
            threads: Threads per training step. Default: all cores. The last digits of results depend on this number.
            data_dir: Folder of the data. Default: $MPDVAE_DATA, else the user's cache folder.
            device: auto, cpu, cuda, cuda:1, mps, ... auto: a GPU if there is one. Results depend on the device.
            processes: Number of processes on this machine that share each batch. Default: 1.
                Each has its own GPU, or its share of the cores.
            track: Experiment tracker that also receives the history; can be given several times.
        """
        return out, experiment, threads, data_dir, device, processes, track

    out, given, threads, data_dir, device, processes, track = parse(
        collect, rest, f"mpdvae train {name}", experiment.reproduces
    )
    experiment = validated(given)
    device = device_for(device)
    _check_threads(threads)
    check_processes(processes)
    check_installed(track)
    choice = None
    if experiment.training.precision == "auto":
        experiment, choice = _decided(out, experiment, threads, data_dir, device)
    _complete(
        after_first(lambda: _make_run(out, experiment, data_dir, device, choice)), threads, data_dir, device, track
    )


def resume(
    directory: Positional[Path],
    threads: int | None = None,
    data_dir: Path | None = None,
    device: str = AUTO,
    processes: int | None = None,
    track: Track = (),
) -> None:
    """Resume a run where it stopped.

    Args:
        directory: Folder of the run.
        threads: Threads per training step. Default: all cores.
        data_dir: Folder of the data; for your own images that have moved: their new location.
        device: auto, cpu, cuda, mps, ... auto: the kind that the run was made on, if it is here.
        processes: Number of processes that share each batch; may differ from before. Default: 1.
        track: Additional experiment tracker that receives the history; the run's trackers continue anyway.
    """
    from mpdvae.runs.observer import run_in
    from mpdvae.workflows.job import made_on

    check_processes(processes)
    check_installed(track)
    run = run_in(directory)
    if run.status == "finished":
        run.tidy()
        tell(f"{directory}: this run is already finished; its results are in the folder.")
        return
    _complete(run, threads, data_dir, device_for(device, made_on(directory)), track)


def evaluate(
    directory: Positional[Path],
    samples: int | None = None,
    split: str = "test",
    images: int | None = None,
    tolerance: float | None = None,
    protocol: Literal["paper"] | None = None,
    referee: int | None = None,
    referee_steps: int | None = None,
    compiled: bool = False,
    precision: Literal["float32", "bfloat16", "auto"] | None = None,
    proposal: Literal["fitted", "encoder"] | None = None,
    data_dir: Path | None = None,
    device: str = AUTO,
    processes: int | None = None,
) -> None:
    """Measure a trained run again; write the results as JSON to its folder.

    If it is killed, run the same command again to resume.

    Args:
        directory: Folder of the run.
        samples: Importance samples per image. Default: as in the run's experiment; up to 4,096 with --tolerance.
        split: train, validation or test. Results on splits other than test get their own files (density-train.json).
        images: Number of random images for the likelihoods. Default: as in the run's experiment.
        tolerance: Sample each image until the Monte-Carlo error of its log-likelihood is below this, in nats.
            Sampling stops after --samples at the latest.
        protocol: paper: all images, five binary draws of each and 4,096 samples (512 for colour).
        referee: Check the likelihood of this many images by annealed importance sampling.
            As many simulated images are checked as well.
        referee_steps: Annealing steps; more steps narrow the gap between the bounds. Default: 100.
        compiled: Compile the networks first; faster from a few thousand samples on.
        precision: Precision of the decoder in the likelihoods. Default: as in the run's experiment.
            auto: bfloat16 if its error is below a tenth of the Monte-Carlo error, and faster; compiles if that pays.
        proposal: Where importance samples come from. fitted: a proposal that is fitted to each image, for the cost of
            128 samples. encoder: q(z|x), as in the paper. Default: as in the run's experiment, or the protocol.
        data_dir: Folder of the data; for your own images that have moved: their new location.
        device: auto, cpu, cuda, mps, ... auto: the kind that the run was made on, if it is here.
        processes: Number of processes that share the likelihoods. Default: 1.
    """
    from mpdvae.evaluation.run_evaluation import evaluate
    from mpdvae.evaluation.run_likelihood import precision_in_words, unsettled_in_words
    from mpdvae.runs.environment import EVALUATION
    from mpdvae.runs.observer import owned_by_first, run_in
    from mpdvae.system.atomic_files import read_json
    from mpdvae.workflows.job import data_of, describe_run, made_on, note_environment, on_device, this_command
    from mpdvae.workflows.progress_display import Watcher

    check_processes(processes)
    run = run_in(directory)
    if run.status not in {"trained", "finished"}:
        raise InputError(
            f"{directory}: expected a fully trained run, got one with status {run.status}; "
            f"`mpdvae resume {directory}` resumes it.",
            topic="not-finished",
        )
    data = on_device(data_of(run, data_dir), own_device(device_for(device, made_on(directory))))
    data.part(split)  # refuses an unknown one before anything is said
    with Watcher(f"measuring {directory} on the {split} images") as watcher, owned_by_first(directory, watcher.say):
        describe_run(run, data, this_command())
        note_environment(run, data, EVALUATION, run.experiment.training.steps)
        evaluate(
            run,
            data,
            samples,
            split,
            images=images,
            tolerance=tolerance,
            protocol=protocol,
            referee_images=referee,
            referee_steps=referee_steps,
            compiled=compiled,
            precision=precision,
            proposal=proposal,
            say=lambda what: watcher.say(f"measuring: {what}"),
            watch=watcher.watch,
        )
    if not is_first():
        return
    name = "density.json" if split == "test" else f"density-{split}.json"
    found = read_json(run.folder / name)
    for line in filter(None, (unsettled_in_words(found), precision_in_words(found))):
        tell(line)
    if split == "test":
        _print_results([directory])
    else:
        tell(f"results: {directory}/*-{split}.json")


def import_official(config: Positional[Path], state: Positional[Path], out: Path, dataset: str | None = None) -> None:
    """Create a run folder from a model trained with the authors' released code.

    Args:
        config: JSON file of the released code that describes the model.
        state: Weights of the model, saved by torch.save or as .safetensors.
            Only tensors are read: a file that contains anything else is rejected.
        out: Folder of the run. It must be new.
        dataset: Data set that the model was trained on. Default: mnist, or cifar10 for colour.
    """
    from mpdvae.sharing.released_import import import_run
    from mpdvae.workflows.job import this_command
    from mpdvae.workflows.progress_display import busy

    with busy(f"importing {state}"):
        import_run(config, state, out, this_command(), dataset)
    tell(f"run folder: {out}")
    tell(f"`mpdvae evaluate {out}` measures it.")


def experiment_called(name: str) -> Experiment:
    """Returns the recipe called `name`, or the experiment in the file of that name."""
    from mpdvae.experiments.recipes import recipe

    path = Path(name)
    if path.suffix == ".json":
        if not path.is_file():
            raise InputError(f"{name}: no such file; expected a recipe's name or an experiment.json.", topic="options")
        return from_json(read_bytes(path, LARGEST_JSON), name)
    return recipe(name)


def _check_threads(threads: int | None) -> None:
    from mpdvae.runs.environment import most_threads

    if threads is not None and not 1 <= threads <= most_threads():
        raise InputError(f"--threads: expected a number from 1 to {most_threads()}, got {threads}.")


def _decided(
    out: Path, experiment: Experiment, threads: int | None, data_dir: Path | None, device: str | None
) -> "tuple[Experiment, Choice | None]":
    """Returns `experiment` with its precision chosen, for training in `out` as `_complete` does it, and what was
    measured."""
    import torch

    from mpdvae.workflows.job import check_device, check_fit, load_data, on_device
    from mpdvae.workflows.precision_choice import decided
    from mpdvae.workflows.progress_display import busy

    def load() -> "Splits":
        check_device(own_device(device))
        data = after_first(lambda: load_data(experiment, data_dir))
        check_fit(experiment, data)
        torch.set_num_threads(threads or cores())
        return on_device(data, own_device(device))

    return decided(out, experiment, load, tell, busy)


def _make_run(
    out: Path, experiment: Experiment, data_dir: Path | None, device: str | None, choice: "Choice | None" = None
) -> "Run":
    """Creates a folder for `experiment`, after checking that it can be trained on this machine."""
    from mpdvae.runs.observer import owned_by_first, run_in
    from mpdvae.runs.run_folder import Run
    from mpdvae.workflows.job import check_device, check_fit, load_data
    from mpdvae.workflows.precision_choice import noted

    Run.check_free(out, experiment)
    check_device(own_device(device))
    check_fit(experiment, load_data(experiment, data_dir))
    Run.create(out, experiment)
    if choice is None:
        return run_in(out)
    with owned_by_first(out, tell):  # another process that was started in this moment may be at work already
        return noted(run_in(out), choice)


def _complete(
    run: "Run", threads: int | None, data_dir: Path | None, device: str | None = None, track: Track = ()
) -> None:
    import torch

    from mpdvae.runs.observer import owned_by_first
    from mpdvae.workflows.job import complete, data_of, how_to_resume, on_device, this_command
    from mpdvae.workflows.progress_display import Watcher

    _check_threads(threads)
    torch.set_num_threads(threads or cores())
    steps, latest = run.experiment.training.steps, (run.history or [None])[-1]
    data = on_device(data_of(run, data_dir), own_device(device))
    if data.reading and is_first():
        tell(f"{run.experiment.data.path}: {data.reading}")
    title, share = f"{run.experiment.name}, seed {run.experiment.seed}", (latest or {"step": 0})["step"] / steps
    with Watcher(title, share) as watcher, owned_by_first(run.path, watcher.say) as confirm:
        follow = watcher.following(run.path.name, steps, latest)

        def watch(done: int, entry: dict | None) -> None:
            confirm()
            follow(done, entry)

        try:
            complete(
                run,
                data,
                this_command(),
                say=lambda what: watcher.say(f"measuring: {what}"),
                watch=watch,
                watch_likelihoods=watcher.watch,
                track=track,
                warn=watcher.say,
            )
        except KeyboardInterrupt:
            raise RunError(f"interrupted; `{how_to_resume(run, data)}` resumes from the last checkpoint.") from None
    if not is_first():
        return
    _print_results([run.path])
    tell(f"run folder: {run.path}")


def _print_results(folders: list[Path]) -> None:
    from mpdvae.report import collect
    from mpdvae.report.tables import console_table
    from mpdvae.workflows.progress_display import columns

    for study in collect(folders).studies:
        tell(*console_table(study, columns()).split("\n"))
