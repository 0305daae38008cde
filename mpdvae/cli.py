"""The command line: `mpdvae COMMAND ...`.

Each command is a function whose signature is its usage; tyro reads it. Nothing heavy is imported before a command needs
it. Exit codes: 0 done; 1 failed while running (state saved, the message says how to go on); 2 bad usage or bad input.
"""

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import ValidationError
from tyro.conf import Positional

from mpdvae.errors import InputError, RunError, refuse_unknown
from mpdvae.experiment import Experiment, from_json, in_words
from mpdvae.options import parse, validated
from mpdvae.version import __version__

HELP = """\
mpdvae {version}: variational autoencoders whose latent code stays informative

  mpdvae reproduce                          the paper on MNIST: train, measure, report (15 minutes)
  mpdvae train mae-mnist-minutes --out DIR  train one model
  mpdvae sample DIR --count 64 --out x.png  images drawn from it

commands
{commands}

mpdvae COMMAND --help tells the options of a command.
"""


def reproduce(
    scale: str = "minutes",
    datasets: str = "",
    seeds: int = 3,
    out: Path = Path("runs/reproduce"),
    jobs: int | None = None,
    data_dir: Path | None = None,
    dry_run: bool = False,
) -> None:
    """Train all models with several seeds; report which conclusions hold.

    Args:
        scale: smoke (a minute), minutes (15 minutes), hours or paper.
        datasets: names, separated by commas; default: those of the scale.
        seeds: how many seeds each model is trained with.
        out: folder of the runs and of report.html, report.md, results.json. What is done there is used again.
        jobs: runs at a time; default: the number of cores.
        data_dir: folder of the data; default: $MPDVAE_DATA, else the user's cache folder.
        dry_run: only print the runs, what they would cost on this machine, and what they would be compared with.
    """
    from mpdvae import recipes
    from mpdvae import reproduce as matrix
    from mpdvae.jobs import this_command
    from mpdvae.studies import SCALES

    if scale not in SCALES:
        refuse_unknown("scale", scale, list(SCALES))
    chosen = tuple(name.strip() for name in datasets.split(",") if name.strip()) or SCALES[scale].compared
    experiments = recipes.matrix(scale, chosen)
    if dry_run:
        _print_plan(experiments, seeds)
        return
    to_do = matrix.jobs(experiments, seeds, out)
    matrix.run_all(to_do, data_dir, jobs)
    _write_report([job.folder for job in to_do], out / "report.html", out / "results.json", this_command())


def list_recipes() -> None:
    """List the named experiments, what each reproduces and its cost."""
    from rich.table import Table

    from mpdvae.console import stdout
    from mpdvae.recipes import all_recipes
    from mpdvae.studies import SCALES

    experiments, console = all_recipes().values(), stdout()
    names = Table(
        "recipe", "scale", "data set", "cost of a run, 2 cores", box=None, header_style="bold", pad_edge=False
    )
    for scale in SCALES.values():
        for study in scale.studies:
            names.add_row(f"MODEL-{study.dataset}-{scale.name}", scale.meant_for, study.dataset, study.cost)
    console.print(names)
    models = Table("\nMODEL", "\nwhat it is", "\nat scales", box=None, header_style="bold", pad_edge=False)
    for model, description in {e.model: e.reproduces for e in experiments}.items():
        scales = dict.fromkeys(e.scale for e in experiments if e.model == model)
        models.add_row(model, description, ", ".join(scales))
    console.print(models)


def train(arguments: Sequence[str]) -> None:
    """Train a recipe, or an experiment.json, with any field changed.

    mpdvae train RECIPE --out DIR [--FIELD VALUE ...]

    `mpdvae recipes` lists recipes; `mpdvae train RECIPE --help` lists the fields."""
    if not arguments or arguments[0].startswith("-"):
        if {"-h", "--help"} & set(arguments):
            print(inspect.getdoc(train))
            return
        raise InputError("train: expected the name of a recipe first; `mpdvae recipes` lists them.")
    name, *rest = arguments
    experiment = _experiment(name)

    def collect(
        out: Path,
        experiment: Annotated[Experiment, tyro.conf.arg(name="")] = experiment,
        threads: int | None = None,
        data_dir: Path | None = None,
    ) -> tuple[Path, Experiment, int | None, Path | None]:
        """What the options say.

        Args:
            out: folder of the run; it must be new, or hold this very run, which then goes on.
            experiment: every field of it is an option.
            threads: threads of a training step; default: all cores. The last digits of results depend on it.
            data_dir: folder of the data; default: $MPDVAE_DATA, else the user's cache folder.
        """
        return out, experiment, threads, data_dir

    out, given, threads, data_dir = parse(collect, rest, f"mpdvae train {name}", experiment.reproduces)
    experiment = validated(given)
    from mpdvae.jobs import check_fit, load_data
    from mpdvae.runs import Run

    _check_threads(threads)
    Run.check_free(out, experiment)
    check_fit(experiment, load_data(experiment, data_dir))  # before a folder is made that could not be used
    _complete(Run.create(out, experiment), threads, data_dir)


