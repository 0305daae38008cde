"""Folders from strangers: intact ones, damage to their files, and the commands that are given them.

`SUBJECTS` are folders with everything that a command may be given. `COMMANDS` are the arguments of each command, and the
files that it is not given damaged: an experiment.json may legitimately ask for years of computation.
"""

import hashlib
import io
import json
import random
import struct
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from bombs import damaged_lzma, nested_tar, npy_header, npz_of, png_header, png_of
from command_line import code_of
from data_files import cifar_pickle, picture, png, tarred, tiny_idx_files
from mutations import damaged, damaged_json
from report_folders import make_matrix
from small_runs import files, finish, trained
from strangers import DRAWING, PLAIN, RELEASED, ROWS, _saved

from mpdvae.data.conditions import NOTHING
from mpdvae.evaluation.example_images import Examples, write
from mpdvae.experiments.experiment import with_changes
from mpdvae.runs.model_folder import load, save_model
from mpdvae.runs.run_folder import Run, manifest_sha256
from mpdvae.system.atomic_files import write_json
from mpdvae.system.closed_folder import Inside

Files = dict[str, bytes]
LARGEST_SEALED = 1 << 27
"""Bytes of a file whose hash is computed here."""
CONFIGURATIONS = ("experiment.json", "model/experiment.json")


def _made(make: Callable[[Path], object]) -> Files:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        return files(Path(folder))


@cache
def _run() -> Files:
    return _made(lambda folder: finish(folder, PLAIN))


@cache
def _interrupted() -> Files:
    return _made(lambda folder: trained(folder, PLAIN).note(status="training"))


def _model() -> Files:
    def make(folder: Path) -> None:
        import torch

        run = folder / "run"
        for name, content in _run().items():
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_bytes(content)
        save_model(Inside(folder) / "model", load(run), PLAIN, (1, 8, 8))
        images = Examples(torch.eye(8).expand(20, 1, 8, 8), list(range(20)), NOTHING, [-1.0], False)
        write(Inside(folder) / "model", images, PLAIN.data)

    return {name.removeprefix("model/"): content for name, content in _made(make).items() if name.startswith("model/")}


def _own() -> Files:
    """Returns a run whose own images have moved, and the images."""

    def make(folder: Path) -> None:
        own = with_changes(PLAIN, data__dataset="own", data__path="/gone/images")
        run = Run.create(folder / "run", own)
        run.note(status="finished", data={"name": "own", "sha256": "0" * 64, "protocol": "own"})
        for number in range(12):
            picture(folder / "pictures" / f"{number}.png", (8, 8), value=20 * number)
        np.savez_compressed(folder / "images.npz", x=np.resize(ROWS, (12, 8, 8)), y=np.arange(12))

    return _made(make)


def _reports() -> Files:
    def make(folder: Path) -> None:
        for name, models in (("one", ("vae", "mae")), ("other", ("vae", "mae"))):
            runs = make_matrix(folder / name / "runs", models, seeds=2, explored=False)
            assert code_of(["report", *map(str, runs), "--out", str(folder / name / "report.html")]) == 0

    made = _made(make)
    return {f"{name}/results.json": made[f"{name}/report.json"] for name in ("one", "other")}


