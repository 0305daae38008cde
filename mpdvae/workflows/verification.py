"""Verifies that a run folder is unchanged, and that its weights reproduce its numbers.

    files           each against its SHA-256 in the manifest, which has a SHA-256 of its own
    configuration   must be valid, and that of the model stored with the weights
    data            the hash of the images, labels and split present now
    environment     that of the evaluation against the present one
    numbers         measured again from the weights, with the options recorded in each file, in a separate folder

In the same environment, numbers must be equal to the last bit; in a different one they may differ by a tolerance
(`result_comparison`). A different environment is not a fault of the run: it is reported, and determines how closely the
numbers must agree. The run folder is only read.
"""

import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from mpdvae.data import Splits
from mpdvae.errors import InputError, RunError
from mpdvae.runs import environment
from mpdvae.runs.checksums import LARGEST_FILE, run_files, sha256_of
from mpdvae.runs.model_folder import model_experiment
from mpdvae.runs.records import Manifest, MeasuredDensity, check
from mpdvae.runs.run_folder import Run, differing_fields, manifest_sha256
from mpdvae.system.atomic_files import read_json
from mpdvae.system.closed_folder import Inside
from mpdvae.workflows.job import data_of, on_device
from mpdvae.workflows.result_comparison import Compared, compare

TOLERANCE = 0.005
"""Default tolerance for numbers from another environment; see `result_comparison`."""
OPTIONS: Mapping[str, tuple[str, type]] = {
    "--samples": ("samples", int),
    "--images": ("images", int),
    "--tolerance": ("tolerance", float),
    "--protocol": ("protocol", str),
    "--split": ("split", str),
    "--referee": ("referee_images", int),
    "--referee-steps": ("referee_steps", int),
    "--precision": ("precision", str),
    "--proposal": ("proposal", str),
}
"""Options with values in the command of density.json: the matching argument of `run_evaluation.evaluate` and its type."""

MOST = 10**6
"""Largest number in a command that is repeated: with more samples, images or steps it would never end."""

Verdict = Literal["same", "differs", "other", "not recorded"]
"""`other`: different, but not a fault."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Check:
    """One recorded value, compared with the present one."""

    matter: str
    name: str
    noted: str
    found: str
    verdict: Verdict


@dataclass
class Verification:
    """Result of `verify`."""

    checks: list[Check] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)
    """Result files as recorded and as measured again; empty if nothing was measured."""
    tolerance: float = 0.0
    """Tolerance within which numbers had to agree; zero in the same environment."""
    unmeasured: str = ""
    """Why nothing was measured again; empty if it was."""

    @property
    def faults(self) -> list[str]:
        """Names of everything that does not agree."""
        files = [f"numbers of {c.name}" for c in self.compared if not c.agrees(self.tolerance)]
        return [f"{c.matter} {c.name}".strip() for c in self.checks if c.verdict == "differs"] + files

    @property
    def agrees(self) -> bool:
        return not self.faults


def verify(
    folder: Path,
    *,
    data_root: Path | None = None,
    quick: bool = False,
    tolerance: float = TOLERANCE,
    device: str | None = None,
    say: Say = lambda _: None,
) -> Verification:
    """Checks the run in `folder` and measures it again.

    Arguments:
        folder: folder of a run made by any version.
        data_root: folder of the data; None: the default one.
        quick: only check; measure nothing.
        tolerance: tolerance for numbers if the environment differs or was not recorded.
        device: device for the measurement; None: the CPU.
        say: called with the name of each stage before it starts.

    Raises:
        InputError: if `folder` is not a run folder, or torch cannot use `device`.
    """
    files = Inside(folder)
    if not any((files / name).is_file() for name in ("experiment.json", "manifest.json")):
        raise InputError(
            f"{folder}: not a run folder; give a folder created by `mpdvae train ... --out`.", topic="not-a-run"
        )
    found = Verification()
    say("files")
    manifest = _check_manifest(folder, found.checks)
    _check_files(folder, manifest.get("files", {}), found.checks)
    run = _check_configuration(folder, found.checks)
    if run is None:
        return found
    say("data")
    data = _check_data(run, manifest, data_root, found.checks)
    with _threads_of(manifest):
        now = environment.describe(device or "cpu")
        found.tolerance = 0.0 if _check_environment(manifest, now, found.checks) else tolerance
        found.unmeasured = _unmeasured_because(manifest, data, quick, found)
        if data is not None and not found.unmeasured:
            _measure_again(run, on_device(data, device), found, say)
    return found


def measurements(folder: Path) -> list[dict[str, Any]]:
    """Returns the arguments of `run_evaluation.evaluate` that produced each density*.json in `folder`. Raises `InputError`
    if a recorded command is invalid."""
    return [_arguments(path) for path in Inside(folder).files("density*.json")]


def results_of(folder: Path) -> list[str]:
    """Returns the names of the files in `folder` that were written by an evaluation."""
    made_by_training = ("experiment.json", "history.jsonl")
    return [
        name
        for name in run_files(folder)
        if name not in made_by_training and not name.startswith(("model/", "checkpoints/"))
    ]


def _arguments(path: Inside) -> dict[str, Any]:
    content = check(MeasuredDensity, read_json(path), str(path), "`mpdvae evaluate` recreates it")
    try:
        words = shlex.split(content.get("command", ""))
        compiled = {"compiled": True} if "--compiled" in words else {}
        words = [word for word in words if word != "--compiled"]
        names, values = words[3::2], words[4::2]
        if words[:2] != ["mpdvae", "evaluate"] or len(names) != len(values):
            raise ValueError
        given = {OPTIONS[name][0]: OPTIONS[name][1](value) for name, value in zip(names, values, strict=True)}
        if any(isinstance(value, int) and abs(value) > MOST for value in given.values()):
            raise ValueError
        return {"proposal": "encoder"} | given | compiled  # earlier versions, which record none, had no other
    except (ValueError, KeyError):
        raise InputError(f"{path.name}: records no command that can measure it again.") from None


def _check_manifest(folder: Path, checks: list[Check]) -> dict[str, Any]:
    """Returns the manifest; empty if it is missing, damaged or changed, so that nothing in it is trusted."""
    try:
        path = Inside(folder) / "manifest.json"
        content = check(Manifest, read_json(path), str(path), "")
        noted = content.get("sha256")
    except InputError:
        checks.append(Check("manifest", "", "", "missing or damaged", "differs"))
        return {}
    if noted is None:
        checks.append(Check("manifest", "", "", "", "not recorded"))
        return content
    found = manifest_sha256(content)
    checks.append(Check("manifest", "", noted[:12], found[:12], "same" if found == noted else "differs"))
    return content if found == noted else {}


def _check_files(folder: Path, noted: Mapping[str, str], checks: list[Check]) -> None:
    files = run_files(folder)
    for name in sorted(noted.keys() | files.keys()):
        found = sha256_of(files[name]) if name in files else "missing"
        verdict = "not recorded" if name not in noted else "same" if noted[name] == found else "differs"
        checks.append(Check("file", name, noted.get(name, "")[:12], found[:12], verdict))


def _check_configuration(folder: Path, checks: list[Check]) -> Run | None:
    try:
        run = Run(folder)
        of_model = model_experiment(folder) if (run.folder / "model").is_dir() else run.experiment
    except InputError as error:
        checks.append(Check("configuration", "", "valid", str(error), "differs"))
        return None
    others = differing_fields(run.experiment, of_model)
    found = f"the model's differs in {', '.join(others)}" if others else "valid"
    checks.append(Check("configuration", "", "valid", found, "differs" if others else "same"))
    return run


def _check_data(run: Run, manifest: Mapping[str, Any], root: Path | None, checks: list[Check]) -> Splits | None:
    noted = (manifest.get("data") or {}).get("sha256", "")
    name = run.experiment.data.dataset
    try:
        data = data_of(run, root)
    except InputError as error:
        checks.append(Check("data", name, noted[:12], str(error), "differs"))
        return None
    verdict = "not recorded" if not noted else "same" if noted == data.sha256 else "differs"
    checks.append(Check("data", name, noted[:12], data.sha256[:12], verdict))
    return data


def _check_environment(manifest: Mapping[str, Any], now: environment.Fields, checks: list[Check]) -> bool:
    """Returns whether the run was measured in the present environment alone, as far as can be known: it is not recorded
    which of several environments an old number comes from."""
    found: dict[Check, None] = {}
    all_noted = environment.recorded(manifest, environment.EVALUATION) or [{}]
    for noted in all_noted:
        for name in environment.differing(noted, now):
            found[Check("environment", name, str(noted[name]), str(now[name]), "other")] = None
        if missing := [name for name in now if name not in noted and name not in environment.HARMLESS]:
            found[Check("environment", ", ".join(missing), "", "", "not recorded")] = None
    checks += found
    if equal := all(environment.same(noted, now) for noted in all_noted):
        checks.append(Check("environment", f"{len(now)} fields", "", "", "same"))
    return equal


def _unmeasured_because(manifest: Mapping[str, Any], data: Splits | None, quick: bool, found: Verification) -> str:
    if quick:
        return "--quick"
    if data is None or any(c.matter in {"data", "configuration"} and c.verdict == "differs" for c in found.checks):
        return "the data or the configuration needed to measure it is not available"
    if manifest and manifest.get("status") != "finished":
        return f"the run is not finished ({manifest.get('status', 'new')})"
    return ""


def _measure_again(run: Run, data: Splits, found: Verification, say: Say) -> None:
    with TemporaryDirectory(prefix="mpdvae-verify-") as aside:
        again = Path(aside) / "run"
        try:
            measure_aside(run, again, data, say)
            found.compared = compare_results(run.path, again)
        except (InputError, RunError, ValueError) as error:
            reason = str(error).replace(str(again), str(run.path)).split("\n")[0]
            found.checks.append(Check("numbers", "", "", f"cannot be measured again: {reason}", "differs"))


def measure_aside(run: Run, folder: Path, data: Splits, say: Say) -> None:
    """Repeats all measurements of `run` with their options, and writes the results to `folder`, which must be new."""
    from mpdvae.evaluation.run_evaluation import evaluate

    folder.mkdir()
    for path in [run.folder / "experiment.json", *(run.folder / "model").files()]:
        copy(path, Inside(folder, path.parts))
    for arguments in measurements(run.path):
        evaluate(Run(folder), data, say=say, **arguments)


def copy(path: Inside, to: Inside) -> None:
    """Copies a file of a run, whatever its size, without following links."""
    to.parent.mkdir()
    with path.open(LARGEST_FILE) as source, to.path.open("xb") as target:
        shutil.copyfileobj(source, target)


def compare_results(one: Path, other: Path) -> list[Compared]:
    """Compares the results in the two folders, number by number."""
    names, others = results_of(one), results_of(other)
    compared = [compare(name, one, other) for name in names if name in others]
    compared += [Compared(name, True, note="measured now, but not in the run") for name in others if name not in names]
    return compared


@contextmanager
def _threads_of(manifest: Mapping[str, Any]) -> Iterator[None]:
    """Within the context, torch and numpy use as many threads as when the run was measured, if that was recorded."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    noted = (environment.recorded(manifest, environment.EVALUATION) or [{}])[-1]
    torch.set_num_threads(environment.threads_of(noted) or before)
    try:
        with threadpool_limits(environment.threads_of(noted, "blas_threads"), user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)
