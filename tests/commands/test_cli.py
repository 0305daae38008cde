"""The command line: help, every command, exit codes, interruption."""

import inspect
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from itertools import pairwise

import pytest
from command_line import asked_for, call, start, wait_for
from PIL import Image
from small_runs import TINY_OPTIONS, files, results, tiny, trained

from mpdvae.commands import data as data_commands
from mpdvae.commands.cli import COMMANDS
from mpdvae.errors import InputError
from mpdvae.experiments.experiment import with_changes
from mpdvae.experiments.kl_weight_config import LinearWeight
from mpdvae.experiments.objective_config import ObjectiveConfig
from mpdvae.experiments.recipes import all_recipes, recipe
from mpdvae.runs.run_folder import Run
from mpdvae.version import __version__

# -- help --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_the_help_names_every_command_in_a_line_that_fits(capsys, arguments):
    code, out, err = call(capsys, *arguments)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 100
    assert 24 <= len(out.splitlines()) <= 40  # a screen
    first, rest = out.split("\ncommands\n")
    assert re.findall(r"^  mpdvae (\w+)", first, flags=re.M) == ["reproduce", "train", "sample"]
    assert len(rest.splitlines()) == len(COMMANDS) + 3
    assert rest.splitlines()[-1].startswith("mpdvae --parts FILE.py COMMAND")
    for name in COMMANDS:
        line = next(line for line in out.splitlines() if line.startswith(f"  {name} "))
        assert len(line.split(name, 1)[1].split()) >= 4


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "100")
    code, out, err = call(capsys, name, "--help")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 100
    assert (inspect.getdoc(COMMANDS[name]) or "").split("\n")[0].rstrip(".") in " ".join(out.split())


def test_the_help_of_a_recipe_lists_fields_with_their_defaults(capsys):
    code, out, _ = call(capsys, "train", "mae-digits-smoke", "--help")
    assert code == 0
    words = " ".join(out.replace("│", " ").split())
    for field in (
        "--out PATH",
        "--objective.diversity-weight FLOAT",
        "--training.steps INT",
        "--seed INT",
        "--threads",
    ):
        assert field in words
    assert "Creates a new instance" not in words
    assert "Constant weight of the KL: 1 is the ELBO, any other value a beta-VAE." in words
    assert "The paper's eta: makes posteriors differ in every latent dimension. (default: 1.0)" in words


def options_in(text: str) -> set[str]:
    return set(re.findall(r"^[│ ] {1,2}?(--[\w.-]+)", text, flags=re.M))


def test_the_short_help_of_a_recipe_shows_what_people_change(capsys):
    """About twenty options; `--help-all` shows the others, too, and all are accepted either way."""
    _, short, _ = call(capsys, "train", "mae-digits-smoke", "--help")
    _, every, _ = call(capsys, "train", "mae-digits-smoke", "--help-all")
    assert "--help-all shows all" in short
    assert 15 <= len(options_in(short)) <= 25
    assert options_in(short) < options_in(every)
    assert len(options_in(every)) > 90
    assert {"--out", "--training.steps", "--objective.diversity-weight", "--decoder.kind"} <= options_in(short)


@pytest.mark.parametrize("words", [(name,) for name in COMMANDS if name != "train"] + [("train", "mae-digits-smoke")])
def test_each_default_is_told_once(capsys, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "100")
    _, out, _ = call(capsys, *words, "--help")
    options = re.split(r"^[│ ] {1,2}?(?=-)", out, flags=re.M)[1:]
    assert options
    twice = [
        option for option in options if "default: " in option.replace("(default:", "").lower() and "(default:" in option
    ]
    assert twice == []