def _data() -> Files:
    """Returns a data folder with files of every form, none of them with the right content."""

    def make(folder: Path) -> None:
        batches = [f"cifar-10-batches-py/{name}" for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")]
        (folder / "cifar10").mkdir()
        tarred(folder / "cifar10" / "cifar-10-python.tar.gz", dict.fromkeys(batches, cifar_pickle(_colour(), [1])))
        (folder / "mnist").mkdir()
        for name, content in tiny_idx_files().items():
            (folder / "mnist" / name).write_bytes(content)
        (folder / "omniglot").mkdir()
        for part in ("images_background", "images_evaluation"):
            with zipfile.ZipFile(folder / "omniglot" / f"{part}.zip", "w") as archive:
                archive.writestr(DRAWING.replace("set", part), png(np.eye(105, dtype=np.uint8)))
        (folder / "frey-faces").mkdir()
        np.savez(folder / "frey-faces" / "freyfaces.npz", x=ROWS)

    return _made(make)


def _colour() -> np.ndarray:
    return np.resize(ROWS, (1, 3072))


def _released() -> Files:
    return {"config.json": json.dumps(RELEASED).encode(), "state.pt": _saved()}


SUBJECTS: Mapping[str, Callable[[], Files]] = {
    "run": _run,
    "interrupted": _interrupted,
    "model": cache(_model),
    "own": cache(_own),
    "reports": cache(_reports),
    "data": cache(_data),
    "released": cache(_released),
}


@dataclass(frozen=True)
class Command:
    """A command on a folder.

    Arguments:
        subject: the folder, by its name in `SUBJECTS`.
        words: its arguments; {here} is the folder, {out} one for what the command writes.
        share: how often it is drawn, relative to the others.
        computes: whether it does what experiment.json asks for.
        writes_here: whether it may write into the folder.
    """

    subject: str
    words: tuple[str, ...]
    share: int = 10
    computes: bool = False


COMMANDS: Sequence[Command] = (
    Command("run", ("diagnose", "{here}"), 20),
    Command("run", ("report", "{here}", "--out", "{out}/report.html"), 20),
    Command("run", ("verify", "{here}", "--quick"), 20),
    Command("run", ("verify", "{here}"), 2, computes=True),
    Command("run", ("evaluate", "{here}"), 2, computes=True),
    Command("run", ("resume", "{here}"), 4, computes=True),
    Command("run", ("rerun", "{here}", "--out", "{out}/again"), 1, computes=True),
    Command("run", ("sample", "{here}", "--out", "{out}/x.png"), 5),
    Command("run", ("reconstruct", "{here}", "--out", "{out}/x.png"), 5),
    Command("run", ("train", "{here}/experiment.json", "--out", "{out}/new", "--data.dataset", "own"), 5),
    Command("interrupted", ("resume", "{here}"), 4, computes=True),
    Command("interrupted", ("diagnose", "{here}"), 5),
    Command("interrupted", ("report", "{here}", "--out", "{out}/report.html"), 5),
    Command("model", ("sample", "{here}", "--out", "{out}/x.png")),
    Command("model", ("reconstruct", "{here}", "--out", "{out}/x.png")),
    Command("model", ("traverse", "{here}", "--out", "{out}/x.png", "--dimensions", "1"), 10),
    Command("model", ("export", "{here}", "--out", "{out}/x.onnx"), 1),
    Command("model", ("explore", "{here}"), 3),
    Command("own", ("verify", "{here}/run", "--quick", "--data-dir", "{here}/images.npz")),
    Command("own", ("verify", "{here}/run", "--quick", "--data-dir", "{here}/pictures")),
    Command("reports", ("compare", "{here}/one", "{here}/other"), 10),
    *(Command("data", ("data", "check", name, "--data-dir", "{here}"), 3)
      for name in ("mnist", "cifar10", "omniglot", "frey-faces")),
    Command("released", ("import-official", "{here}/config.json", "{here}/state.pt", "--out", "{out}/run"), 3),
)  # fmt: skip


Attack = Callable[[Path, random.Random], None]


def write_files(folder: Path, content: Files) -> None:
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def attack(folder: Path, command: Command, chance: random.Random, attacks: Sequence[Attack] = ()) -> None:
    """Damages one or two files of a folder; half of the time, the hashes in a manifest are made right again."""
    spared = CONFIGURATIONS if command.computes else ()
    named = sorted(path for path in folder.rglob("*") if path.is_file())
    candidates = [path for path in named if path.relative_to(folder).as_posix() not in spared]
    for path in chance.sample(candidates, min(len(candidates), chance.choice([1, 1, 1, 2]))):
        kinds = attacks if attacks and chance.random() < 0.3 else [*(_damage,) * 4, _bomb]
        if path.is_file():  # an attack on another one may have taken it away
            chance.choice(kinds)(path, chance)
    if (folder / "manifest.json").is_file() and chance.random() < 0.5:
        _seal(folder)


def _damage(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    if path.suffix in {".json", ".jsonl"}:
        content = damaged_json(content, chance)
    elif path.suffix == ".safetensors" and chance.random() < 0.7:
        content = _poisoned(content, chance)
    else:
        content = damaged(content, chance)
    path.write_bytes(content)


def _poisoned(weights: bytes, chance: random.Random) -> bytes:
    """Returns weights with numbers in place of one, or of all of a range, with which nothing can be computed."""
    data = bytearray(weights)
    start = 8 + int.from_bytes(weights[:8], "little")
    if len(data) - start < 4:
        return weights
    value = chance.choice(
        [float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e20, 1e9, -1e4, 1e4, 100.0, 1e-40, 0.0]
    )
    first = start + 4 * chance.randrange((len(data) - start) // 4)
    count = min(chance.choice([1, 1, 8, 10**6]), (len(data) - first) // 4)
    data[first : first + 4 * count] = struct.pack("<f", value) * count
    return bytes(data)


def _bomb(path: Path, chance: random.Random) -> None:
    """Puts a file in the place of another that unpacks to far more than memory holds, in the same format if there is one."""
    bombs = {
        ".png": [lambda: png_of(8192), lambda: png_header(60_000, 60_000), lambda: png_header(2**31 - 1, 1)],
        ".npz": [lambda: npz_of(1 << 29), lambda: npz_of(1 << 24, zipfile.ZIP_BZIP2), _claim],
        ".zip": [lambda: damaged_lzma("images_background/Greek/character01/0001_01.png", b"x" * 99), _claim],
        ".gz": [lambda: nested_tar(b"L"), lambda: nested_tar(b"x")],
        ".csv": [lambda: b"image,draw,log_prob_nats\n" + b"9" * 10**6, lambda: b'"' * 10**6],
        ".json": [lambda: b"[" * 10**6, lambda: b'{"a":' * 10**5, lambda: b"9" * 10**6],
        ".jsonl": [lambda: b"[" * 10**6 + b"\n", lambda: b"{}\n" * 10**5],
        ".safetensors": [lambda: (2**40).to_bytes(8, "little"), lambda: (10**6).to_bytes(8, "little") + b"[" * 10**6],
    }
    path.write_bytes(chance.choice(bombs.get(path.suffix, [lambda: b"\x00" * 10**6]))())


def _claim() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x.npy", npy_header("(1000000, 1000000)"))
    return packed.getvalue()


def _seal(folder: Path) -> None:
    """Makes the hashes of a manifest those of the damaged files, as an attacker would."""
    path = folder / "manifest.json"
    if path.stat().st_size > LARGEST_SEALED:  # one of the attacks
        return
    try:
        content: Any = json.loads(path.read_bytes())
        if isinstance(content.get("files"), dict):
            for name in content["files"]:
                if (folder / name).is_file() and (folder / name).stat().st_size < LARGEST_SEALED:
                    content["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        write_json(path, content | {"sha256": manifest_sha256(content)})
    except (ValueError, AttributeError, TypeError, OSError, RecursionError):
        return


def listing(folder: Path) -> dict[str, str]:
    """Returns every file below `folder`, with the hash of its content."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }
