"""Calls the command line, in the process of the tests or in a new one."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mpdvae.commands import run as run_commands
from mpdvae.commands.cli import main
from mpdvae.experiments.experiment import Experiment, with_changes


def code_of(arguments: list[str]) -> int:
    """Returns the exit code of `mpdvae ARGUMENTS`, whether it returns or raises `SystemExit`."""
    try:
        return main(arguments)
    except SystemExit as exit:
        return int(exit.code or 0)


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Runs `mpdvae ARGUMENTS` in this process; returns exit code, standard output and standard error."""
    code = code_of([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


def asked_for(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> Experiment:
    """Returns the experiment that `mpdvae train ARGUMENTS` would train; reads no data, times and trains nothing."""
    made: list[Experiment] = []
    with monkeypatch.context() as patch:
        patch.setattr(run_commands, "_complete", lambda run, *rest: made.append(run.experiment))
        patch.setattr(run_commands, "_decided", lambda out, experiment, *rest: (_in_float32(experiment), None))
        patch.setattr("mpdvae.workflows.job.load_data", lambda *arguments: None)
        patch.setattr("mpdvae.workflows.job.check_fit", lambda *arguments: None)
        assert code_of(["train", *map(str, arguments)]) == 0
    (experiment,) = made
    return experiment


def _in_float32(experiment: Experiment) -> Experiment:
    return with_changes(experiment, training__precision="float32")


def start(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """Starts `mpdvae ARGUMENTS` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "mpdvae.commands.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        start_new_session=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Waits until `path` exists, for at most 60 seconds."""
    until = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
