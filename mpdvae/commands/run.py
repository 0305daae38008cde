"""Commands on one run: train it, go on with it, measure it, import it."""

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
from mpdvae.system.process_group import after_first, check_processes, cores, is_first, own_device
from mpdvae.system.untrusted_files import LARGEST_JSON, read_bytes

if TYPE_CHECKING:
    from mpdvae.runs.run_folder import Run


def train(arguments: Sequence[str]) -> None:
    """Train a recipe, or an experiment.json, with any field changed.

    mpdvae train RECIPE --out DIR [--FIELD VALUE ...]

    `mpdvae recipes` lists recipes; `mpdvae train RECIPE --help` lists the fields."""
    if not arguments or arguments[0].startswith("-"):
        if {"-h", "--help"} & set(arguments):
            print(inspect.getdoc(train))
            return
        raise InputError("train: expected the name of a recipe first; `mpdvae recipes` lists them.", topic="options")
    name, *rest = arguments
    experiment = with_kinds(experiment_called(name), rest)

    def collect(
        out: Path,
        experiment: Annotated[Experiment, tyro.conf.arg(name="")] = experiment,
        threads: int | None = None,
        data_dir: Path | None = None,
        device: str | None = None,
        processes: int | None = None,
        track: Track = (),
    ) -> tuple[Path, Experiment, int | None, Path | None, str | None, int | None, Track]:
        """What the options say.

        Args:
            out: folder of the run; it must be new, or hold this very run, which then goes on.
            experiment: every field of it is an option.
            threads: threads of a training step; default: all cores. The last digits of results depend on it.
            data_dir: folder of the data; default: $MPDVAE_DATA, else the user's cache folder.
            device: cpu, cuda, cuda:1, ...; default: cpu. Results depend on it.
            processes: share each batch among so many processes of this machine, each with a GPU of its own or its part of the
                cores; default: 1.
            track: tell the history to a tracker too; can be given several times.
        """
        return out, experiment, threads, data_dir, device, processes, track

    out, given, threads, data_dir, device, processes, track = parse(
        collect, rest, f"mpdvae train {name}", experiment.reproduces
    )
    experiment = validated(given)
    _check_threads(threads)
    check_processes(processes)
    check_installed(track)
    _complete(after_first(lambda: _make_run(out, experiment, data_dir, device)), threads, data_dir, device, track)


