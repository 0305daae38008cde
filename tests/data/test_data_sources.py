"""Where data comes from: downloads, the real MNIST where it is, digits, and the catalogue of names."""

import gzip
import io
import os
import pickle
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from mpdvae import data
from mpdvae.commands.cli import main
from mpdvae.data import Lines, download, idx_set, published
from mpdvae.data.download import Unreachable, download_wheel
from mpdvae.data.files import checksum, write_data_file
from mpdvae.data.idx import idx_bytes
from mpdvae.data.mnist import MNIST, files_from_wheel
from mpdvae.data.progress import SILENT, Listener
from mpdvae.data.unpickle import ArraysOnly
from mpdvae.errors import InputError

IMAGES = "train-images-idx3-ubyte"


# getting and keeping bytes --------------------------------------------------------------------------------------------


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    write_data_file(tmp_path / "a" / "b", b"first")
    write_data_file(tmp_path / "a" / "b", b"second")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "a").iterdir()] == [("b", b"second")]
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=r"cannot write to the data folder .*file .*--data-dir or the environment variable MPDVAE_DATA"
    ):
        write_data_file(tmp_path / "file" / "b", b"")


def fake_pip(monkeypatch: pytest.MonkeyPatch, returncode: int, stderr: str, wheel: bytes | None) -> list[list[str]]:
    commands = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        if wheel is not None:
            Path(command[command.index("--dest") + 1], "w.whl").write_bytes(wheel)
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(download.subprocess, "run", run)
    monkeypatch.setattr(download, "find_spec", lambda name: object())
    return commands


def test_wheel_is_downloaded_but_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = fake_pip(monkeypatch, 0, "", b"wheel")
    assert download_wheel("some==1", sha256(b"wheel").hexdigest()) == b"wheel"
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--no-cache-dir", "--no-input"} < set(commands[0])
    with pytest.raises(Unreachable, match=r"its SHA-256 is .*, expected 00"):
        download_wheel("some==1", "00")


