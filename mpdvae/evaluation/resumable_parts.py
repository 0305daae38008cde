"""Parts of a long result, each in a file of its own until all are there, so that whoever is killed goes on.

A part is written whole or not at all, and read back bit for bit. The folder is named by a hash of everything that the
parts depend on: a computation with other settings, weights or data finds nothing of it.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpdvae.system.atomic_files import write_atomically

Forms = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and type of each tensor of a part, by name."""


class ResumableParts:
    """The parts of one result.

    Arguments:
        folder: where such results are kept.
        depends_on: everything that changes the parts, as JSON can hold it.
        check: called before a part is written; raises where that should not be.
    """

    def __init__(self, folder: Path, depends_on: Mapping[str, Any], check: Callable[[], None] = lambda: None) -> None:
        key = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
        self.folder, self.check = folder / key[:24], check

    def has(self, name: str) -> bool:
        return self._path(name).is_file()

    def get(self, name: str, compute: Callable[[], dict[str, Tensor]], forms: Forms) -> dict[str, Tensor]:
        """The part called `name`: as it was kept, or computed and kept now.

        A file that is damaged, or holds other tensors than those of `forms`, is computed again and written over.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load, save

        path = self._path(name)
        if path.is_file():
            try:
                kept = load(path.read_bytes())
            except SafetensorError:
                kept = {}
            if {field: (tuple(value.shape), value.dtype) for field, value in kept.items()} == forms:
                return kept
        tensors = {field: value.contiguous() for field, value in compute().items()}
        self.check()
        write_atomically(path, save(tensors))
        return tensors

    def remove(self) -> None:
        """Removes the parts, and the folder around them once it is empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"
