"""Protocols: how levels 0..255, or 0..65535, become the input of a model, and which images are used for what.

Likelihoods of binary images depend on how the grey levels were binarised, by about 2 nats on MNIST, so a protocol has a
name that is stored with each result, and results with different names are never compared.

dynamic    a training image is drawn anew, pixel ~ Bernoulli(grey / 255), at every visit; validation and test images are
           drawn a fixed number of times (five in the paper's code) and all draws are evaluated.
static     every image, training images included, is drawn once and for all. Models overfit more. Not the file known as
           static MNIST, whose draws are Larochelle's.
levels     nothing is drawn: x = 2 k / (L - 1) - 1 in [-1, 1] for level k of L, for models of the levels, grey or colour.
intensities    the same in [0, 1]: x = k / (L - 1), for models of continuous values.

L is 256 unless `levels` reduces images to fewer: to those that their first bits tell apart.

Colour images are not binarised. Images that were published in black and white (0 and 255) are reproduced exactly by any
draw, so dynamic and static are the same for them; their name is that of the binarisation they were published with.

Fixed draws depend only on `split_seed` and the part of the data, never on the seed of a run, and are made on the CPU: all
models, seeds and machines are measured on the same binary images.

    training       seeded(run's seed, "binarise", step)                 anew at each visit
    flip, shift    seeded(run's seed, "augment", step)                  anew at each visit, before the draw
    fixed          seeded(split_seed, "fixed draw", part, draw)         draw = 0, 1, ...
    by content     a hash of the image's levels                         images that belong to no data set
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float32, Int64, Integer, Shaped, UInt, UInt8
from torch import Tensor

from mpdvae.data.conditions import NOTHING, Condition, Known, told_numbers, with_condition
from mpdvae.data.images import Images, Splits
from mpdvae.data.preparation import TO_16_BITS
from mpdvae.errors import InputError, refuse_unknown
from mpdvae.seeding import derive_seed, seeded

Binarisation = Literal["dynamic", "static", "levels", "intensities"]
PARTS = ["train", "validation", "test"]
PAPER_SPLIT_SEED = 524287
EXAMINED = 100
"""Training images whose levels tell whether all have 8 bits, although they are held in 16."""


@dataclass(frozen=True)
class Protocol:
    """How the data of a run is binarised and split. Raises `InputError` for settings that contradict each other."""

    binarisation: Binarisation = "dynamic"
    """`dynamic`: training images drawn at each visit; `static`: each image drawn once; `levels`, `intensities`: nothing
    drawn."""
    evaluation_draws: int = 5
    """Number of fixed draws of each validation and test image that are evaluated; 1 unless `dynamic`."""
    validation_size: int | None = None
    """Number of training images set aside for model selection; None: the data set's own."""
    split_seed: int = PAPER_SPLIT_SEED
    """Seed of the split into training and validation images and of the fixed draws; the paper's is 524287."""
    levels: int = 256
    """Levels of a pixel, a power of two; images of more levels are reduced to so many."""
    flip: bool = False
    """Whether training images are mirrored, left and right, half of the time."""
    shift: int = 0
    """Most pixels by which training images are shifted in each direction; the border is repeated."""
    condition_classes: int = 0
    """Number of classes that the model is told of; 0: the class is not told."""
    condition_covariates: int = 0
    """Number of covariates that the model is told; with these or classes, its input is conditioned images."""

    def __post_init__(self) -> None:
        if self.binarisation not in get_args(Binarisation):
            refuse_unknown("binarisation", self.binarisation, list(get_args(Binarisation)))
        if self.evaluation_draws < 1:
            raise InputError(f"evaluation_draws must be at least 1, but {self.evaluation_draws} was given.")
        if self.binarisation != "dynamic" and self.evaluation_draws != 1:
            rule = (
                "static binarisation draws every image once"
                if self.binarises
                else f"with {self.binarisation} nothing is drawn"
            )
            raise InputError(
                f"{rule}, but evaluation_draws is {self.evaluation_draws}: "
                "set evaluation_draws to 1, or binarisation to 'dynamic'.",
                topic="options",
            )
        if self.validation_size is not None and self.validation_size < 1:
            raise InputError(f"validation_size must be at least 1, but {self.validation_size} was given.")
        if self.shift < 0:
            raise InputError(f"shift must be 0 or more pixels, but {self.shift} was given.")

    @property
    def binarises(self) -> bool:
        """Whether the input of a model is binary, 0 and 1."""
        return self.binarisation in ("dynamic", "static")

    @property
    def condition(self) -> Condition:
        """What the model is told of each image."""
        return Condition(self.condition_classes, self.condition_covariates)

    def check_shape(self, image_shape: tuple[int, int, int]) -> None:
        """Raises `InputError` if the protocol binarises, and images of this shape (channel, height, width) cannot be."""
        if self.binarises and image_shape[0] != 1:
            raise InputError(
                f"{self.binarisation} binarisation is for grey images, but these have {image_shape[0]} channels; use "
                "--data.binarisation levels --data.evaluation-draws 1, or --data.colours grey for your own.",
                topic="own-data",
            )

    def check(self, data: Splits) -> None:
        """Raises `InputError` if `data` does not fit this protocol, before anything is trained on it."""
        self.check_shape(data.image_shape)
        some = data.train.take(torch.arange(min(EXAMINED, len(data.train)))).pixels
        if self.binarises and _bits(some) != 8:
            raise InputError(
                f"{data.title} has levels of {_bits(some)} bits: binarisation {self.binarisation} draws from 8."
            )
        if self.levels > (most := _levels_of(some)):
            raise InputError(
                f"data.levels: {data.title} has images of {most} levels, expected at most so many, got {self.levels}; use "
                f"--data.levels {most}.",
                topic="options",
            )
        if self.shift >= min(data.image_shape[1:]):
            height, width = data.image_shape[1:]
            raise InputError(
                f"--data.shift: expected less than the size of the images, {height}x{width}, got {self.shift}.",
                topic="options",
            )
        self._check_condition(data)
        if data.binarised and self.evaluation_draws != 1:
            raise InputError(
                f"{data.title} is black and white already, so its {self.evaluation_draws} draws would be the same images "
                "and make errors look smaller than they are; set --data.evaluation-draws 1.",
                topic="options",
            )

    def _check_condition(self, data: Splits) -> None:
        """Raises `InputError` if labels or covariates are to be given to a model, and there are none, or others."""
        for images in (data.train, data.validation, data.test):
            self._check_covariates(images, data.title)
            labels = images.labels
            if not self.condition_classes:
                continue
            if labels is None or labels.min() < 0 or labels.max() >= self.condition_classes:
                least, most = (-1, -1) if labels is None else (int(labels.min()), int(labels.max()) + 1)
                found = "no labels" if labels is None else f"labels from {least} to {most - 1}"
                advice = "leave it out" if least < 0 else f"use --data.condition-classes {most}"
                raise InputError(
                    f"--data.condition-classes: expected images with labels 0 to {self.condition_classes - 1}, but "
                    f"{data.title} has {found}; {advice}.",
                    topic="conditional",
                )

    def _check_covariates(self, images: Images, title: str) -> None:
        found = 0 if images.covariates is None else images.covariates.shape[1]
        if self.condition_covariates and found != self.condition_covariates:
            advice = f"use --data.condition-covariates {found}" if found else "leave it out"
            raise InputError(
                f"--data.condition-covariates: expected images with {self.condition_covariates} covariates, but {title} has "
                f"{found or 'none'}; {advice}.",
                topic="conditional",
            )

    def describe(self, data: Splits) -> str:
        """Returns the protocol's name, which is stored with results on `data`.

        Raises `InputError` if `data` was split with another seed or size than this protocol specifies, and as `check` does.
        """
        self.check(data)
        if data.split_seed not in (None, self.split_seed):
            raise InputError(
                f"{data.title} was split by seed {data.split_seed}, but the protocol specifies {self.split_seed}: "
                "load the data with the protocol's split_seed."
            )
        if self.validation_size not in (None, len(data.validation)):
            raise InputError(
                f"{data.title} has {len(data.validation)} validation images, but the protocol specifies "
                f"{self.validation_size}: load the data with the protocol's validation_size."
            )
        channel, height, width = data.image_shape
        colour = "" if channel == 1 else " colour"
        if self.binarisation == "levels":
            draws = f"{self.levels} levels"
        elif self.binarisation == "intensities":
            draws = f"intensities k / {self.levels - 1}"
        elif data.binarised:
            draws = data.binarised
        elif self.binarisation == "static":
            draws = f"static binarisation (drawn once, seed {self.split_seed})"
        else:
            plural = "s" if self.evaluation_draws > 1 else ""
            draws = f"dynamic binarisation, {self.evaluation_draws} fixed test draw{plural}"
        draws += f", given {self.condition.in_words}" if self.condition.channels else ""
        by = f" (seed {data.split_seed})" if data.split_seed is not None else ""
        return f"{data.title} {height}x{width}{colour}, {draws}, split {'/'.join(map(str, data.sizes))}{by}"


