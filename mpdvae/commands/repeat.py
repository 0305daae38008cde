"""Commands that ask whether a run can be believed: check it, or make it again."""

from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from mpdvae.commands.options import Track
from mpdvae.errors import InputError, RunError
from mpdvae.runs.trackers import check_installed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpdvae.workflows.result_comparison import Compared
    from mpdvae.workflows.verification import Check

SHOWN = 30
"""Numbers that differ which a terminal is shown."""


def verify(
    directory: Positional[Path],
    quick: bool = False,
    tolerance: float = 0.005,
    data_dir: Path | None = None,
    device: str | None = None,
) -> None:
    """Check a run: its files, data and versions; measure its numbers again.

    Ends with 0 where all agrees, with 1 where something differs. The folder is only read.

    Args:
        directory: folder of the run.
        quick: checks files, configuration, data and environment; measures nothing.
        tolerance: of a number made in another environment, relative to itself or 1; in the same one all must be equal.
        data_dir: folder of the data; of own images that have moved: their new place.
        device: cpu, cuda, ...; default: cpu.
    """
    from mpdvae.workflows.job import check_device
    from mpdvae.workflows.progress_display import plain, stdout
    from mpdvae.workflows.verification import verify

    _check_tolerance(tolerance)
    check_device(device)
    console = stdout()
    found = verify(
        directory,
        data_root=data_dir,
        quick=quick,
        tolerance=tolerance,
        device=device,
        say=lambda what: console.print(plain(f"checking: {what}")),
    )
    _print_checks(found.checks)
    if found.unmeasured:
        console.print(plain(f"\nNothing was measured again: {found.unmeasured}."))
    else:
        _print_compared(found.compared, found.tolerance, "noted", "measured again")
    if not found.agrees:
        raise RunError(f"{directory}: does not agree: {_listed(found.faults)}.", topic="differs")
    print(f"{directory}: agrees.")


def rerun(
    directory: Positional[Path],
    out: Path,
    threads: int | None = None,
    tolerance: float = 0.005,
    data_dir: Path | None = None,
    device: str | None = None,
    track: Track = (),
) -> None:
    """Train a run again in another folder, and compare.

    Ends with 0 where both agree, with 1 where they differ. Killed, the same command goes on.

    Args:
        directory: folder of the finished run.
        out: folder of the new run.
        threads: threads of a training step; default: as noted in the run.
        tolerance: of a number made in another environment, relative to itself or 1; in the same one all must be equal.
        data_dir: folder of the data; default: $MPDVAE_DATA, else the user's cache folder.
        device: cpu, cuda, ...; default: cpu.
        track: tell the new run's history to a tracker too; can be given several times.
    """
    import torch

    from mpdvae.commands import run as run_commands
    from mpdvae.system.process_group import cores
    from mpdvae.workflows import repetition
    from mpdvae.workflows.job import check_device, data_of, on_device
    from mpdvae.workflows.progress_display import plain, stdout

    _check_tolerance(tolerance)
    check_device(device)
    check_installed(track)
    original = repetition.original(directory, out)
    threads = threads or repetition.threads_of(original)
    again = repetition.begin(original, out)
    if again.status != "finished":
        run_commands._complete(again, threads, data_dir, device, track)
    torch.set_num_threads(threads or cores())  # finished before, or not: those of the measurements to come
    console = stdout()
    data = on_device(data_of(original, data_dir), device)
    repetition.measure_alike(original, again, data, lambda what: console.print(plain(f"measuring: {what}")))
    found = repetition.compare(original, again, tolerance)
    for sentence in found.sentences:
        console.print(plain(sentence))
    _print_compared(found.compared, found.tolerance, str(directory), str(out))
    if not found.agrees:
        raise RunError(f"{out}: differs from {directory}: {_listed(found.faults)}.", topic="differs")
    print(f"{out}: agrees with {directory}.")


def _check_tolerance(tolerance: float) -> None:
    if not 0 <= tolerance < float("inf"):
        raise InputError(f"--tolerance: expected a number >= 0, got {tolerance}.")


def _listed(names: "Sequence[str]", most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _print_checks(checks: "Sequence[Check]") -> None:
    from rich.table import Table

    from mpdvae.workflows.progress_display import plain, stdout

    words = {"same": "same", "differs": "DIFFERS", "other": "other", "not recorded": "not recorded"}
    table = Table("", "", "noted", "now", "", box=None, header_style="bold", pad_edge=False)
    for check in checks:
        cells = check.matter, check.name, check.noted, check.found, words[check.verdict]
        table.add_row(*(plain(cell) for cell in cells), style="bold red" if check.verdict == "differs" else None)
    stdout().print(table)


def _print_compared(compared: "Sequence[Compared]", tolerance: float, one: str, other: str) -> None:
    """A line for each file, then the numbers that differ."""
    from rich.table import Column, Table

    from mpdvae.workflows.progress_display import plain, stdout

    exactly = "to the last bit (the environment is the same)"
    asked = f"within {tolerance:g} (relative, of numbers above 1)" if tolerance else exactly
    stdout().print(plain(f"\nNumbers must agree {asked}."))
    files = Table("file", "numbers", "that differ", "verdict", box=None, header_style="bold", pad_edge=False)
    numbers = Table(
        "number", Column(plain(one)), Column(plain(other)), "difference", box=None, header_style="bold", pad_edge=False
    )
    differing = [(file, pair) for file in compared for pair in file.differing()]
    for file in compared:
        verdict = file.note or ("equal" if file.equal else "agrees" if file.agrees(tolerance) else "DIFFERS")
        files.add_row(*map(plain, (file.name, str(len(file.pairs)), str(len(file.differing())), verdict)))
    for file, pair in differing[:SHOWN]:
        difference = "" if pair.difference is None else f"{pair.difference:+.3g}"
        numbers.add_row(*map(plain, (f"{file.name}: {pair.name}", str(pair.one), str(pair.other), difference)))
    stdout().print(files)
    if differing:
        stdout().print(numbers)
    if len(differing) > SHOWN:
        stdout().print(plain(f"and {len(differing) - SHOWN} more numbers."))