def resume(directory: Positional[Path], threads: int | None = None, data_dir: Path | None = None) -> None:
    """Go on with a run where it stopped.

    Args:
        directory: folder of the run.
        threads: threads of a training step; default: all cores.
        data_dir: folder of the data.
    """
    from mpdvae.runs import Run

    run = Run(directory)
    if run.status == "finished":
        print(f"{directory}: this run is finished; its results are there.")
        return
    _complete(run, threads, data_dir)


def evaluate(
    directory: Positional[Path], samples: int | None = None, split: str = "test", data_dir: Path | None = None
) -> None:
    """Measure a trained run again; the results are JSON beside it.

    Args:
        directory: folder of the run.
        samples: importance samples per image; default: as the run's experiment says.
        split: train, validation or test.
        data_dir: folder of the data.
    """
    from mpdvae.console import busy
    from mpdvae.evaluation import evaluate
    from mpdvae.jobs import describe_run, load_data, this_command
    from mpdvae.runs import Run

    run = Run(directory)
    if run.status not in {"trained", "finished"}:
        raise InputError(
            f"{directory}: this run is not trained to its end; `mpdvae resume {directory}` goes on with it."
        )
    data = load_data(run.experiment, data_dir)
    describe_run(run, data, this_command())
    with busy(f"measuring {directory} on the {split} images"):
        evaluate(run, data, samples, split)
    _print_results([directory])


def sample(directory: Positional[Path], out: Path, count: int = 64, seed: int = 0) -> None:
    """Draw images from a model into a PNG.

    Args:
        directory: folder of a run or of a model.
        out: the PNG.
        count: how many images.
        seed: of the draw.
    """
    from mpdvae import load, pictures
    from mpdvae.console import busy
    from mpdvae.runs import model_experiment
    from mpdvae.seeding import seeded

    pictures.check_png_path(out)
    vae = load(directory)
    with busy(f"drawing {count} images"), seeded(seed, "sample"):
        images = vae.sample(count)
    columns = max(1, round(count**0.5))
    _save(out, pictures.png(pictures.in_rows(model_experiment(directory).data.shown(images), columns)))


def reconstruct(
    directory: Positional[Path], out: Path, count: int = 10, seed: int = 0, data_dir: Path | None = None
) -> None:
    """Draw test images and their reconstructions into a PNG.

    Three rows: the images; the more probable value of each pixel, given the posterior mean; one draw.

    Args:
        directory: folder of the run.
        out: the PNG.
        count: how many images, chosen at random.
        seed: of the choice and the draw.
        data_dir: folder of the data.
    """
    import torch

    from mpdvae import load, pictures
    from mpdvae.console import busy
    from mpdvae.runs import model_experiment
    from mpdvae.seeding import seeded

    pictures.check_png_path(out)
    vae = load(directory)
    with seeded(seed, "reconstruct"), busy(f"reconstructing {count} images"):
        x = _some_test_images(directory, count, data_dir)
        rows = [x, vae.reconstruct(x), vae.reconstruct(x, greedy=False)]
    _save(out, pictures.png(model_experiment(directory).data.shown(torch.stack(rows))))


def traverse(
    directory: Positional[Path],
    out: Path,
    dimensions: int = 8,
    columns: int = 9,
    seed: int = 0,
    data_dir: Path | None = None,
) -> None:
    """Walk along the most informative latent dimensions, in a PNG.

    A row per dimension, from -3 to 3 standard deviations of the codes, around that of a test image.

    Args:
        directory: folder of the run.
        out: the PNG.
        dimensions: how many rows.
        columns: images in a row.
        seed: of the choice of the image.
        data_dir: folder of the data.
    """
    from mpdvae import load, pictures
    from mpdvae.console import busy
    from mpdvae.evaluation import traversal
    from mpdvae.runs import model_experiment
    from mpdvae.seeding import seeded

    pictures.check_png_path(out)
    vae = load(directory)
    with seeded(seed, "traverse"), busy("walking through the latent space"):
        x = _some_test_images(directory, None, data_dir)
        images = vae.decode(traversal(vae, x, dimensions, columns))
    _save(out, pictures.png(model_experiment(directory).data.shown(images)))