def test_reasons_of_a_failed_download(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(monkeypatch, 1, "WARNING: x\nERROR: No matching distribution found for some==1\n", None)
    with pytest.raises(Unreachable, match="pip could not download some==1: ERROR: No matching distribution"):
        download_wheel("some==1", "00")
    monkeypatch.setattr(download, "find_spec", lambda name: None)
    with pytest.raises(Unreachable, match="this Python has no pip"):
        download_wheel("some==1", "00")


# MNIST ----------------------------------------------------------------------------------------------------------------


def tiny_wheel(content: object) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        wheel.writestr("mnist/data/mnist.pkl.gz", gzip.compress(pickle.dumps(content, protocol=2)))
    return packed.getvalue()


def test_wheel_gives_the_bytes_back() -> None:
    grey = [np.random.default_rng(part).integers(0, 256, (3, 28, 28)).astype(np.uint8) for part in range(3)]
    labels = [np.arange(3) + part for part in range(3)]
    # a current numpy names another module than the one which wrote the published pickle
    parts = [((x.reshape(3, 784) / 256).astype(np.float32), y) for x, y in zip(grey, labels, strict=True)]
    content = pickle.dumps(parts, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        wheel.writestr("mnist/data/mnist.pkl.gz", gzip.compress(content))
    files = files_from_wheel(packed.getvalue())
    assert files["t10k-images-idx3-ubyte"] == idx_bytes(grey[2])
    assert files[IMAGES] == idx_bytes(np.concatenate(grey[:2]))
    assert files["train-labels-idx1-ubyte"] == idx_bytes(np.concatenate(labels[:2]).astype(np.uint8))


def test_a_pickle_may_not_call_anything() -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.system|nt\.system"):
        ArraysOnly(io.BytesIO(pickle.dumps(os.system))).load()
    with pytest.raises(Unreachable, match=r"the wheel cannot be read: .*system is not allowed"):
        files_from_wheel(tiny_wheel(os.system))
    with pytest.raises(Unreachable, match="the wheel has unexpected content"):
        files_from_wheel(tiny_wheel([1, 2]))
    with pytest.raises(Unreachable, match="the wheel cannot be read"):
        files_from_wheel(b"no zip")


def test_mirrors_are_asked_for_gzipped_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def download(url: str, target: Path, digest: str, listener: Listener) -> None:
        target.write_bytes(gzip.compress(f"{url} {digest}".encode()))

    monkeypatch.setattr(idx_set, "download", download)
    for source in MNIST.sources[1:]:
        content = source.get([IMAGES], tmp_path, SILENT)[IMAGES]
        assert content.startswith(f"{source.title}{IMAGES}.gz sha256:440fcabf73cc".encode())
    assert not list(tmp_path.iterdir())


def test_real_mnist() -> None:
    root = data.data_dir()
    if not MNIST.is_here(root):
        pytest.skip(f"MNIST is not in {root}; `mpdvae data fetch mnist` puts it there")
    splits = data.load("mnist")
    assert splits.sizes == (58_000, 2_000, 10_000)
    assert data.load("mnist").sha256 == splits.sha256
    pixels = torch.empty(60_000, 1, 28, 28, dtype=torch.uint8)
    labels = torch.empty(60_000, dtype=torch.int64)
    train, validation = data.split_train_validation(60_000, 2_000, 524287)
    for indices, part in ((train, splits.train), (validation, splits.validation)):
        assert part.labels is not None
        pixels[indices], labels[indices] = part.pixels, part.labels
    assert splits.test.labels is not None
    hashes = [
        checksum(x.to(torch.uint8).numpy().tobytes()) for x in (pixels, labels, splits.test.pixels, splits.test.labels)
    ]
    assert hashes == [
        "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    ]
    assert (
        data.Protocol().describe(splits)
        == "MNIST 28x28, dynamic binarisation, 5 fixed test draws, split 58000/2000/10000 (seed 524287)"
    )


# digits and the catalogue ---------------------------------------------------------------------------------------------


def test_digits() -> None:
    splits = data.load("digits")
    assert splits.sizes == (1297, 200, 300)
    assert splits.image_shape == (1, 8, 8)
    assert splits.train.pixels.unique().tolist() == [round(level * 255 / 16) for level in range(17)]
    other = data.load("digits", split_seed=1, validation_size=100)
    assert other.sizes == (1397, 100, 300)
    assert other.test.pixels.equal(splits.test.pixels)
    assert not other.validation.pixels.equal(splits.validation.pixels[:100])
    assert "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3" in data.check("digits")


def test_catalogue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert data.names() == [*(entry.name for entry in data.ENTRIES), "own"]
    assert len(set(data.names())) == len(data.names()) == 12
    assert not data.entry("mnist").is_here(tmp_path)
    said = []
    data.fetch("digits", tmp_path, Lines(said.append))
    assert "nothing to fetch" in said[0]
    with pytest.raises(InputError, match="unknown data set 'mnst': did you mean 'mnist'"):
        data.load("mnst")
    with pytest.raises(InputError, match="unknown data set 'own'"):
        data.fetch("own")
    with pytest.raises(InputError, match="'own' needs a path"):
        data.load("own")
    with pytest.raises(InputError, match=r"a path was given \(x.npz\), but data set 'digits' has a fixed location"):
        data.load("digits", path="x.npz")
    with pytest.raises(InputError, match="validation_size must be at least 1, but 0 was given"):
        data.load("digits", validation_size=0)
    monkeypatch.setenv("MPDVAE_DATA", str(tmp_path))
    assert data.data_dir() == tmp_path
    assert data.data_dir("other") == Path("other")
    monkeypatch.delenv("MPDVAE_DATA")
    assert data.data_dir().name == "mpdvae"


def test_import_is_light() -> None:
    heavy = {"sklearn", "scipy", "PIL", "requests", "rich", "filelock"}
    code = f"import sys, mpdvae.data; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# the command line ------------------------------------------------------------------------------------------------------


def no_connection(*_: object) -> None:
    raise Unreachable("no connection")


def test_data_commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(published, "download", no_connection)
    monkeypatch.setenv("COLUMNS", "1000")
    here = ["--data-dir", str(tmp_path)]
    assert main(["data", "list", *here]) == 0
    listed = capsys.readouterr().out
    assert all(entry.name in listed and entry.licence in listed and entry.protocol in listed for entry in data.ENTRIES)
    assert main(["data", "fetch", "caltech101", *here]) == 1
    said = capsys.readouterr()
    assert "Caltech-101 silhouettes: no connection" in said.out
    assert said.err.startswith("mpdvae: Caltech-101 silhouettes could not be fetched")
    assert said.err.count("\n") == 1
    assert main(["data", "check", "caltech101", *here]) == 2
    assert "run `mpdvae data fetch caltech101`, or put caltech101_silhouettes" in capsys.readouterr().err
    assert main(["data", "fetch", *here]) == 2
    assert "expected the name of a data set: mnist, static-mnist" in capsys.readouterr().err
    assert main(["data", "fetch", "cifar", *here]) == 2
    assert "did you mean 'cifar10'" in capsys.readouterr().err
