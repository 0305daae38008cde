"""Tiny data files for the tests of the data room, in the formats of the real ones."""

import gzip
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mpdvae.data.files import checksum
from mpdvae.data.idx import idx_bytes
from mpdvae.data.idx_set import AXES, IdxSet, Source
from mpdvae.data.images import Images


def grey_images(n: int, height: int = 4, width: int = 3, seed: int = 0, labels: bool = True) -> Images:
    """`n` images of random grey levels, each labelled by its index."""
    rng = np.random.default_rng(seed)
    pixels = torch.from_numpy(rng.integers(0, 256, (n, 1, height, width)).astype(np.uint8))
    return Images(pixels, torch.arange(n) if labels else None)


def tiny_idx_files() -> dict[str, bytes]:
    """Four idx files like MNIST's: 20 training and 5 test images of 4x3."""
    rng = np.random.default_rng(1)
    sizes = {"train": 20, "t10k": 5}
    shapes = {name: (sizes[name.split("-")[0]], 4, 3)[:axes] for name, axes in AXES.items()}
    return {name: idx_bytes(rng.integers(0, 256, shape).astype(np.uint8)) for name, shape in shapes.items()}


def tiny_idx_set(*sources: Source) -> IdxSet:
    """A data set "tiny" whose canonical files are `tiny_idx_files()`."""
    checksums = {name: checksum(content) for name, content in tiny_idx_files().items()}
    return IdxSet("tiny", "Tiny", 4, ("tiny", "TINY/raw"), checksums, sources)


def put(folder: Path, files: dict[str, bytes], zipped: bool = False) -> None:
    """Writes `files` into `folder`, gzipped if asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def picture(path: Path, size: tuple[int, int] = (4, 3), mode: str = "L", value: int = 7) -> Path:
    """Writes a picture of one value in every channel, `size` = (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new(mode, (size[1], size[0]))
    image.paste(value if len(image.getbands()) == 1 else (value,) * len(image.getbands()), (0, 0, *image.size))
    image.save(path)
    return path
