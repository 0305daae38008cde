"""Errors in the options of commands: one sentence each, in the style of all others."""

import re

import pytest
from command_line import call

from mpdvae.commands import usage_errors
from mpdvae.commands.cli import COMMANDS
from mpdvae.commands.option_names import nearest, option_names
from mpdvae.errors import listed

TRAIN = ("train", "mae-digits-smoke", "--out", "OUT")
WRONG = {
    "a misspelt option": (
        (*TRAIN, "--training.learningrate", "0.1"),
        "unknown option --training.learningrate: did you mean --training.learning-rate?",
    ),
    "an option whose description names another": (
        ("evaluate", "x", "--sample", "3"),
        "unknown option --sample: did you mean --samples?",
    ),
    "an option of nothing": (("report", "a", "--out", "x.html", "--zzzzzz"), "unknown option --zzzzzz"),
    "a further argument": (
        ("sample", "x", "--out", "y.png", "extra"),
        "expected options, got the further argument 'extra'",
    ),
    "a choice": (
        (*TRAIN, "--training.precision", "float3"),
        "--training.precision: expected float32, bfloat16 or auto, got 'float3': did you mean 'float32'?",
    ),
    "a choice of a command": (("reproduce", "--backend", "foo"), "--backend: expected loky, ray or dask, got 'foo'"),
    "no value": (("sample", "x", "--count"), "--count: expected a value, got none"),
    "no number": (("evaluate", "x", "--samples", "a"), "--samples: expected a whole number or None, got 'a'"),
    "a fraction": (("reproduce", "--jobs", "1.5"), "--jobs: expected a whole number or None, got '1.5'"),
    "no real number": (
        (*TRAIN, "--training.learning-rate", "fast"),
        "--training.learning-rate: expected a number, got 'fast'",
    ),
    "one of several": ((*TRAIN, "--encoder.channels", "8", "a"), "--encoder.channels: expected whole numbers, got"),
    "what is required": (TRAIN[:2], "expected --out PATH (Folder of the run."),
    "two that are required": (("sample",), "and --out PATH (Path of the PNG), got neither"),
    "a value of a flag": ((*TRAIN, "--training.compile", "yes"), "expected options, got the further argument 'yes'"),
}


RECIPE = "mae-digits-smoke"
SLIPS = {
    ("reproduce", "--seed", "3"): "--seeds",
    ("recipes", "--hel"): "--help",
    ("models", "--hepl"): "--help",
    ("train", RECIPE, "--learning-rate", "0.1"): "--training.learning-rate",
    ("train", RECIPE, "--learning-rate=0.1", "--out", "OUT"): "--training.learning-rate",
    ("train", RECIPE, "--learning_rate=0.1", "--out", "OUT"): "--training.learning-rate",
    ("train", RECIPE, "--lr", "0.1"): "--training.learning-rate",
    ("train", RECIPE, "--training.lr=0.1"): "--training.learning-rate",
    ("train", RECIPE, "--objective.learning-rate", "0.1"): "--training.learning-rate",
    ("train", RECIPE, "--batch=8"): "--training.batch-size",
    ("train", RECIPE, "--stpes", "8"): "--training.steps",
    ("train", RECIPE, "--diversity", "2"): "--objective.diversity-weight",
    ("train", RECIPE, "--no-pictures"): "--evaluation.no-pictures",
    ("train", RECIPE, "--help-al"): "--help-all",
    ("train", RECIPE, "--outt", "OUT"): "--out",
    ("train", RECIPE, "-o", "OUT"): "--out",
    ("train", RECIPE, "--out", "OUT", "--objective.kl-weight", "1"): (
        "--objective.kl-weight.kind or --objective.kl-weight.value"
    ),
    ("resume", "x", "--treads", "2"): "--threads",
    ("evaluate", "x", "--sample=3"): "--samples",
    ("evaluate", "x", "--referee-step", "3"): "--referee-steps",
    ("diagnose", "x", "--al"): "--all",
    ("diagnose", "--al"): "--all",
    ("verify", "x", "--tolerence", "2"): "--tolerance",
    ("rerun", "x", "--output", "y"): "--out",
    ("encode", "x", "--datadir", "y"): "--data-dir",
    ("sample", "x", "--outt", "y"): "--out",
    ("sample", "--cuont", "y"): "--count",
    ("reconstruct", "x", "--outt=y"): "--out",
    ("traverse", "x", "--oout", "y"): "--out",
    ("tune", "x", "--outt=y"): "--out",
    ("explore", "x", "--prot", "1"): "--port",
    ("report", "x", "--outt", "y.html"): "--out",
    ("compare", "x", "y", "--hlep"): "--help",
    ("export", "x", "--oout", "y"): "--out",
    ("data", "list", "--data_dri", "x"): "--data-dir",
    ("import-official", "x", "y", "--datset", "mnist"): "--dataset",
    ("explain", "memory", "--halp"): "--help",
    ("completion", "bash", "--halp"): "--help",
    ("--versoin",): "--version",
    ("--partz", "x.py", "train"): "--parts",
}
"""What is typed and what is meant."""


