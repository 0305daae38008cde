"""The command `diagnose`, which explains what happened to the code of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from mpdvae.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from mpdvae.evaluation.advice import Advice
    from mpdvae.evaluation.collapse_diagnosis import Diagnosis
    from mpdvae.runs.run_folder import Run


FIRST = 3
"""Number of remedies that are shown without --all."""


def diagnose(directory: Positional[Path], all: bool = False) -> None:
    """Explain a run: what collapsed, when, why, and what to try.

    Also works on unfinished runs, from what they have recorded so far.

    Args:
        directory: Folder of the run.
        all: Show every remedy that suits the run. Default: three against what was found, none if nothing was.
    """
    from mpdvae.evaluation.collapse_diagnosis import diagnose
    from mpdvae.runs.run_folder import Run
    from mpdvae.workflows.progress_display import plain, sparkline, stdout

    run = Run(directory)
    found = diagnose(run.experiment, run.history, _diagnostics(run))
    if found is None:
        raise InputError(
            f"{directory}: nothing has been measured yet; the first evaluation point comes after "
            f"{run.experiment.training.evaluate_every} steps, and `mpdvae resume {directory}` continues the run.",
            topic="not-finished",
        )
    console = stdout()
    console.print(plain(_heading(run), "bold"))
    console.print(plain(found.verdict))
    if found.information_per_dimension_nats:
        console.print(plain(f"\n{sparkline(found.information_per_dimension_nats)}  nats per unit, logarithmic"))
    _print_weights(run)
    if found.images:
        console.print(plain(f"\nThe verdict is of validation images, the findings are of {found.images} images:"))
    _print_findings(found, directory)
    _print_advice(found, directory, all)


def _print_weights(run: "Run") -> None:
    """Warns of weights with which nothing can be computed: numbers recorded before say nothing about them."""
    from mpdvae.runs.finite_weights import check_stored
    from mpdvae.workflows.progress_display import plain, stdout

    try:
        check_stored(run.folder / "model" / "model.safetensors")
    except InputError as error:
        stdout().print(plain(f"\n{error}", "bold red"))


def _diagnostics(run: "Run") -> dict[str, Any] | None:
    from mpdvae.runs.records import Probed, check, check_course
    from mpdvae.system.atomic_files import read_json

    path = run.folder / "diagnostics.json"
    if not path.is_file():
        return None
    advice = f"`mpdvae evaluate {run.path}` recreates it"
    content = check(Probed, read_json(path), str(path), advice)
    check_course([*run.history, content], str(path), advice)
    return content


def _heading(run: "Run") -> str:
    history, steps = run.history, run.experiment.training.steps
    done = history[-1]["step"] if history else steps
    return f"{run.experiment.name}, seed {run.experiment.seed}: {run.status}, measured at step {done} of {steps}"


def _print_findings(found: "Diagnosis", directory: Path) -> None:
    from rich.table import Table

    from mpdvae.workflows.progress_display import plain, stdout

    console = stdout()
    table = Table.grid(padding=(0, 2))
    for finding in found.findings:
        table.add_row(plain(finding.matter, "bold"), plain(finding.sentence))
    if found.unknown:
        hint = (
            f"the run was made by an earlier version; once it is trained, `mpdvae evaluate {directory}` measures them"
        )
        table.add_row(plain("not known", "bold"), plain(f"{', '.join(found.unknown)} ({hint})"))
    console.print(table)


def _print_advice(found: "Diagnosis", directory: Path, all: bool) -> None:
    from mpdvae.workflows.progress_display import plain, print_line, stdout, table_of

    console = stdout()
    command = f"mpdvae train {directory / 'experiment.json'} --out NEW OPTIONS"
    if found.longer:
        longer = command.replace("OPTIONS", " ".join(found.longer))
        console.print(plain("\nTrain longer first, as the loss still fell:"))
        print_line(f"  {longer}")
    called_for = [advice for advice in found.advice if advice.remedy.against in found.causes]
    shown = found.advice if all else called_for[:FIRST]
    if not shown:
        print_line(_nothing(found, directory), console)
        return
    rest = len(found.advice) - len(shown)
    console.print()
    console.print(_meanings(shown))
    console.print(plain(f"\nWhat to try, {'those against the findings' if all else 'these'} first, with"))
    print_line(f"  {command}")
    table = table_of("against", "remedy and its OPTIONS")
    for advice in shown:
        remedy = advice.remedy
        table.add_row(remedy.against, plain(f"{remedy.title} ({remedy.source})\n{' '.join(advice.options)}"))
    console.print(table)
    if rest:
        print_line(f"{rest} more: `mpdvae diagnose {directory} --all`")


def _meanings(shown: "Sequence[Advice]") -> "Table":
    """Explains what the remedies shown are against."""
    from rich.table import Table

    from mpdvae.experiments.remedies import CAUSES
    from mpdvae.workflows.progress_display import plain

    table, against = Table.grid(padding=(0, 2)), {advice.remedy.against for advice in shown}
    for cause in filter(against.__contains__, CAUSES):
        table.add_row(plain(f"against {cause}", "bold"), plain(CAUSES[cause]))
    return table


def _nothing(found: "Diagnosis", directory: Path) -> str:
    """Says why no remedy is shown."""
    if found.causes or not found.advice:
        return "\nNo available remedy suits this run, or all of them are already applied."
    command = f"mpdvae diagnose {directory} --all"
    return f"\nNothing here calls for a remedy against collapse; `{command}` lists those that suit this run."
