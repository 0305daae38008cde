"""Commands on several runs: the matrix, the report and the list of recipes."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from mpdvae.commands.options import Track
from mpdvae.commands.own_parts import own_parts
from mpdvae.commands.plan import print_plan
from mpdvae.errors import InputError, refuse_unknown
from mpdvae.runs.trackers import check_installed
from mpdvae.system.devices import AUTO, device_for
from mpdvae.system.untrusted_text import tell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpdvae.report.looks import Look
    from mpdvae.report.results import Results


SWEEP_SEEDS = 3
"""Default number of seeds with --figure: a chart needs fewer than a verdict."""


def reproduce(
    scale: str = "minutes",
    datasets: str = "",
    seeds: int | None = None,
    first_seed: int = 0,
    until_decided: bool = False,
    at_most: int | None = None,
    figure: Literal["rate-distortion", "remedies"] | None = None,
    out: Path | None = None,
    jobs: int | None = None,
    backend: Literal["loky", "ray", "dask"] = "loky",
    address: str | None = None,
    device: str = AUTO,
    precision: Literal["float32", "bfloat16", "auto"] | None = None,
    data_dir: Path | None = None,
    track: Track = (),
    dry_run: bool = False,
    timed: bool = False,
) -> None:
    """Train all models with several seeds; report which conclusions hold.

    With --figure, train the sweeps behind that figure instead.

    Args:
        scale: smoke (a minute), minutes (26 minutes), hours, days or paper.
        datasets: Names of data sets, separated by commas. Default: those of the scale.
        seeds: Number of seeds per model. Default: that of the scale, 5 or (smoke, days, paper, CIFAR-10, --figure) 3.
        first_seed: The first seed. Two matrices without a common seed are independent; mpdvae compare sets them side by side.
        until_decided: Add seeds until each claim is decided; the intervals allow for the repeated looks.
        at_most: With --until-decided: maximum number of seeds per model. Default: 20.
        figure: rate-distortion: sweep diversity x smoothness, KL weight, free bits and committed rate, in one plane.
            remedies: every remedy against collapse on the same network, data, budget and seeds, in a leaderboard.
        out: Folder of the runs, report.html, report.md and results.json. Default: runs/reproduce, or runs/FIGURE.
            Finished runs in this folder are reused.
        jobs: Number of parallel runs. Default: number of cores, of GPUs with --device cuda, or of the cluster's workers.
        backend: loky: processes on this machine; ray, dask: a cluster whose machines share the folders.
        address: Address of the cluster's head. Default: a temporary cluster on this machine.
        device: auto, cpu, cuda (runs are distributed over all GPUs), cuda:1, ... auto: GPUs if there are any.
            Results depend on the device.
        precision: float32, bfloat16 or auto. Default: as in the recipes.
            auto: times training steps of each recipe, and chooses the fastest whose loss agrees; sets compile, too.
        data_dir: Folder of the data. Default: $MPDVAE_DATA, else the user's cache folder.
        track: Experiment tracker that also receives the history of every run; can be given several times.
        dry_run: Only print the runs, their estimated cost on GPUs, the published numbers to compare with, and the power.
        timed: With --dry-run: also estimate the cost on this machine, by timing a step of each network.
            This takes minutes for the networks of the paper.
    """
    from mpdvae.experiments import recipes
    from mpdvae.experiments.scales import SCALES
    from mpdvae.report.looks import read_looks
    from mpdvae.workflows import matrix, matrix_jobs
    from mpdvae.workflows.growing_matrix import AT_MOST, Growth
    from mpdvae.workflows.job import this_command

    if scale not in SCALES:
        refuse_unknown("scale", scale, list(SCALES))
    usual = recipes.data_of_figure(figure, SCALES[scale]) if figure else SCALES[scale].compared
    chosen = tuple(name.strip() for name in datasets.split(",") if name.strip()) or usual
    experiments = recipes.figure_matrix(figure, scale, chosen) if figure else recipes.matrix(scale, chosen)
    out = out or Path("runs") / (figure or "reproduce")
    seeds = SWEEP_SEEDS if figure and seeds is None else seeds
    if dry_run:
        print_plan(experiments, seeds, timed, out)
        return
    if timed:
        raise InputError("--timed: expected together with --dry-run, got --timed alone; give both, or neither.")
    _check_looks(until_decided, at_most, figure)
    check_installed(track)
    growth = Growth(experiments, seeds, at_most or AT_MOST, out, first_seed) if until_decided else None
    used = device_for(device)
    while True:
        to_do = matrix_jobs.jobs(
            experiments, growth.counts if growth else seeds, out, track, used, precision, first_seed
        )
        failures = matrix.run_all(to_do, data_dir, jobs, backend, address)
        if growth:
            growth.record()
        folders = [job.folder for job in to_do]
        found = _write_report(folders, out / "report.html", out / "results.json", this_command(), read_looks(out))
        matrix.refuse_failures(failures, len(to_do))
        if growth is None or not growth.grown(found):
            return
        tell("", f"undecided: {_listed(found)}; adding seeds, up to {max(growth.counts)} per model")


def _listed(found: "Results") -> str:
    from mpdvae.workflows.growing_matrix import undecided

    return "; ".join(f"{', '.join(claims)} on {dataset}" for dataset, claims in undecided(found).items())


def _check_looks(until_decided: bool, at_most: int | None, figure: str | None) -> None:
    if at_most is not None and not until_decided:
        raise InputError(
            "--at-most: expected together with --until-decided, got --at-most alone; give both, or neither."
        )
    if until_decided and figure:
        raise InputError(
            "--until-decided: expected without --figure, whose sweeps test no claims; leave one of them out."
        )


def report(directories: Positional[tuple[Path, ...]], out: Path) -> None:
    """Write a report on any finished runs.

    Args:
        directories: Folders of runs.
        out: Path of the HTML file. The Markdown and JSON versions are written next to it.
    """
    from mpdvae.report.looks import looks_of
    from mpdvae.workflows.job import this_command

    if not directories:
        raise InputError(
            "report: expected at least one run folder, got none; "
            "name some, for example `mpdvae report runs/* --out report.html`."
        )
    folders = list(directories)
    _write_report(folders, out, out.with_suffix(".json"), this_command(), looks_of(folders))


def list_recipes() -> None:
    """List the recipes, what each reproduces, and its cost."""
    from mpdvae.experiments.recipes import all_recipes
    from mpdvae.experiments.scales import SCALES
    from mpdvae.workflows.progress_display import stdout, table_of

    experiments, console = all_recipes().values(), stdout()
    names = table_of("recipe", "scale", "data set", "cost per run, 2 cores")
    for scale in SCALES.values():
        for study in scale.studies:
            names.add_row(f"MODEL-{study.dataset}-{scale.name}", scale.meant_for, study.dataset, study.cost)
    console.print(names)
    models = table_of("\nMODEL", "\ndescription", "\nscales")
    for model, description in {e.model: e.reproduces for e in experiments}.items():
        scales = dict.fromkeys(e.scale for e in experiments if e.model == model)
        models.add_row(model, description, ", ".join(scales))
    console.print(models)
    if parts := own_parts():
        table = table_of("\nYOUR PARTS", "\nkind", "\ndescription")
        for row in parts:
            table.add_row(*row)
        console.print(table)


def _write_report(
    folders: list[Path], html: Path, results: Path, command: str, looks: "Mapping[str, Look]"
) -> "Results":
    from mpdvae import report as reports
    from mpdvae.workflows.progress_display import columns

    found = reports.write(
        folders, html=html, markdown=html.with_suffix(".md"), results=results, command=command, looks=looks
    )
    tell(*reports.console(found, columns()).split("\n"))
    tell(f"tables: {html.with_suffix('.md')}", f"numbers: {results}", f"report: {html}")
    return found
