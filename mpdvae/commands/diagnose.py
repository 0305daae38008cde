"""The command `diagnose`, which explains what happened to the code of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from mpdvae.errors import InputError

if TYPE_CHECKING:
    from mpdvae.evaluation.collapse_diagnosis import Diagnosis
    from mpdvae.runs.run_folder import Run


def diagnose(directory: Positional[Path]) -> None:
    """Explain a run: what collapsed, when, why, and what to try.

    Also works on unfinished runs, from what they have recorded so far.

    Args:
        directory: Folder of the run.
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
    _print_findings(found, directory)
    _print_advice(found, directory)


def _diagnostics(run: "Run") -> dict[str, Any] | None:
    from mpdvae.runs.records import Probed, check, check_course
    from mpdvae.system.atomic_files import read_json

    path = run.path / "diagnostics.json"
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


def _print_advice(found: "Diagnosis", directory: Path) -> None:
    from rich.table import Table

    from mpdvae.workflows.progress_display import plain, stdout

    console = stdout()
    if not found.advice:
        console.print(plain("\nNo available remedy suits this run, or all of them are already applied."))
        return
    order = "remedies for the findings first" if found.causes else "although nothing requires it"
    command = f"mpdvae train {directory / 'experiment.json'} --out NEW OPTIONS"
    console.print(plain(f"\nWhat to try, {order}, with `{command}`:"))
    table = Table("against", "remedy and its OPTIONS", box=None, header_style="bold", pad_edge=False)
    for advice in found.advice:
        remedy = advice.remedy
        table.add_row(remedy.against, plain(f"{remedy.title} ({remedy.source})\n{' '.join(advice.options)}"))
    console.print(table)
