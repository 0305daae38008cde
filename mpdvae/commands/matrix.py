"""Commands on several runs: the matrix, the report and the list of recipes."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from mpdvae.commands.options import Track
from mpdvae.errors import InputError, refuse_unknown
from mpdvae.experiments.experiment import Experiment
from mpdvae.runs.trackers import check_installed


def reproduce(
    scale: str = "minutes",
    datasets: str = "",
    seeds: int | None = None,
    figure: Literal["rate-distortion"] | None = None,
    out: Path | None = None,
    jobs: int | None = None,
    backend: Literal["loky", "ray", "dask"] = "loky",
    address: str | None = None,
    device: str | None = None,
    precision: Literal["float32", "bfloat16", "auto"] | None = None,
    data_dir: Path | None = None,
    track: Track = (),
    dry_run: bool = False,
    timed: bool = False,
) -> None:
    """Train all models with several seeds; report which conclusions hold.

    With --figure, train the sweeps behind that figure instead.

    Args:
        scale: smoke (a minute), minutes (15 minutes), hours, days or paper.
        datasets: Names of data sets, separated by commas. Default: those of the scale.
        seeds: Number of seeds per model. Default: that of the scale, 3 or (hours, MNIST and OMNIGLOT) 5.
        figure: rate-distortion: sweep diversity x smoothness, KL weight, free bits and committed rate, in one plane.
        out: Folder of the runs, report.html, report.md and results.json. Default: runs/reproduce, or runs/FIGURE.
            Finished runs in this folder are reused.
        jobs: Number of parallel runs. Default: number of cores, of GPUs with --device cuda, or of the cluster's workers.
        backend: loky: processes on this machine; ray, dask: a cluster whose machines share the folders.
        address: Address of the cluster's head. Default: a temporary cluster on this machine.
        device: cpu, cuda (runs are distributed over all GPUs), cuda:1, ...; default: cpu. Results depend on the device.
        precision: float32, bfloat16 or auto. Default: as in the recipes.
            auto: times training steps of each recipe, and chooses the fastest whose loss agrees; sets compile, too.
        data_dir: Folder of the data. Default: $MPDVAE_DATA, else the user's cache folder.
        track: Experiment tracker that also receives the history of every run; can be given several times.
        dry_run: Only print the runs, their estimated cost on GPUs, and the published numbers to compare with.
        timed: With --dry-run: also estimate the cost on this machine, by timing a step of each network.
            This takes minutes for the networks of the paper.
    """
    from mpdvae.experiments import recipes
    from mpdvae.experiments.scales import SCALES
    from mpdvae.workflows import matrix as matrix
    from mpdvae.workflows.job import this_command

    if scale not in SCALES:
        refuse_unknown("scale", scale, list(SCALES))
    usual = SCALES[scale].sweeps if figure else SCALES[scale].compared
    chosen = tuple(name.strip() for name in datasets.split(",") if name.strip()) or usual
    experiments = recipes.sweep_matrix(scale, chosen) if figure else recipes.matrix(scale, chosen)
    if dry_run:
        _print_plan(experiments, seeds, timed)
        return
    if timed:
        raise InputError("--timed: expected together with --dry-run, got --timed alone; give both, or neither.")
    check_installed(track)
    out = out or Path("runs") / (figure or "reproduce")
    to_do = matrix.jobs(experiments, seeds, out, track, device, precision)
    failures = matrix.run_all(to_do, data_dir, jobs, backend, address)
    _write_report([job.folder for job in to_do], out / "report.html", out / "results.json", this_command())
    matrix.refuse_failures(failures, len(to_do))


def report(directories: Positional[tuple[Path, ...]], out: Path) -> None:
    """Write a report on any finished runs.

    Args:
        directories: Folders of runs.
        out: Path of the HTML file. The Markdown and JSON versions are written next to it.
    """
    from mpdvae.workflows.job import this_command

    if not directories:
        raise InputError(
            "report: expected at least one run folder, got none; "
            "name some, for example `mpdvae report runs/* --out report.html`."
        )
    _write_report(list(directories), out, out.with_suffix(".json"), this_command())


def list_recipes() -> None:
    """List the recipes, what each reproduces, and its cost."""
    from rich.table import Table

    from mpdvae.experiments.recipes import all_recipes
    from mpdvae.experiments.scales import SCALES
    from mpdvae.workflows.progress_display import stdout

    experiments, console = all_recipes().values(), stdout()
    names = Table("recipe", "scale", "data set", "cost per run, 2 cores", box=None, header_style="bold", pad_edge=False)
    for scale in SCALES.values():
        for study in scale.studies:
            names.add_row(f"MODEL-{study.dataset}-{scale.name}", scale.meant_for, study.dataset, study.cost)
    console.print(names)
    models = Table("\nMODEL", "\ndescription", "\nscales", box=None, header_style="bold", pad_edge=False)
    for model, description in {e.model: e.reproduces for e in experiments}.items():
        scales = dict.fromkeys(e.scale for e in experiments if e.model == model)
        models.add_row(model, description, ", ".join(scales))
    console.print(models)


def _print_plan(experiments: list[Experiment], seeds: int | None, timed: bool) -> None:
    from rich.table import Table

    from mpdvae.experiments.recipes import seed_counts
    from mpdvae.report.published import stands_beside
    from mpdvae.workflows.matrix_cost import ASSUMED_RATE, plan
    from mpdvae.workflows.progress_display import busy, stdout

    counts = seed_counts(experiments, seeds)
    with busy("timing a step of each network on this machine" if timed else "counting the operations of each network"):
        plans = plan(experiments, timed)
    here = ("s / step", "hours / run") if timed else ()
    head = ("recipe", "parameters", "steps", *here, "GPU-hours / run", "compared with")
    table = Table(*head, box=None, header_style="bold", pad_edge=False)
    for p in plans:
        e = p.experiment
        hours = (f"{p.step_seconds:.2f}", f"{p.hours:,.1f}") if timed else ()
        beside = stands_beside(e.model, e.data.dataset, e.scale)
        numbers = f"{p.operations.parameters:,}", f"{p.steps:,}", *hours, _hours(p.gpu_hours)
        table.add_row(e.name, *numbers, beside)
    stdout().print(table)
    print(f"{_counted(counts)}: {sum(counts)} runs. Finished runs are reused.")
    if timed:
        total = sum(count * (p.hours or 0) for count, p in zip(counts, plans, strict=True))
        print(f"On this machine: about {_hours(total)} hours of training (estimated from timed steps).")
    gpu = sum(count * p.gpu_hours for count, p in zip(counts, plans, strict=True))
    rate = f"{ASSUMED_RATE / 1e12:g}e12 multiply-adds a second"
    print(
        f"On GPUs: about {_hours(gpu)} GPU-hours of training (estimated from an operation count and an assumed {rate})."
    )
    if not timed:
        print("Add --timed to estimate the time on this machine.")


def _counted(counts: list[int]) -> str:
    numbers = sorted(set(counts))
    return f"{' or '.join(map(str, numbers))} seed{'s' if numbers != [1] else ''}"


def _hours(hours: float) -> str:
    return "< 0.01" if hours < 0.01 else f"{hours:,.2f}" if hours < 100 else f"{hours:,.0f}"


def _write_report(folders: list[Path], html: Path, results: Path, command: str) -> None:
    from mpdvae import report as reports

    found = reports.write(folders, html=html, markdown=html.with_suffix(".md"), results=results, command=command)
    print(reports.console(found))
    print(f"tables: {html.with_suffix('.md')}\nnumbers: {results}\nreport: {html}")