def report(directories: Positional[tuple[Path, ...]], out: Path) -> None:
    """Write a report on any finished runs.

    Args:
        directories: folders of runs.
        out: the HTML file; the same in Markdown and JSON go beside it.
    """
    from mpdvae.jobs import this_command

    if not directories:
        raise InputError("report: expected at least one run folder.")
    _write_report(list(directories), out, out.with_suffix(".json"), this_command())


def data(
    action: Positional[Literal["list", "fetch", "check", "path"]] = "list",
    name: Positional[str] = "",
    data_dir: Path | None = None,
) -> None:
    """List, fetch or check data sets, or say where they are kept.

    Args:
        action: list, fetch NAME, check NAME, or path.
        name: of the data set.
        data_dir: folder of the data; default: $MPDVAE_DATA, else the user's cache folder.
    """
    from mpdvae import data as room
    from mpdvae.data.progress import shown

    if action == "path":
        print(room.data_dir(data_dir))
    elif action == "list":
        _list_data(data_dir)
    elif not name:
        known = ", ".join(entry.name for entry in room.ENTRIES)
        raise InputError(f"data {action}: expected the name of a data set: {known}.")
    elif action == "fetch":
        with shown() as listener:
            room.fetch(name, data_dir, listener)
    else:
        print(room.check(name, data_dir))


def import_official(config: Positional[Path], state: Positional[Path], out: Path, dataset: str | None = None) -> None:
    """Make a run folder of a model trained with the authors' released code.

    Args:
        config: the JSON file that describes the model there.
        state: its weights, saved by torch.save, or as .safetensors. Only tensors are read: a file with anything else in it
            is refused.
        out: folder of the run; it must be new.
        dataset: what it was trained on; default: mnist, or cifar10 for colour.
    """
    from mpdvae.console import busy
    from mpdvae.interop import import_run
    from mpdvae.jobs import this_command

    with busy(f"importing {state}"):
        import_run(config, state, out, this_command(), dataset)
    print(f"run folder: {out}")
    print(f"`mpdvae evaluate {out}` measures it.")