@pytest.mark.parametrize("arguments", SLIPS, ids=" ".join)
def test_a_misspelt_option_is_told_with_the_one_meant(capsys, tmp_path, arguments):
    code, out, err = call(capsys, *[str(tmp_path / "run") if word == "OUT" else word for word in arguments])
    wrong = next(word.partition("=")[0] for word in arguments if word.startswith("-") and word != "--out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"mpdvae: unknown option {wrong}: did you mean {SLIPS[arguments]}? `mpdvae ")
    assert not (tmp_path / "run").exists()


def test_slips_are_tried_on_every_command():
    assert {arguments[0] for arguments in SLIPS if not arguments[0].startswith("-")} == COMMANDS.keys()


@pytest.mark.parametrize(
    ("option", "together"),
    [
        ("--prior.components=3", "--prior.kind vamp"),
        ("--encoder.head.rate-nats", "--encoder.head.kind delta"),
        ("--objective.kl_weight.warm_up_steps", "--objective.kl-weight.kind linear"),
    ],
)
def test_an_option_of_other_kinds_is_told_with_them(capsys, option, together):
    code, _, err = call(capsys, "train", RECIPE, option, "3")
    assert code == 2
    assert f"unknown option {option.partition('=')[0]}: expected together with {together};" in err


def options_of(help_text: str) -> set[str]:
    """The options that a help lists, with what switches them off."""
    first = re.findall(r"^[^\w-]{1,3}(?:-h, )?(--[a-z][\w.-]*)(?:, (--[\w.-]+))?", help_text, re.M)
    return {name for names in first for name in names if name}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "train"])
def test_the_options_known_are_those_of_the_help(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "100")
    assert options_of(call(capsys, name, "--help")[1]) == set(option_names(COMMANDS[name]))


@pytest.mark.parametrize("recipe", [RECIPE, "delta-vae-mnist-minutes", "mae-cifar10-hours"])
def test_the_options_known_of_a_recipe_are_those_of_its_help(capsys, monkeypatch, recipe):
    monkeypatch.setenv("COLUMNS", "100")
    shown = options_of(call(capsys, "train", recipe, "--help-all")[1])
    known: list[str] = []
    monkeypatch.setattr(usage_errors, "unknown_option", lambda arguments, names: known.extend(names) or "wrong")
    assert call(capsys, "train", recipe)[0] == 2
    assert shown == set(known) - {"--help-all"}


def test_names_that_are_not_alike_suggest_nothing_and_long_ones_take_no_time():
    assert nearest("--zzzzzz", ["--out", "--training.steps"]) == []
    assert nearest(f"--{'x' * 10**6}", ["--out"]) == []
    assert len(nearest("--weight", [f"--objective.{word}-weight" for word in "abcdef"])) == 3


@pytest.mark.parametrize("columns", ["40", "200"])
@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_errors_in_options_are_one_sentence(capsys, tmp_path, monkeypatch, arguments, message, columns):
    """Whatever the width of the terminal."""
    monkeypatch.setenv("COLUMNS", columns)
    named = [str(tmp_path / "run") if word == "OUT" else word for word in arguments]
    code, out, err = call(capsys, *named)
    assert (code, out) == (2, "")
    assert err.startswith("mpdvae: ")
    assert err.count("\n") == 1
    assert message in err
    assert f"`mpdvae {arguments[0]}" in err
    assert "--help` lists the options." in err
    assert not any(mark in err for mark in "╭│─")
    assert not (tmp_path / "run").exists()


def test_help_is_still_help(capsys):
    code, out, err = call(capsys, "sample", "--help")
    assert (code, err) == (0, "")
    assert "--count" in out


def test_lists_of_words():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b"], last="or") == "a or b"
    assert listed(list("abcdef"), 5) == "a, b, c, d, e and 1 more"
    assert listed(list("abcde"), 5) == "a, b, c, d and e"
