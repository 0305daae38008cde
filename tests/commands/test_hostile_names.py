"""Names that a terminal would obey: of folders, files and pictures. Whatever they are called, a message has the lines that it
has for a harmless name, and a terminal has nothing to obey."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from hostile_text import HOSTILE
from PIL import Image

from mpdvae.data.image_folder import read_image_folder
from mpdvae.errors import InputError, RunError, in_words, printable
from mpdvae.system.untrusted_text import tell

NAMES = {key: text.replace("/", "-").replace("\0", "-") for key, text in HOSTILE.items()} | {"bytes": "a\udcff\udc9bb"}
EACH = pytest.mark.parametrize("name", NAMES.values(), ids=list(NAMES))
HARMLESS = "harmless"


def shown(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, int, int]:
    """Returns the exit code and the numbers of lines of `mpdvae ARGUMENTS`, of which a terminal obeys nothing."""
    code, out, err = call(capsys, *arguments)
    assert {c for c in out + err if not c.isprintable()} <= {"\n"}, (out, err)
    (out + err).encode()
    return code, out.count("\n"), err.count("\n")


COMMANDS = {
    "resume": ["resume", "{}"],
    "diagnose": ["diagnose", "{}"],
    "verify": ["verify", "{}", "--quick"],
    "sample": ["sample", "{}", "--count", "1", "--out", "{}/x.png"],
    "report": ["report", "{}", "--out", "{}/x.html"],
    "train": ["train", "vae-digits-smoke", "--out", "{}"],
    "compare": ["compare", "{}", "{}"],
    "export": ["export", "{}", "--out", "{}/x.onnx"],
}


WOULD_TRAIN = {("train", "nothing"), ("train", "an empty folder")}


@pytest.mark.parametrize(
    ("command", "there"),
    sorted(
        {(command, there) for command in COMMANDS for there in ("nothing", "a file", "an empty folder")} - WOULD_TRAIN
    ),
)
@EACH
def test_a_message_about_a_bad_name_is_one_line(tmp_path, capsys, name, there, command):
    found = []
    for called in (name, HARMLESS):
        path = tmp_path / called
        if there == "a file":
            path.write_text("x")
        elif there == "an empty folder":
            path.mkdir()
        found.append(shown(capsys, *(word.format(path) for word in COMMANDS[command])))
    assert found[0] == found[1]
    assert found[0][0] in (1, 2)


@pytest.mark.parametrize("command", ["resume", "verify", "sample", "report"])
@pytest.mark.parametrize("name", [NAMES["terminal"], NAMES["lines"], NAMES["direction"], NAMES["bytes"]])
def test_a_run_of_any_name_can_be_used(finished, tmp_path, capsys, name, command):
    shutil.copytree(finished, tmp_path / name)
    assert shown(capsys, *(word.format(tmp_path / name) for word in COMMANDS[command]))[0] in (0, 1)


@EACH
def test_a_message_about_a_picture_is_one_line(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "a.png")
    (folder / f"b{name}.png").write_bytes(b"no picture")
    with pytest.raises(InputError) as caught:
        read_image_folder(folder)
    assert str(caught.value).isprintable()


@EACH
def test_every_error_is_one_line_of_text(capsys, name):
    for error in (InputError(f"{name}: no."), RunError(f"{name}: no.")):
        assert str(error) == printable(f"{name}: no.")
    assert str(RunError(name, parts=[name, name])).count("\n") == 2
    assert in_words(OSError(2, "No such file", name)).isprintable()
    tell(name, name)
    assert capsys.readouterr().out.count("\n") == 2
