"""The tutorial about own images is true: its blocks run one after the other, on a folder made here.

They are marked `py` and `bash`, not `python` and `sh`: they need that folder, and no test takes them alone.
"""

import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from PIL import Image, ImageDraw
from small_runs import TINY_OPTIONS, results

import mpdvae
from mpdvae.data import own

PAGE = (Path(__file__).parents[2] / "docs" / "own-images.md").read_text()
BLOCKS = re.findall(r"```(py|bash)\n(.*?)```", PAGE, flags=re.S)


def draw_pictures(folder: Path, count: int = 70) -> None:
    """Circles and squares of 12 x 12 pixels at random places."""
    random = np.random.default_rng(0)
    for shape in ("circle", "square"):
        (folder / shape).mkdir(parents=True)
        for number in range(count):
            picture = Image.new("L", (12, 12))
            left, top = random.integers(0, 6, 2).tolist()
            pen = ImageDraw.Draw(picture)
            draw = pen.ellipse if shape == "circle" else pen.rectangle
            draw((left, top, left + 5, top + 5), fill=255)
            picture.save(folder / shape / f"{number:04}.png")


def test_the_command_for_colour_pictures_trains_a_likelihood(tmp_path, capsys):
    """As written on the page, in fewer steps. Pixels are uniform over 256 levels: no distribution can, on average, have a
    negative log-likelihood below their entropy, and one that fits badly has few times that."""
    random = np.random.default_rng(0)
    (tmp_path / "FOLDER").mkdir()
    for number in range(60):
        pixels = random.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "FOLDER" / f"{number:02}.png")
    (command,) = re.findall(r"`mpdvae (train vae-digits-smoke [^`]*levels[^`]*)`", PAGE)
    words = [
        str(tmp_path / word) if word in ("FOLDER", "DIR") else word for word in shlex.split(command.replace("\n", " "))
    ]
    code, _, err = call(capsys, *words, *TINY_OPTIONS)
    assert (code, err) == (0, "")
    nll = json.loads((tmp_path / "DIR" / "density.json").read_text())["nll_nats"]["mean"]
    entropy = 3 * 144 * math.log(256)
    assert 0.99 * entropy < nll < 10 * entropy


def draw_mixture(folder: Path) -> None:
    """Pictures of many sizes and forms, and a file that is none."""
    random = np.random.default_rng(0)
    for number in range(60):
        height, width = random.integers(8, 30, 2).tolist()
        image = Image.fromarray(random.integers(0, 256, (height, width, 4), dtype=np.uint8), "RGBA")
        path = folder / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        (image if number % 3 else image.convert("L")).save(path)
    (folder / "notes.txt").write_text("")


PREPARED = ["--data.resize", "8x9", "--data.colours", "grey", "--data.flip", "--data.shift", "1"]


def train_mixture(capsys, folder: Path, out: Path) -> str:
    draw_mixture(folder)
    words = ["--data.dataset", "own", "--data.path", folder, *PREPARED, "--out", out, *TINY_OPTIONS]
    code, said, err = call(capsys, "train", "vae-digits-smoke", *words)
    assert (code, err) == (0, "")
    return said


def test_pictures_of_every_size_are_prepared_alike_in_training_and_later(tmp_path, capsys):
    said = train_mixture(capsys, tmp_path / "FOLDER", tmp_path / "DIR")
    reading = (
        "read 60 pictures of 8x9 in 2 classes (a and b); put 40 with transparency on grey level 255; left out 1 "
        "file without pictures: notes.txt"
    )
    line = f"{tmp_path}/FOLDER: {reading}"
    assert said.splitlines().count(line) == 1
    noted = json.loads((tmp_path / "DIR" / "manifest.json").read_text())["data"]
    assert noted["reading"] == reading
    assert noted["protocol"].startswith("own data FOLDER (grey, scaled and cropped to 8x9) 8x9, dynamic binarisation")

    vae = mpdvae.load(tmp_path / "DIR")
    with pytest.warns(UserWarning, match=r"FOLDER: left out 1 file without pictures: notes\.txt"):
        x = vae.preprocess(tmp_path / "FOLDER")
    files = sorted((tmp_path / "FOLDER").rglob("*.png"))
    assert x.shape == (60, 1, 8, 9)
    assert x.equal(vae.preprocess(files))
    assert x.equal(vae.preprocess([Image.open(file) for file in files]))
    assert x[21:22].equal(vae.preprocess(np.asarray(Image.open(files[21]))))
    code, said, _ = call(capsys, "encode", tmp_path / "DIR", tmp_path / "FOLDER", "--out", tmp_path / "codes.npz")
    assert (code, said.splitlines()[-2:]) == (0, [line, str(tmp_path / "codes.npz")])
    assert len(np.load(tmp_path / "codes.npz")["mean"]) == 60


def test_a_run_on_stored_pictures_has_the_bytes_of_one_in_memory(tmp_path, capsys, monkeypatch):
    train_mixture(capsys, tmp_path / "FOLDER", tmp_path / "memory")
    monkeypatch.setattr(own, "IN_MEMORY", 100)
    train_mixture(capsys, tmp_path / "FOLDER", tmp_path / "stored")
    held, stored = results(tmp_path / "memory"), results(tmp_path / "stored")
    for name in ("model/model.safetensors", "history.jsonl", "density.csv"):
        assert stored[name] == held[name]


@pytest.mark.slow
def test_the_tutorial_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_pictures(tmp_path / "pictures")
    names: dict = {}
    for language, block in BLOCKS:
        if language == "py":
            exec(compile(block, "own-images.md", "exec"), names)
            continue
        for command in block.splitlines():
            name, *arguments = shlex.split(command)
            assert name == "mpdvae"
            subprocess.run([sys.executable, "-m", "mpdvae.commands.cli", *arguments], check=True, capture_output=True)
    assert names["codes"].shape == (140, 16)
    assert names["drawn"].shape == names["decoded"].shape == (16, 1, 12, 12)
    assert len(set(names["strangest"].tolist())) == 5
    for made in ("map.html", "samples.png", "model.joblib", "my-model/README.md"):
        assert (tmp_path / made).stat().st_size > 0
    assert isinstance(names["vae"], mpdvae.VAE)


def test_the_tutorial_has_what_it_promises():
    """Quick, where the test above is slow: every block is one that it runs, and the commands exist."""
    from mpdvae.commands.cli import COMMANDS

    written = re.findall(r"^(?:    )?mpdvae (\w+)", PAGE, flags=re.M)
    assert {"diagnose", "sample", "export"} == set(written) <= COMMANDS.keys()
    assert len(BLOCKS) == PAGE.count("```") // 2