def binarise(pixels: UInt8[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    """Draws 0 or 1, with probability pixel / 255 of 1, from torch's default generator.

    The probability is exact: an integer uniform on 0..254 lies below `pixel` in `pixel` of 255 cases, so that level 0 never
    gives 1, and level 255 always does.
    """
    return _draw(pixels).float()


def scaled(pixels: Integer[Tensor, "*shape"], protocol: Protocol) -> Float32[Tensor, "*shape"]:
    """Maps levels to numbers from -1 to 1 with protocol `levels`, and to numbers from 0 to 1 otherwise."""
    levels = protocol.levels
    k = pixels if levels == 2 ** _bits(pixels) else pixels.long() * levels >> _bits(pixels)
    return k.float() / ((levels - 1) / 2) - 1 if protocol.binarisation == "levels" else k.float() / (levels - 1)


def training_batch(
    images: Images, indices: Int64[Tensor, " batch"], protocol: Protocol, seed: int, step: int
) -> Float32[Tensor, "batch channel_or_more height width"]:
    """Returns the input of training step `step` of the run with seed `seed`, on the device of `images`: 0 and 1,
    -1..1, or 0..1."""
    protocol.check_shape(images.image_shape)
    if protocol.binarisation == "static":
        x = _static_training_images(images, protocol.split_seed)[indices.to(images.device)].float()
        return conditioned(_augmented(x, protocol, seed, step), images.known.take(indices), protocol)
    batch = images.take(indices)
    levels = _augmented(batch.pixels, protocol, seed, step)
    if not protocol.binarises:
        return conditioned(scaled(levels, protocol), batch.known, protocol)
    with seeded(seed, "binarise", step):
        return conditioned(binarise(levels), batch.known, protocol)


def evaluation_images(
    images: Images,
    protocol: Protocol,
    split: str,
    draws: int | None = None,
    chosen: Int64[Tensor, " _chosen"] | None = None,
) -> tuple[Float32[Tensor, "n channel height width"], Int64[Tensor, " n"] | None]:
    """Returns the first `draws` fixed draws of all images, and their labels; by default all draws of the protocol.

    `split` is the part of the data that `images` are: "train", "validation" or "test". The draws follow one after the other
    (all images of the first, then all of the second ...), so that `x.unflatten(0, (draws, -1))` separates them. `chosen` are
    the rows of this result that are wanted, all by default; an image selected before the draw would have another one, that
    of its new position.
    """
    if split not in PARTS:
        refuse_unknown("part of the data", split, PARTS)
    protocol.check_shape(images.image_shape)
    draws = protocol.evaluation_draws if draws is None else draws
    if not 1 <= draws <= protocol.evaluation_draws:
        raise InputError(f"draws must be 1 to {protocol.evaluation_draws} (evaluation_draws), but {draws} was given.")
    if not protocol.binarises:
        part = images if chosen is None else images.take(chosen)
        return conditioned(scaled(part.pixels, protocol), part.known, protocol), part.labels
    x = torch.cat([_fixed_draw(images, protocol.split_seed, split, draw) for draw in range(draws)])
    known = images.known.repeat(draws)
    if chosen is not None:
        chosen = chosen.to(x.device)
        x, known = x[chosen], known.take(chosen)
    return conditioned(x.float(), known, protocol), known.labels


def images_by_content(
    pixels: UInt[Tensor, "n channel height width"], protocol: Protocol, known: Known = NOTHING
) -> tuple[Float32[Tensor, "n channel_or_more height width"], list[int]]:
    """Returns the model input for images that belong to no data set, and a key for each. Both are functions of the image,
    and of what the model is told of it, independent of the other images and of their order."""
    protocol.check_shape((pixels.shape[1], pixels.shape[2], pixels.shape[3]))
    keys = [derive_seed("content", sha256(image.tobytes()).hexdigest()) for image in pixels.cpu().numpy()]
    if not protocol.binarises:
        return conditioned(scaled(pixels, protocol), known, protocol), keys
    generator = torch.Generator()
    draws = [_draw(image, generator.manual_seed(key)) for image, key in zip(pixels.cpu(), keys, strict=True)]
    return conditioned(torch.stack(draws).float().to(pixels.device), known, protocol), keys


def expected_images(
    pixels: UInt[Tensor, "n channel height width"], protocol: Protocol, known: Known = NOTHING
) -> Float32[Tensor, "n channel_or_more height width"]:
    """Returns the mean of the model input over its draws: grey, where a protocol makes pixels black and white. A model has no
    likelihood of grey pixels, but its encoder makes codes of them, without the noise of a draw."""
    protocol.check_shape((pixels.shape[1], pixels.shape[2], pixels.shape[3]))
    return conditioned(scaled(pixels, protocol), known, protocol)


def conditioned(
    x: Float32[Tensor, "n channel height width"], known: Known, protocol: Protocol
) -> Float32[Tensor, "n channel_or_more height width"]:
    """Returns the images as they are or, for a conditional model, with what it is told of them (`mpdvae.data.conditions`).
    Raises `InputError` if it needs labels or covariates and there are none, or others."""
    if not protocol.condition.channels:
        return x
    return with_condition(x, told_numbers(protocol.condition, known))


def split_train_validation(n: int, validation_size: int, seed: int) -> tuple[Int64[Tensor, " a"], Int64[Tensor, " b"]]:
    """Splits `n` images at random; returns the indices for training and for validation.

    Follows the paper's code: shuffle 0..n-1, take the last `validation_size` for validation. Raises `InputError` if one of
    the parts would be empty.
    """
    if not 0 < validation_size < n:
        raise InputError(
            f"{n} images cannot be split: {validation_size} were requested to be set aside, but only 1 to {n - 1} can be.",
            topic="own-data",
        )
    if not 0 <= seed < 2**32:
        raise InputError(f"split_seed must lie in 0..{2**32 - 1}, but {seed} was given.")
    order = np.arange(n)
    # numpy's legacy generator, whose stream is frozen for good: the paper's split was made with it.
    np.random.RandomState(seed).shuffle(order)
    indices = torch.from_numpy(order.astype(np.int64))
    return indices[: n - validation_size], indices[n - validation_size :]


def _bits(pixels: Tensor) -> int:
    return 8 * pixels.element_size()


def _levels_of(pixels: UInt[Tensor, "n channel height width"]) -> int:
    """Returns how many levels such images have: those of 8 bits that are held in 16 have 256."""
    return 256 if _bits(pixels) == 16 and not (pixels.long() % TO_16_BITS).any() else 2 ** _bits(pixels)


def _draw(pixels: UInt8[Tensor, "*shape"], generator: torch.Generator | None = None) -> Tensor:
    uniform = torch.randint(0, 255, pixels.shape, dtype=torch.uint8, device=pixels.device, generator=generator)
    return uniform < pixels


def _augmented(
    x: Shaped[Tensor, "batch channel height width"], protocol: Protocol, seed: int, step: int
) -> Shaped[Tensor, "batch channel height width"]:
    """Returns the images mirrored and shifted as `protocol` specifies, by draws that are a function of (seed, step)."""
    if not protocol.flip and not protocol.shift:
        return x
    n, _, height, width = x.shape
    with seeded(seed, "augment", step):
        mirrored = torch.randint(0, 2, (n, 1)).bool() & protocol.flip
        down, right = torch.randint(-protocol.shift, protocol.shift + 1, (2, n, 1))
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = torch.arange(width).expand(n, width)
    columns = (torch.where(mirrored, columns.flip(1), columns) - right).clamp(0, width - 1)
    each, rows, columns = (index.to(x.device) for index in (torch.arange(n), rows, columns))
    return x.movedim(1, -1)[each[:, None, None], rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()


def _fixed_draw(images: Images, seed: int, part: str, draw: int) -> Tensor:
    with seeded(seed, "fixed draw", part, draw):
        return _draw(images.pixels.cpu()).to(images.device)


@lru_cache(maxsize=2)
def _static_training_images(images: Images, seed: int) -> Tensor:
    return _fixed_draw(images, seed, "train", 0)