@pytest.mark.parametrize(
    "words", [(name, "--help") for name in COMMANDS if name != "train"] + [("train", "mae-digits-smoke", "--help-all")]
)
def test_descriptions_break_only_where_a_line_is_full(capsys, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "100")
    _, out, _ = call(capsys, *words)
    lines = [line.strip("│|").rstrip() for line in out.splitlines()]
    described = [(above, below) for above, below in pairwise(lines) if re.match(r" {6,}[^ -]", above + below)]
    described = [(above, below) for above, below in described if re.match(r" {6,}[^ (-]", below)]
    for above, below in described:
        assert len(above) + 1 + len(below.split()[0]) >= 94, (above, below)


def test_an_unknown_split_is_refused_before_anything_is_said(capsys, finished):
    code, out, err = call(capsys, "evaluate", finished, "--split", "foo")
    assert (code, out) == (2, "")
    assert err.startswith("mpdvae: --split: expected one of train, validation, test, got 'foo'")


def test_the_version(capsys):
    assert call(capsys, "--version") == (0, f"{__version__}\n", "")


def test_help_needs_no_torch():
    code = (
        "import sys; from mpdvae.commands.cli import main; main(['--help']); "
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"


def test_recipes_lists_them_all(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    code, out, _ = call(capsys, "recipes")
    assert code == 0
    for experiment in all_recipes().values():
        assert f"MODEL-{experiment.data.dataset}-{experiment.scale} " in out
        assert f"{experiment.model} " in out
        assert experiment.reproduces in out


@pytest.mark.parametrize("words", [("recipes",), ("models",), ("data", "list")])
def test_tables_wrap_where_there_is_no_terminal_and_names_stay_whole(capsys, monkeypatch, words):
    table = call(capsys, *words)[1].split("\n\n")[0]
    rows = [line for line in table.splitlines() if line.strip()]
    assert max(map(len, rows)) <= 120
    assert "…" not in table
    monkeypatch.setenv("COLUMNS", "1000")
    unwrapped = call(capsys, *words)[1].split("\n\n")[0]
    assert {line.split()[0] for line in unwrapped.splitlines() if line.strip()} <= {line.split()[0] for line in rows}
    assert sorted(unwrapped.split()) == sorted(table.split())


@pytest.mark.parametrize(
    "words",
    [("explain",), ("explain", "memory"), ("reproduce", "--dry-run", "--scale", "smoke"), ("report",)],
    ids=" ".join,
)
@pytest.mark.parametrize("width", [100, 120])
def test_sentences_and_tables_wrap_where_there_is_no_terminal(capsys, monkeypatch, finished, tmp_path, words, width):
    """At 120 columns, or at those of COLUMNS; paths of files stay whole."""
    monkeypatch.delenv("COLUMNS", raising=False)
    if width != 120:
        monkeypatch.setenv("COLUMNS", str(width))
    rest = (finished, "--out", tmp_path / "r.html") if words == ("report",) else ()
    code, out, err = call(capsys, *words, *rest)
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if str(tmp_path) not in line]
    assert max(map(len, lines)) <= width
    assert max(map(len, lines)) > 60


# -- training ----------------------------------------------------------------------------------------------------------


def test_any_field_can_be_changed(tmp_path, monkeypatch):
    made = asked_for(
        monkeypatch, "mae-digits-smoke", "--out", tmp_path / "run", "--seed", "3", "--objective.diversity-weight", "2.5",
        "--encoder.channels", "4", "5", "--training.clip-norm", "None", "--objective.kl-weight.value", "0.5",
        "--training.betas", "0.5", "0.9", "--evaluation.no-pictures",
    )  # fmt: skip
    assert made == with_changes(
        recipe("mae-digits-smoke"),
        seed=3,
        objective__diversity_weight=2.5,
        objective__kl_weight__value=0.5,
        encoder__channels=(4, 5),
        training__clip_norm=None,
        training__betas=(0.5, 0.9),
        evaluation__pictures=False,
    )


def test_without_options_the_recipe_itself_is_trained(tmp_path, monkeypatch):
    assert asked_for(monkeypatch, "mae-digits-smoke", "--out", tmp_path / "run") == recipe("mae-digits-smoke")


def test_an_experiment_in_a_file_is_trained(capsys, tmp_path):
    annealed = ObjectiveConfig(kl_weight=LinearWeight(warm_up_steps=4))
    experiment = with_changes(tiny("vae-digits-smoke"), name="mine", objective=annealed.model_dump())
    (tmp_path / "mine.json").write_text(experiment.to_json())
    code, out, _ = call(
        capsys, "train", tmp_path / "mine.json", "--out", tmp_path / "run",
        "--objective.kl-weight.warm-up-steps", "5", "--threads", "1",
    )  # fmt: skip
    assert code == 0
    assert "mine, seed 0" in out
    assert Run(tmp_path / "run").experiment == with_changes(experiment, objective__kl_weight__warm_up_steps=5)


def test_a_finished_run_is_left_alone(capsys, own_copy):
    before = files(own_copy)
    code, out, _ = call(capsys, "resume", own_copy)
    assert (code, out) == (0, f"{own_copy}: this run is already finished; its results are in the folder.\n")
    assert call(capsys, "train", "mae-digits-smoke", "--out", own_copy, *TINY_OPTIONS)[0] == 0
    assert files(own_copy) == before


@pytest.mark.slow
def test_the_command_of_a_run_is_noted(tmp_path, capsys, monkeypatch):
    arguments = ["train", "vae-digits-smoke", "--out", str(tmp_path / "run"), *TINY_OPTIONS]
    monkeypatch.setattr(sys, "argv", ["mpdvae", *arguments])
    assert call(capsys, *arguments)[0] == 0
    assert shlex.split(Run(tmp_path / "run").manifest["command"]) == ["mpdvae", *arguments]


def test_a_reader_that_has_seen_enough_is_no_error():
    """`mpdvae ... | head`"""
    command = [sys.executable, "-m", "mpdvae.commands.cli", "recipes"]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert program.stdout
    assert program.stderr
    program.stdout.close()
    assert (program.wait(60), program.stderr.read()) == (1, "")
    program.stderr.close()


def test_a_sentence_ends_before_the_next_begins(capsys, monkeypatch):
    def refuse(**_: object) -> None:
        raise InputError("x: use --y 1", topic="own-data")

    monkeypatch.setitem(COMMANDS, "recipes", refuse)
    assert call(capsys, "recipes") == (2, "", "mpdvae: x: use --y 1. `mpdvae explain own-data` says more.\n")


@pytest.mark.slow
def test_ctrl_c_loses_nothing(capsys, tmp_path):
    """Interrupted at a step that nobody chose; what `resume` ends with is what an uninterrupted run ends with."""
    steps = {"training__steps": 400, "training__evaluate_every": 50}
    options = [*TINY_OPTIONS, "--training.steps", "400", "--training.evaluate-every", "50", "--threads", "1"]
    process = start("train", "vae-digits-smoke", "--out", tmp_path / "run", *options)
    wait_for(tmp_path / "run" / "checkpoints" / "step-00000050.json", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == f"mpdvae: interrupted; `mpdvae resume {tmp_path / 'run'}` resumes from the last checkpoint.\n"
    assert Run(tmp_path / "run").history[-1]["step"] < 400
    assert call(capsys, "resume", tmp_path / "run", "--threads", "1")[0] == 0
    whole = results(trained(tmp_path / "whole", tiny("vae-digits-smoke", **steps)).path)
    again = results(tmp_path / "run")
    assert {name: again[name] for name in whole} == whole
    assert Run(tmp_path / "run").status == "finished"


# -- measuring and drawing ---------------------------------------------------------------------------------------------


def test_evaluate(capsys, own_copy):
    code, out, err = call(capsys, "evaluate", own_copy, "--samples", "3")
    assert (code, err) == (0, "")
    assert "10 images, 3 importance samples each" in out


@pytest.mark.parametrize(
    ("arguments", "rows", "columns"),
    [
        (("sample", "--count", "7"), 3, 3),
        (("sample",), 8, 8),
        (("reconstruct", "--count", "4"), 3, 4),
        (("traverse", "--dimensions", "2", "--columns", "5"), 2, 5),
        (("traverse",), 8, 9),
    ],
    ids=str,
)
def test_drawing(capsys, finished, tmp_path, arguments, rows, columns):
    command, *options = arguments
    pictures = [tmp_path / "new" / f"{i}.png" for i in range(3)]
    for picture, seed in zip(pictures, ("5", "5", "6"), strict=True):
        code, out, err = call(capsys, command, finished, "--out", picture, "--seed", seed, *options)
        assert (code, out.splitlines()[-1], err) == (0, str(picture), "")
    with Image.open(pictures[0]) as image:
        factor = 900 // (columns * 9 + 1)
        assert image.size == ((columns * 9 + 1) * factor, (rows * 9 + 1) * factor)
    same, other = pictures[1].read_bytes(), pictures[2].read_bytes()
    assert pictures[0].read_bytes() == same != other


def test_a_copied_model_folder_is_enough_to_draw(capsys, finished, tmp_path):
    shutil.copytree(finished / "model", tmp_path / "model")
    for command in ("sample", "reconstruct", "traverse"):
        assert call(capsys, command, tmp_path / "model", "--out", tmp_path / f"{command}.png")[0] == 0


def test_report(capsys, finished, tmp_path):
    code, out, _ = call(capsys, "report", finished, "--out", tmp_path / "r.html")
    assert code == 0
    assert out.splitlines()[-1] == f"report: {tmp_path / 'r.html'}"
    assert files(tmp_path).keys() == {"r.html", "r.md", "r.json"}


# -- data --------------------------------------------------------------------------------------------------------------


def test_data_list(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    code, out, _ = call(capsys, "data", "list", "--data-dir", tmp_path)
    assert code == 0
    from mpdvae.data import ENTRIES

    names = ["name", *(entry.name for entry in ENTRIES)]
    assert [line.split()[0] for line in out.splitlines()[: len(names)]] == names
    assert call(capsys, "data", "--data-dir", tmp_path)[1] == out


def test_data_path(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("MPDVAE_DATA", str(tmp_path / "variable"))
    assert call(capsys, "data", "path") == (0, f"{tmp_path / 'variable'}\n", "")
    assert call(capsys, "data", "path", "--data-dir", tmp_path) == (0, f"{tmp_path}\n", "")


def test_data_that_needs_no_fetching(capsys):
    assert call(capsys, "data", "fetch", "digits")[:2] == (
        0,
        "scikit-learn digits: included in scikit-learn, nothing to fetch\n",
    )
    code, out, _ = call(capsys, "data", "check", "digits")
    assert code == 0
    assert out.startswith("scikit-learn digits: the images match the known checksum")


# -- exit codes --------------------------------------------------------------------------------------------------------


def test_a_run_that_diverges_exits_with_1(capsys, tmp_path):
    code, _, err = call(
        capsys, "train", "vae-digits-smoke", "--out", tmp_path / "run", *TINY_OPTIONS, "--training.learning-rate", "1e3"
    )
    assert code == 1
    assert err.startswith("mpdvae: training: the loss or its gradient is no longer a finite number at step ")
    assert err.count("\n") == 1


def test_a_failing_disk_exits_with_1_in_one_sentence(capsys, own_copy, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = call(capsys, "sample", own_copy, "--out", own_copy / "x.png")
    assert code == 1
    assert err == (
        f"mpdvae: {own_copy / 'x.png'}: no space left on device: free some disk space; everything written before is "
        "intact, run the same command again to resume. `mpdvae explain disk` says more.\n"
    )


def test_interruption_elsewhere_exits_with_1(capsys, monkeypatch):
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(data_commands, "_list_data", interrupt)
    code, _, err = call(capsys, "data")
    assert code == 1
    assert "mpdvae: interrupted; finished work is saved, run the same command again to resume." in err
