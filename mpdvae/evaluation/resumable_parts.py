"""Parts of a long result, each in its own file until all exist, so that a killed computation can be resumed.

A part is written atomically and read back bit for bit. The folder is named by a hash of everything that the parts depend
on: a computation with other settings, weights or data finds none of them.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mpdvae.errors import InputError
from mpdvae.system.atomic_files import ASIDE, write_atomically
from mpdvae.system.closed_folder import Inside

Forms = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and dtype of each tensor of a part, by name."""


HEADER_BYTES = 1024
"""More than the header of a part needs for each tensor."""
CHOICE = "choice.json"
"""File beside the parts that records how they are computed."""
NAME = re.compile(r"[a-z_]+-?[0-9a-z_-]*\.safetensors")
"""Names of parts."""


class ResumableParts:
    """The parts of one result.

    Arguments:
        folder: folder of such results.
        depends_on: everything that affects the parts, as JSON.
        check: called before a part is written; raises if it must not be written.
    """

    def __init__(self, folder: Inside, depends_on: Mapping[str, Any], check: Callable[[], None] = lambda: None) -> None:
        key = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
        self.folder, self.check = folder / key[:24], check

    def has(self, name: str) -> bool:
        return self._path(name).is_file()

    def get(self, name: str, compute: Callable[[], dict[str, Tensor]], forms: Forms) -> dict[str, Tensor]:
        """Returns the part `name`: read from its file, or computed and stored now.

        If the file is damaged, or its tensors do not match `forms`, the part is computed again and the file overwritten.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load, save

        path = self._path(name)
        if path.is_file():
            try:
                kept = load(path.read_bytes(_largest(forms)))
            except (SafetensorError, InputError):
                kept = {}
            if {field: (tuple(value.shape), value.dtype) for field, value in kept.items()} == forms:
                return kept
        tensors = {field: value.contiguous() for field, value in compute().items()}
        self.check()
        write_atomically(path, save(tensors))
        return tensors

    def remove(self) -> None:
        """Removes the parts, and their parent folder if it is then empty."""
        for path in self.folder.files():
            if path.name == CHOICE or NAME.fullmatch(path.name) or ASIDE.fullmatch(path.name):
                path.unlink()
        self.folder.rmdir()
        self.folder.parent.rmdir()

    def _path(self, name: str) -> Inside:
        return self.folder / f"{name}.safetensors"


def _largest(forms: Forms) -> int:
    """Returns the maximum size of a part in bytes: its numbers, and a header."""
    numbers = sum(math.prod(shape) * dtype.itemsize for shape, dtype in forms.values())
    return numbers + HEADER_BYTES * (1 + len(forms))
