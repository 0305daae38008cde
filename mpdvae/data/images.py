"""Images in memory, and their split into training, validation and test images.

The data sets of this field fit into memory, so they are kept there in the form in which they were published: grey levels
0..255 of `uint8`, channels before height and width. Own images may have 16 bits, and if they are too many a class of their
own (stored_images.py), which reads them when they are asked for. Nothing is normalised or binarised here; a protocol
(protocols.py) defines how pixels become the input of a model. A batch is then a gather and a draw on the device that holds
the pixels.

`Splits.sha256` is stored with every result: two results were made on the same images, labels and split exactly if their
hashes agree.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt
from torch import Tensor

from mpdvae.data.class_names import Classes, ClassNames
from mpdvae.data.conditions import Known
from mpdvae.data.preparation import AS_STORED, Preparation
from mpdvae.errors import InputError


class Factor(NamedTuple):
    """A factor of variation: something that differs between images and has a known value in each."""

    name: str
    values: tuple[str, ...]
    """What each number in the table of factors stands for."""
    ordered: bool
    """Whether the numbers are steps of a quantity, such as a position, rather than names, such as shapes."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images with or without labels. Compared by identity, so that an instance can be a cache key."""

    pixels: UInt[Tensor, "n channel height width"]
    """Levels 0..255 or, of 16 bits, 0..65535."""
    labels: Int64[Tensor, " n"] | None = None
    factors: Int64[Tensor, "n factor"] | None = None
    """Numbers of the values of the factors of variation (`Splits.factors`), if these are known."""
    covariates: Float32[Tensor, "n covariate"] | None = None
    """Numbers that are known of each image, in any units, which a conditional model is told."""
    class_names: ClassNames = ()
    """Names of the classes, in the order of their numbers; empty: they have none. Not part of the hash."""

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def known(self) -> Known:
        """Labels and covariates, what a conditional model can be told."""
        return Known(self.labels, self.covariates)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channel, height, width = self.pixels.shape[1:]
        return channel, height, width

    @property
    def in_memory(self) -> bool:
        """Whether all pixels are."""
        return True

    @property
    def device(self) -> torch.device:
        """The device on which batches are."""
        return self.pixels.device

    def take(self, indices: Int64[Tensor, " batch"]) -> "Images":
        """Returns the images with these indices, in this order, with their labels, factors and covariates."""
        indices = indices.to(self.pixels.device)
        known, factors = self.known.take(indices), None if self.factors is None else self.factors[indices]
        return Images(self.pixels[indices], known.labels, factors, known.covariates, self.class_names)

    def of_classes(self, classes: Classes) -> "Images":
        """Returns the same images with these labels."""
        return replace(self, labels=classes.labels, class_names=classes.names)

    def part(self, indices: Int64[Tensor, " part"]) -> "Images":
        """Returns the images with these indices, in this order, held as these are held."""
        return self.take(indices)

    def expect(self, indices: Int64[Tensor, " batch"]) -> None:
        """Says which images will be taken next, so that those that are not in memory can be read meanwhile."""

    def pieces(self) -> Iterator[UInt[np.ndarray, "_n channel height width"]]:
        """Yields all pixels, in order."""
        yield self.pixels.cpu().numpy()

    def to(self, device: torch.device | str) -> "Images":
        """Returns the same images on `device`."""
        known, factors = self.known.to(device), None if self.factors is None else self.factors.to(device)
        return Images(self.pixels.to(device), known.labels, factors, known.covariates, self.class_names)


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set split for training, model selection and testing."""

    name: str
    """The name under which `mpdvae.data.load` finds it."""
    title: str
    """The display name: "MNIST"."""
    train: Images
    validation: Images
    test: Images
    sha256: str
    """Hash over the bytes of all arrays above, in their order."""
    split_seed: int | None = None
    """Seed of the split; None if the files themselves define the split."""
    binarised: str | None = None
    """How the images became black and white, in words, if they were published that way; None for grey and colour."""
    reading: str = ""
    """What was read of own pictures, changed and left out, in one line."""
    omission: str = ""
    """What was left out alone."""
    factors: tuple[Factor, ...] = ()
    """Factors of variation whose values are known for every image; empty: none."""
    preparation: Preparation = AS_STORED
    """What was done to own pictures."""

    @classmethod
    def of(
        cls,
        name: str,
        title: str,
        train: Images,
        validation: Images,
        test: Images,
        split_seed: int | None = None,
        binarised: str | None = None,
        factors: tuple[Factor, ...] = (),
    ) -> "Splits":
        """Assembles the parts and hashes them."""
        digest = hash_images(train, validation, test)
        return cls(name, title, train, validation, test, digest, split_seed, binarised, factors=factors)

    def part(self, split: str) -> Images:
        """Returns a part by name. Raises `InputError` if there is none of this name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        if split not in parts:
            raise InputError(f"--split: expected one of {', '.join(parts)}, got {split!r}.", topic="options")
        return parts[split]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self.train.image_shape

    @property
    def class_names(self) -> ClassNames:
        """Names of the classes, in the order of their numbers; empty: they have none."""
        return self.train.class_names

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of training, validation and test images."""
        return len(self.train), len(self.validation), len(self.test)

    def to(self, device: torch.device | str) -> "Splits":
        """Returns the same data on `device`."""
        return replace(
            self, train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device)
        )


def hash_images(*parts: Images) -> str:
    """Returns the SHA-256 over shape, dtype and bytes of the pixels, labels, factors and covariates of all `parts`."""
    digest = sha256()
    for part in parts:
        for number, piece in enumerate(part.pieces()):
            if number == 0:
                digest.update(f"torch.{piece.dtype} {(len(part), *part.image_shape)};".encode())
            digest.update(piece.reshape(-1).data)
        if part.labels is None:
            digest.update(b"no labels;")
        for table in (part.labels, part.factors, part.covariates):  # what is missing leaves no trace in the hash
            if table is not None:
                digest.update(f"{table.dtype} {tuple(table.shape)};".encode())
                digest.update(table.contiguous().cpu().numpy().reshape(-1).data)
    return digest.hexdigest()
