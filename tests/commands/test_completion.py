"""Completion: what is offered is what commands take, and real shells show it."""

import inspect
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command_line import call

from mpdvae.commands.cli import COMMANDS
from mpdvae.commands.completion import SCRIPTS, offered_by
from mpdvae.data import names
from mpdvae.experiments.recipes import all_recipes
from mpdvae.experiments.scales import SCALES

SECONDS_OF_A_KEY = 0.3

ENDINGS = [
    ("mpdvae tra", {"train", "traverse"}),
    ("mpdvae train mae-digits-sm", {"mae-digits-smoke"}),
    ("mpdvae tune vlae-mnist-minu", {"vlae-mnist-minutes"}),
    ("mpdvae train vae-digits-smoke --objective.div", {"--objective.diversity-weight"}),
    ("mpdvae train vae-digits-smoke --prior.kind ", {"standard-normal", "flow", "map-flow", "ar1", "vamp"}),
    ("mpdvae train vae-digits-smoke --encoder.head.kind del", {"delta"}),
    ("mpdvae train vae-digits-smoke --seed 1 --data.dataset frey", {"frey-faces"}),
    ("mpdvae reproduce --scale ", set(SCALES)),
    ("mpdvae reproduce --backend d", {"dask"}),
    ("mpdvae reproduce --dry-run --figure ", {"rate-distortion", "remedies"}),
    ("mpdvae reproduce --until", {"--until-decided"}),
    ("mpdvae comp", {"compare", "completion"}),
    ("mpdvae evaluate there --split v", {"validation"}),
    ("mpdvae data fe", {"fetch"}),
    ("mpdvae data --data-dir there fetch frey", {"frey-faces"}),
    ("mpdvae explain not-a-n", {"not-a-number"}),
    ("mpdvae export there --part ", {"encoder", "decoder"}),
    ("mpdvae explore mae-mn", {"mae-mnist"}),
    ("mpdvae completion f", {"fish"}),
]
"""A line at whose end the key is pressed, and what is offered."""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, offered = tmp_path_factory.mktemp("scripts"), offered_by(COMMANDS)
    paths = {shell: folder / f"_mpdvae.{shell}" for shell in SCRIPTS}
    for shell, path in paths.items():
        path.write_text(SCRIPTS[shell](offered))
    return paths


def shell(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def test_every_shell_gets_its_script(capsys, scripts):
    for name, path in scripts.items():
        assert call(capsys, "completion", name) == (0, path.read_text(), "")


# -- what is offered ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "train"])
def test_options_are_those_of_the_help(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "200")
    offered = offered_by(COMMANDS)[name]
    shown = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", call(capsys, name, "--help")[1].split("options", 1)[1]))
    negated = {option for option in shown if option.startswith("--no-")}
    assert offered.options.keys() | offered.flags.keys() == shown - negated
    assert (offered.summary + ".") in (inspect.getdoc(COMMANDS[name]) or "")


KINDS = [
    (option, kind)
    for option, value in offered_by(COMMANDS)["train"].options.items()
    if option.endswith(".kind")
    for kind in value.choices
]


@pytest.mark.parametrize("asking", ["--help", "--help-all"])
@pytest.mark.parametrize(("option", "kind"), KINDS)
def test_fields_are_those_of_the_help_with_any_kind(capsys, monkeypatch, option, kind, asking):
    monkeypatch.setenv("COLUMNS", "200")
    offered = offered_by(COMMANDS)["train"]
    code, out, _ = call(capsys, "train", "mae-digits-smoke", option, kind, asking)
    assert code == 0
    shown = set(re.findall(r"(?<![\w.-])--[a-z][\w.-]*", out.split("options", 1)[1])) - {"--help-all"}
    assert shown <= offered.options.keys() | offered.flags.keys()


def test_recipes_and_data_sets_are_those_that_there_are():
    offered = offered_by(COMMANDS)
    assert set(offered["train"].positions[0].choices) == all_recipes().keys()
    assert offered["train"].positions[0].files
    assert set(offered["train"].options["--data.dataset"].choices) == set(names())


# -- in shells ---------------------------------------------------------------------------------------------------------


def in_bash(script: Path, line: str, folder: Path) -> tuple[set[str], str]:
    words = " ".join(f"'{word}'" for word in re.split(r" |(?<==)|(?==)", line))
    words_of_it = f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))"
    program = f"""source {script}; {words_of_it}; _mpdvae; printf "%s\\n" "${{COMPREPLY[@]}}" """
    done = subprocess.run([shell("bash"), "-c", program], capture_output=True, text=True, check=True, cwd=folder)
    return set(done.stdout.split()), done.stderr