COMMANDS: dict[str, Callable[..., None]] = {
    "reproduce": reproduce,
    "recipes": list_recipes,
    "train": train,
    "resume": resume,
    "evaluate": evaluate,
    "sample": sample,
    "reconstruct": reconstruct,
    "traverse": traverse,
    "report": report,
    "data": data,
    "import-official": import_official,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(arguments)
    except (InputError, ValidationError) as error:
        print(f"mpdvae: {in_words(error) if isinstance(error, ValidationError) else error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"mpdvae: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = (error.strerror or str(error)).lower()
        print(f"mpdvae: {where}{reason}; what was written before is whole, the same command goes on.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nmpdvae: interrupted; what is done is saved, and the same command goes on where it stopped.",
            file=sys.stderr,
        )
        return 1


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help"}:
        width = max(map(len, COMMANDS))
        commands = "\n".join(f"  {name:{width}}  {_summary(command)}" for name, command in COMMANDS.items())
        print(HELP.format(version=__version__, commands=commands), end="")
        return 0
    if arguments[0] in {"-V", "--version"}:
        print(__version__)
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        refuse_unknown("command", name, list(COMMANDS), "`mpdvae --help` lists them all.")
    command = COMMANDS[name]
    if command is train:
        train(rest)
    else:
        tyro.cli(command, args=rest, prog=f"mpdvae {name}")
    return 0


def _summary(command: Callable[..., None]) -> str:
    return (command.__doc__ or "").split("\n")[0].rstrip(".")


def _experiment(name: str) -> Experiment:
    """The recipe called `name`, or the experiment in the file of that name."""
    from mpdvae.recipes import recipe

    path = Path(name)
    if path.suffix == ".json":
        if not path.is_file():
            raise InputError(f"{name}: no such file; expected a recipe's name or an experiment.json.")
        return from_json(path.read_bytes(), name)
    return recipe(name)


def _check_threads(threads: int | None) -> None:
    if threads is not None and threads < 1:
        raise InputError(f"--threads: expected a number >= 1, got {threads}.")


def _complete(run, threads: int | None, data_dir: Path | None) -> None:
    import torch

    from mpdvae.console import RunProgress, Watcher
    from mpdvae.jobs import complete, load_data, this_command

    _check_threads(threads)
    torch.set_num_threads(threads or os.cpu_count() or 1)
    steps, latest = run.experiment.training.steps, (run.history or [None])[-1]
    data = load_data(run.experiment, data_dir)
    with Watcher(
        f"{run.experiment.name}, seed {run.experiment.seed}", (latest or {"step": 0})["step"] / steps
    ) as watcher:

        def watch(done: int, entry: dict | None) -> None:
            nonlocal latest
            latest = entry or latest
            if entry:
                watcher.say(RunProgress("training", done, steps, entry).in_words())
            watcher.update(done / steps, {run.path.name: RunProgress("training", done, steps, latest)})

        try:
            complete(run, data, this_command(), say=lambda what: watcher.say(f"measuring: {what}"), watch=watch)
        except KeyboardInterrupt:
            raise RunError(f"interrupted; `mpdvae resume {run.path}` goes on from the last checkpoint.") from None
    _print_results([run.path])
    print(f"run folder: {run.path}")


def _some_test_images(directory: Path, count: int | None, data_dir: Path | None):
    """`count` random binary test images of a run's data (None: enough to measure codes), by the ambient generator."""
    import torch

    from mpdvae.data import evaluation_images
    from mpdvae.jobs import check_same_data, load_data
    from mpdvae.runs import Run

    run = Run(directory)
    data = load_data(run.experiment, data_dir)
    check_same_data(run, data)
    count = min(500, len(data.test)) if count is None else count
    if not 1 <= count <= len(data.test):
        raise InputError(f"--count: expected 1 to {len(data.test)} images, got {count}.")
    x, _ = evaluation_images(data.test, run.experiment.data.protocol(), "test", draws=1)
    return x[torch.randperm(len(x))[:count]]


def _print_plan(experiments: list[Experiment], seeds: int) -> None:
    from rich.table import Table

    from mpdvae.console import busy, stdout
    from mpdvae.plan import plan
    from mpdvae.report.published import stands_beside

    with busy("timing a step of each network on this machine"):
        plans = plan(experiments)
    head = ("recipe", "parameters", "steps", "s / step", "hours / run", "compared with")
    table = Table(*head, box=None, header_style="bold", pad_edge=False)
    for p in plans:
        e = p.experiment
        numbers = f"{p.parameters:,}", f"{p.steps:,}", f"{p.step_seconds:.2f}", f"{p.hours:,.1f}"
        table.add_row(e.name, *numbers, stands_beside(e.model, e.data.dataset, e.scale))
    stdout().print(table)
    total = seeds * sum(p.hours for p in plans)
    print(
        f"{seeds} seeds: {len(plans) * seeds} runs, about {total:,.0f} hours of training on this machine (an estimate)."
    )


def _save(out: Path, content: bytes) -> None:
    from mpdvae.runs import write_atomically

    write_atomically(out, content)
    print(out)


def _write_report(folders: list[Path], html: Path, results: Path, command: str) -> None:
    from mpdvae import report as room

    found = room.write(folders, html=html, markdown=html.with_suffix(".md"), results=results, command=command)
    print(room.console(found))
    print(f"report: {html}")


def _print_results(folders: list[Path]) -> None:
    from mpdvae.report import collect
    from mpdvae.report.tables import console_table

    for study in collect(folders).studies:
        print(console_table(study))


def _list_data(data_dir: Path | None) -> None:
    from rich.table import Table

    from mpdvae import data as room
    from mpdvae.console import stdout

    console, folder = stdout(), room.data_dir(data_dir)
    table = Table("name", "here", "MB", "images", "split", "licence", box=None, header_style="bold", pad_edge=False)
    for entry in room.ENTRIES:
        here = "yes" if entry.is_here(folder) else "no"
        size = "?" if entry.size_mb is None else f"{entry.size_mb:g}"
        table.add_row(entry.name, here, size, entry.images, entry.protocol, entry.licence)
    console.print(table)
    console.print(f"\nThey are kept in {folder}; `mpdvae data fetch NAME` puts one there.")


if __name__ == "__main__":
    sys.exit(main())