def resume(
    directory: Positional[Path],
    threads: int | None = None,
    data_dir: Path | None = None,
    device: str | None = None,
    processes: int | None = None,
    track: Track = (),
) -> None:
    """Go on with a run where it stopped.

    Args:
        directory: folder of the run.
        threads: threads of a training step; default: all cores.
        data_dir: folder of the data; of own images that have moved: their new place.
        device: cpu, cuda, ...; default: cpu.
        processes: share each batch among so many processes, whatever their number was before; default: 1.
        track: tell the history to a tracker too; those that the run had go on by themselves.
    """
    from mpdvae.runs.observer import run_in

    check_processes(processes)
    check_installed(track)
    run = run_in(directory)
    if run.status == "finished":
        run.tidy()
        print(f"{directory}: this run is finished; its results are there.")
        return
    _complete(run, threads, data_dir, device, track)


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
    data_dir: Path | None = None,
    device: str | None = None,
    processes: int | None = None,
) -> None:
    """Measure a trained run again; the results are JSON beside it.

    Killed, the same command goes on where it stopped.

    Args:
        directory: folder of the run.
        samples: importance samples per image; default: as the run's experiment says, with a tolerance up to 4,096.
        split: train, validation or test; results of another than test get names of their own (density-train.json).
        images: random images for the likelihoods; default: as the run's experiment says.
        tolerance: draw for each image until the Monte-Carlo error of its log-likelihood is below this, in nats, or
            `samples` are drawn.
        protocol: paper: all images, five binary draws of each and 4,096 samples (512 for colour).
        referee: this many of the images, and as many simulated ones, are judged by annealed importance sampling.
        referee_steps: steps of the annealing, more of which close the sandwich; default: 100.
        compiled: compile the networks first: quicker from some thousand samples on.
        data_dir: folder of the data; of own images that have moved: their new place.
        device: cpu, cuda, ...; default: cpu.
        processes: share the likelihoods among so many processes; default: 1.
    """
    from mpdvae.evaluation.run_evaluation import evaluate
    from mpdvae.evaluation.run_likelihood import unsettled_in_words
    from mpdvae.runs.environment import EVALUATION
    from mpdvae.runs.observer import owned_by_first, run_in
    from mpdvae.system.atomic_files import read_json
    from mpdvae.workflows.job import data_of, describe_run, note_environment, on_device, this_command
    from mpdvae.workflows.progress_display import Watcher

    check_processes(processes)
    run = run_in(directory)
    if run.status not in {"trained", "finished"}:
        raise InputError(
            f"{directory}: this run is not trained to its end; `mpdvae resume {directory}` goes on with it.",
            topic="not-finished",
        )
    data = on_device(data_of(run, data_dir), own_device(device))
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
            say=lambda what: watcher.say(f"measuring: {what}"),
            watch=watcher.watch,
        )
    if not is_first():
        return
    name = "density.json" if split == "test" else f"density-{split}.json"
    if left := unsettled_in_words(read_json(directory / name)):
        print(left)
    if split == "test":
        _print_results([directory])
    else:
        print(f"results: {directory}/*-{split}.json")


def import_official(config: Positional[Path], state: Positional[Path], out: Path, dataset: str | None = None) -> None:
    """Make a run folder of a model trained with the authors' released code.

    Args:
        config: the JSON file that describes the model there.
        state: its weights, saved by torch.save, or as .safetensors. Only tensors are read: a file with anything else in it
            is refused.
        out: folder of the run; it must be new.
        dataset: what it was trained on; default: mnist, or cifar10 for colour.
    """
    from mpdvae.sharing.released_import import import_run
    from mpdvae.workflows.job import this_command
    from mpdvae.workflows.progress_display import busy

    with busy(f"importing {state}"):
        import_run(config, state, out, this_command(), dataset)
    print(f"run folder: {out}")
    print(f"`mpdvae evaluate {out}` measures it.")


def experiment_called(name: str) -> Experiment:
    """The recipe called `name`, or the experiment in the file of that name."""
    from mpdvae.experiments.recipes import recipe

    path = Path(name)
    if path.suffix == ".json":
        if not path.is_file():
            raise InputError(f"{name}: no such file; expected a recipe's name or an experiment.json.", topic="options")
        return from_json(read_bytes(path, LARGEST_JSON), name)
    return recipe(name)


def _check_threads(threads: int | None) -> None:
    if threads is not None and threads < 1:
        raise InputError(f"--threads: expected a number >= 1, got {threads}.")


def _make_run(out: Path, experiment: Experiment, data_dir: Path | None, device: str | None) -> "Run":
    """A folder for `experiment`, if it can be trained here: before a folder is made that could not be used."""
    from mpdvae.runs.observer import run_in
    from mpdvae.runs.run_folder import Run
    from mpdvae.workflows.job import check_device, check_fit, load_data

    Run.check_free(out, experiment)
    check_device(own_device(device))
    check_fit(experiment, load_data(experiment, data_dir))
    Run.create(out, experiment)
    return run_in(out)


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
            raise RunError(f"interrupted; `{how_to_resume(run, data)}` goes on from the last checkpoint.") from None
    if not is_first():
        return
    _print_results([run.path])
    print(f"run folder: {run.path}")


def _print_results(folders: list[Path]) -> None:
    from mpdvae.report import collect
    from mpdvae.report.tables import console_table

    for study in collect(folders).studies:
        print(console_table(study))