@pytest.mark.parametrize(("line", "expected"), ENDINGS)
def test_bash_offers(scripts, tmp_path, line, expected):
    began = time.monotonic()
    assert in_bash(scripts["bash"], line, tmp_path) == (expected, "")
    assert time.monotonic() - began < SECONDS_OF_A_KEY * 3  # with the start of the shell, on a busy machine


@pytest.mark.parametrize(("line", "expected"), [("smo", {"smoke"}), ("", set(SCALES))])
def test_bash_offers_after_an_equals_sign(scripts, tmp_path, line, expected):
    assert in_bash(scripts["bash"], f"mpdvae reproduce --scale={line}", tmp_path) == (expected, "")


def test_bash_offers_files_beside_names(scripts, tmp_path):
    (tmp_path / "mae-of-mine.json").touch()
    (tmp_path / "runs").mkdir()
    assert in_bash(scripts["bash"], "mpdvae train mae-of", tmp_path) == ({"mae-of-mine.json"}, "")
    for command in ("evaluate", "report r s", "resume --threads 2"):
        assert in_bash(scripts["bash"], f"mpdvae {command} ru", tmp_path) == ({"runs"}, "")


@pytest.mark.parametrize(("line", "expected"), ENDINGS)
def test_fish_offers(scripts, tmp_path, line, expected):
    program = f"source {scripts['fish']}; complete -C '{line}'"
    command = [shell("fish"), "-N", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stderr == ""
    offered = {entry.split("\t")[0] for entry in done.stdout.splitlines()}
    assert expected <= offered
    beside = {name for name in offered - expected if not line.endswith(" ")}
    assert beside <= ({"frey-faces"} if line == "mpdvae data fe" else set())


class Typed:
    """A shell at a terminal."""

    def __init__(self, folder: Path, *command: str) -> None:
        pid, self.terminal = pty.fork()
        if pid == 0:
            os.chdir(folder)
            os.execvpe(command[0], command, {"HOME": str(folder), "TERM": "dumb", "PATH": os.environ["PATH"]})
        self.pid = pid

    def answer(self, keys: str, awaited: str) -> str:
        """What the terminal shows until it has shown `awaited`."""
        os.write(self.terminal, keys.encode())
        shown, until = "", time.monotonic() + 20
        while awaited not in shown and time.monotonic() < until:
            if select.select([self.terminal], [], [], 0.1)[0]:
                shown += os.read(self.terminal, 65536).decode(errors="replace")
        return shown

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


@pytest.mark.parametrize(
    ("keys", "completed"),
    [
        ("mpdvae reprod\t", "mpdvae reproduce "),
        ("mpdvae train mae-digits-sm\t", "mpdvae train mae-digits-smoke "),
        ("mpdvae reproduce --scale=mi\t", "--scale=minutes "),
        ("mpdvae train x --prior.kind v\t", "--prior.kind vamp "),
        ("mpdvae data fetch fr\t", "fetch frey-faces "),
    ],
)
@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_the_key_at_a_terminal(scripts, tmp_path, name, keys, completed):
    """The whole way: the shell reads the script and the key, and writes the rest of the word."""
    if name == "bash":
        typed = Typed(tmp_path, shell("bash"), "--norc", "--noprofile", "-i")
        typed.answer(f"source {scripts['bash']}; echo re''ady\n", "ready")
    else:
        (tmp_path / "functions").mkdir()
        shutil.copy(scripts["zsh"], tmp_path / "functions" / "_mpdvae")
        typed = Typed(tmp_path, shell("zsh"), "-f", "-i")
        typed.answer("fpath=(~/functions $fpath); autoload -Uz compinit; compinit -u -D; echo re''ady\n", "ready")
    try:
        assert completed in typed.answer(keys, completed)
    finally:
        typed.close()
