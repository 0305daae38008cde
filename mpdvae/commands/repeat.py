"""Commands that test whether a run is reproducible: verify it, or train it again."""

from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from mpdvae.commands.options import Track
from mpdvae.errors import InputError, RunError, listed
from mpdvae.runs.trackers import check_installed
from mpdvae.system.devices import AUTO, device_for
from mpdvae.system.untrusted_text import tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpdvae.workflows.result_comparison import Compared
    from mpdvae.workflows.verification import Check

SHOWN_FILES = 5
"""Maximum number of files that a sentence names."""
SHOWN = 30
"""Maximum number of differing numbers printed."""


def verify(
    directory: Positional[Path],
    quick: bool = False,
    tolerance: float = 0.005,
    data_dir: Path | None = None,
    device: str = AUTO,
) -> None:
    """Check a run: its files, data and versions; measure its numbers again.

    Exits with code 0 if everything agrees, with code 1 if anything differs. The folder is only read.

    Args:
        directory: Folder of the run.
        quick: Only check files, configuration, data and environment; measure nothing.
        tolerance: Allowed difference if the environment differs, relative to the number or to 1, whichever is larger.
            In the same environment, all numbers must be equal.
        data_dir: Folder of the data; for your own images that have moved: their new location.
        device: auto, cpu, cuda, mps, ... auto: the kind that the run was made on, if it is here.
    """
    from mpdvae.workflows.job import check_device, made_on
    from mpdvae.workflows.progress_display import plain, print_line, stdout
    from mpdvae.workflows.verification import verify

    _check_tolerance(tolerance)
    used = device_for(device, made_on(directory))
    check_device(used)
    console = stdout()
    found = verify(
        directory,
        data_root=data_dir,
        quick=quick,
        tolerance=tolerance,
        device=used,
        say=lambda what: print_line(f"checking: {what}", console),
    )
    _print_checks(found.checks)
    if found.unmeasured:
        console.print(plain(f"\nNothing was measured again: {found.unmeasured}."))
    else:
        _print_compared(found.compared, found.tolerance, "recorded", "measured again")
    if not found.agrees:
        raise RunError(f"{directory}: does not agree: {listed(found.faults, SHOWN_FILES)}.", topic="differs")
    tell(f"{directory}: agrees{_except(found.compared)}.")


def rerun(
    directory: Positional[Path],
    out: Path,
    threads: int | None = None,
    tolerance: float = 0.005,
    data_dir: Path | None = None,
    device: str = AUTO,
    track: Track = (),
) -> None:
    """Train a run again in another folder, and compare.

    Exits with code 0 if both agree, with code 1 if they differ.

    If it is killed, run the same command again to resume.

    Args:
        directory: Folder of the finished run.
        out: Folder of the new run.
        threads: Threads per training step. Default: as recorded in the run.
        tolerance: Allowed difference if the environment differs, relative to the number or to 1, whichever is larger.
            In the same environment, all numbers must be equal.
        data_dir: Folder of the data. Default: $MPDVAE_DATA, else the user's cache folder.
        device: auto, cpu, cuda, mps, ... auto: the kind that the run was made on, if it is here.
        track: Experiment tracker that also receives the history of the new run; can be given several times.
    """
    import torch

    from mpdvae.commands import run as run_commands
    from mpdvae.system.process_group import cores
    from mpdvae.workflows import repetition
    from mpdvae.workflows.job import check_device, data_of, made_on, on_device
    from mpdvae.workflows.progress_display import plain, print_line, stdout

    _check_tolerance(tolerance)
    used = device_for(device, made_on(directory))
    check_device(used)
    check_installed(track)
    original = repetition.original(directory, out)
    threads = threads or repetition.threads_of(original)
    again = repetition.begin(original, out)
    if again.status != "finished":
        run_commands._complete(again, threads, data_dir, used, track)
    torch.set_num_threads(threads or cores())  # for the measurements below, also if the run was already finished
    console = stdout()
    data = on_device(data_of(original, data_dir), used)
    repetition.measure_alike(original, again, data, lambda what: print_line(f"measuring: {what}", console))
    found = repetition.compare(original, again, tolerance)
    for sentence in found.sentences:
        console.print(plain(sentence))
    _print_compared(found.compared, found.tolerance, str(directory), str(out))
    if not found.agrees:
        raise RunError(f"{out}: differs from {directory}: {listed(found.faults, SHOWN_FILES)}.", topic="differs")
    tell(f"{out}: agrees with {directory}{_except(found.compared)}.")


def _check_tolerance(tolerance: float) -> None:
    if not 0 <= tolerance < float("inf"):
        raise InputError(f"--tolerance: expected a number >= 0, got {tolerance}.")


def _except(compared: "Sequence[Compared]") -> str:
    """Names the files whose numbers were measured by different methods, and so not compared."""
    others = [file for file in compared if file.is_of_another_method]
    names = [file.name for file in others]
    were = "was" if len(names) == 1 else "were"
    return f", but {listed(names, SHOWN_FILES)} {were} {others[0].note}" if others else ""


def _print_checks(checks: "Sequence[Check]") -> None:
    from mpdvae.workflows.progress_display import plain, stdout, table_of

    words = {"same": "same", "differs": "DIFFERS", "other": "other", "not recorded": "not recorded"}
    table = table_of("", "", "recorded", "now", "")
    for check in checks:
        cells = check.matter, check.name, check.noted, check.found, words[check.verdict]
        table.add_row(*(plain(cell) for cell in cells), style="bold red" if check.verdict == "differs" else None)
    stdout().print(table)


def _print_compared(compared: "Sequence[Compared]", tolerance: float, one: str, other: str) -> None:
    """Prints a line for each file, then the numbers that differ."""
    from rich.table import Column

    from mpdvae.workflows.progress_display import plain, stdout, table_of

    exactly = "to the last bit (the environment is the same)"
    asked = f"within {tolerance:g} (relative for numbers above 1)" if tolerance else exactly
    stdout().print(plain(f"\nNumbers must agree {asked}."))
    files = table_of("file", "numbers", "differing", "verdict")
    numbers = table_of("number", Column(plain(one)), Column(plain(other)), "difference")
    differing = [(file, pair) for file in compared if not file.is_of_another_method for pair in file.differing()]
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
