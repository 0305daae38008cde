"""Tiny data files in the formats of the real ones, for tests of the package `data`."""

import gzip
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from mpdvae.data.files import checksum
from mpdvae.data.idx import idx_bytes
from mpdvae.data.idx_set import AXES, IdxSet, Source
from mpdvae.data.images import Images
from mpdvae.errors import InputError


def shared_data(*names: str) -> Path:
    """Returns the folder of published files that some machines provide for tests; skips the test if `names` are missing."""
    root = Path(os.environ.get("MPDVAE_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if absent := [name for name in names if not (root / name).is_file()]:
        pytest.skip(f"{', '.join(absent)} not in {root}, which MPDVAE_SHARED_DATA may name")
    return root


def grey_images(n: int, height: int = 4, width: int = 3, seed: int = 0, labels: bool = True) -> Images:
    """Returns `n` images of random grey levels, each labelled with its index."""
    rng = np.random.default_rng(seed)
    pixels = torch.from_numpy(rng.integers(0, 256, (n, 1, height, width)).astype(np.uint8))
    return Images(pixels, torch.arange(n) if labels else None)


def tiny_idx_files() -> dict[str, bytes]:
    """Returns four idx files like those of MNIST: 20 training and 5 test images of 4x3."""
    rng = np.random.default_rng(1)
    sizes = {"train": 20, "t10k": 5}
    shapes = {name: (sizes[name.split("-")[0]], 4, 3)[:axes] for name, axes in AXES.items()}
    return {name: idx_bytes(rng.integers(0, 256, shape).astype(np.uint8)) for name, shape in shapes.items()}


def tiny_idx_set(*sources: Source) -> IdxSet:
    """Returns a data set "tiny" whose canonical files are `tiny_idx_files()`."""
    checksums = {name: checksum(content) for name, content in tiny_idx_files().items()}
    return IdxSet("tiny", "Tiny", 4, ("tiny", "TINY/raw"), checksums, sources)


def put(folder: Path, files: dict[str, bytes], zipped: bool = False) -> None:
    """Writes `files` to `folder`, optionally gzipped."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def picture(path: Path, size: tuple[int, int] = (4, 3), mode: str = "L", value: int = 7) -> Path:
    """Writes a picture with one value in every channel, `size` = (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new(mode, (size[1], size[0]))
    image.paste(value if len(image.getbands()) == 1 else (value,) * len(image.getbands()), (0, 0, *image.size))
    image.save(path)
    return path


def amat(images: np.ndarray) -> bytes:
    """Encodes images of 0 and 1 as text, like static MNIST."""
    return "".join(" ".join(map(str, row)) + "\n" for row in images.reshape(len(images), -1)).encode()


def png(ink: np.ndarray, mode: str = "1") -> bytes:
    """Encodes a drawing as PNG, black on white; 1 is ink."""
    packed = io.BytesIO()
    Image.fromarray((1 - ink) * np.uint8(255)).convert(mode).save(packed, "PNG")
    return packed.getvalue()


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    """Writes a zip archive of `members`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, members: dict[str, bytes]) -> Path:
    """Writes a tar.gz archive of `members`."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def mat(path: Path, **arrays: np.ndarray) -> Path:
    """Writes a compressed MATLAB file."""
    scipy.io.savemat(path, arrays, do_compression=True)
    return path


def python2_array(array: np.ndarray) -> str:
    """Returns the middle of a pickled byte array as written by Python 2 and its numpy, without the stop opcode."""
    shape = "".join(f"I{length}\n" for length in array.shape)
    content = "".join(f"\\x{byte:02x}" for byte in array.tobytes())
    return (
        "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        f"(I1\n({shape}tcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'{content}'\ntb"
    )


def cifar_pickle(data: np.ndarray, labels: list[int]) -> bytes:
    """Returns a batch of CIFAR-10 as pickled by Python 2."""
    listed = "".join(f"I{label}\na" for label in labels)
    return f"(dS'data'\n{python2_array(data)}sS'labels'\n(l{listed}s.".encode("latin1")


class Forbidden:
    """An object whose pickle creates the folder `here` when it is loaded without restrictions."""

    def __init__(self, here: Path) -> None:
        self.here = here

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"mkdir {self.here}",)


def forbidden_pickle(here: Path) -> bytes:
    """Returns a pickle that would create the folder `here`."""
    return pickle.dumps({"data": Forbidden(here)}, protocol=2)


def refused(read: Callable[[Path], object], path: Path, content: bytes, words: str) -> None:
    """Asserts that `read` rejects a file with `content` by an `InputError` that matches `words`."""
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read(path)


BLACK_AND_WHITE = np.random.default_rng(0).integers(0, 2, (3, 28, 28)).astype(np.uint8)
"""Three images of 0 and 1."""


def silhouettes() -> dict[str, np.ndarray]:
    """Returns arrays like those of Caltech-101 silhouettes: images stored column by column, with 0 for the object."""
    arrays = {}
    for count, part in enumerate(("train", "val", "test"), start=1):
        arrays[f"{part}_data"] = (1 - BLACK_AND_WHITE[:count]).transpose(0, 2, 1).reshape(count, 784)
        arrays[f"{part}_labels"] = np.arange(1, count + 1, dtype=np.uint8)[:, None]
    return arrays


def chardata() -> dict[str, np.ndarray]:
    """Returns arrays like those of Burda's OMNIGLOT, with two training images and one test image."""
    grey = BLACK_AND_WHITE[:2] * np.array([1.0, 0.2])[:, None, None]
    columns = grey.transpose(0, 2, 1).reshape(2, 784).T
    one_hot = np.eye(5)[:, [4, 1]]
    return {"data": columns, "target": one_hot, "testdata": columns[:, 1:], "testtarget": one_hot[:, 1:]}
