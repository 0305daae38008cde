"""Errors in the options of commands: one sentence each, in the style of all others."""

import pytest
from command_line import call

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
