"""Images that stay in their files and are read when they are asked for, for more than fit into memory.

They take the place of `Images`: the same order, the same bytes, the same hash. `take` reads a batch; `expect` has a thread
read the next one while the model works on this one. What asks for all `pixels` of a part, as evaluations do, reads them all.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64, UInt
from torch import Tensor

from mpdvae.data.class_names import Classes, ClassNames
from mpdvae.data.conditions import NOTHING, Known
from mpdvae.data.images import Images
from mpdvae.data.preparation import Preparation
from mpdvae.system.available_memory import check_room

PIECE = 1 << 24
"""Bytes that are read at once where all images are read one after the other."""


@runtime_checkable
class Source(Protocol):
    """Images in files."""

    image_shape: tuple[int, int, int]
    preparation: Preparation

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray) -> UInt[np.ndarray, "n channel height width"]:
        """Returns the images with these numbers, in this order; called by one thread at a time."""
        ...


class _Reading:
    """A source that several parts share, with the batch that is read ahead."""

    def __init__(self, source: Source) -> None:
        self.source, self.lock = source, Lock()
        self.thread: ThreadPoolExecutor | None = None
        self.ahead: tuple[bytes, Future[np.ndarray]] | None = None

    def read(self, rows: np.ndarray) -> np.ndarray:
        if self.ahead is not None and self.ahead[0] == rows.tobytes():
            (_, future), self.ahead = self.ahead, None
            return future.result()
        return self._read(rows)

    def expect(self, rows: np.ndarray) -> None:
        if self.ahead is None or self.ahead[0] != rows.tobytes():
            self.thread = self.thread or ThreadPoolExecutor(1, "pictures")
            self.ahead = rows.tobytes(), self.thread.submit(self._read, rows)

    def _read(self, rows: np.ndarray) -> np.ndarray:
        with self.lock:
            return self.source.read(rows)


class StoredImages(Images):
    """Images of a `source`, all or those with the numbers `rows`, with what is known of them; batches go to
    `device`."""

    def __init__(
        self,
        source: Source | _Reading,
        known: Known = NOTHING,
        rows: np.ndarray | None = None,
        device: torch.device | str = "cpu",
        class_names: ClassNames = (),
    ) -> None:
        reading = source if isinstance(source, _Reading) else _Reading(source)
        rows = np.arange(len(reading.source)) if rows is None else rows
        fields = known._asdict() | {"_reading": reading, "_rows": rows, "_device": torch.device(device)}
        fields |= {"class_names": class_names}
        for name, value in fields.items():
            object.__setattr__(self, name, value)  # the class is frozen

    _reading: _Reading
    _rows: np.ndarray
    _device: torch.device

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self._reading.source.image_shape

    @property
    def in_memory(self) -> bool:
        return False

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def pixels(self) -> UInt[Tensor, "n channel height width"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """All images, read now. Raises `InputError` if there is no room for them in memory."""
        channel, height, width = self.image_shape
        size = len(self) * channel * height * width * self._reading.source.preparation.bits // 8
        check_room(size, f"{len(self):,} images of {height}x{width}")
        pixels, at = np.empty((len(self), channel, height, width), self._reading.source.preparation.dtype), 0
        for piece in self.pieces():
            pixels[at : at + len(piece)] = piece
            at += len(piece)
        return torch.from_numpy(pixels).to(self._device)

    def take(self, indices: Int64[Tensor, " batch"]) -> Images:
        indices = indices.cpu()
        pixels = torch.from_numpy(self._reading.read(self._rows[indices.numpy()])).to(self._device)
        known = self.known.take(indices)
        return Images(pixels, known.labels, covariates=known.covariates, class_names=self.class_names)

    def part(self, indices: Int64[Tensor, " part"]) -> "StoredImages":
        rows = self._rows[indices.cpu().numpy()]
        return StoredImages(self._reading, self.known.take(indices), rows, self._device, self.class_names)

    def of_classes(self, classes: Classes) -> "StoredImages":
        known = self.known._replace(labels=classes.labels)
        return StoredImages(self._reading, known, self._rows, self._device, classes.names)

    def expect(self, indices: Int64[Tensor, " batch"]) -> None:
        self._reading.expect(self._rows[indices.cpu().numpy()])

    def pieces(self) -> Iterator[np.ndarray]:
        count = max(1, PIECE // int(np.prod(self.image_shape)))
        for start in range(0, len(self), count):
            yield self._reading.read(self._rows[start : start + count])

    def to(self, device: torch.device | str) -> "StoredImages":
        return StoredImages(self._reading, self.known.to(device), self._rows, device, self.class_names)
