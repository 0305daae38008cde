"""The configuration of a run's data: which images, how they are prepared, and by which protocol they become the input of the
model.

The preparation of pictures is described in `mpdvae.data.preparation`, the protocols in `mpdvae.data.protocols`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from mpdvae.distributions.pixel_values import RANGES, PixelValues
from mpdvae.experiments.fields import Count, GrownConfig, PictureSize, Text

if TYPE_CHECKING:
    from torch import Tensor

    from mpdvae.data import Protocol
    from mpdvae.data.conditions import Condition
    from mpdvae.data.preparation import Preparation

MOST_CLASSES = 256
"""Classes that a model can be told: numbers up to 256 are exact in bfloat16, too."""


class Data(GrownConfig):
    """Training data and protocol."""

    later = frozenset(
        {
            "resize",
            "fit",
            "colours",
            "background",
            "levels",
            "flip",
            "shift",
            "condition_classes",
            "condition_covariates",
        }
    )

    dataset: Text = "mnist"
    """Name in `mpdvae data list`, or `own` together with a path."""
    path: Path | None = None
    """Own data: an .npz or .npy file, or a folder of pictures."""
    binarisation: Literal["dynamic", "static", "levels", "intensities"] = "dynamic"
    """dynamic: training images are redrawn at every visit; static: one fixed draw per image; levels: no binarisation, the
    levels as numbers in [-1, 1], for grey and colour; intensities: the same as numbers in [0, 1], for densities."""
    levels: Annotated[int, Field(ge=2, le=2**16)] = 256
    """Levels of a pixel, a power of two: images of more are reduced to so many (32: the 5 bits of some benchmarks). Own
    images have 16 bits where it is above 256."""
    evaluation_draws: Count = 5
    """Fixed binary draws of each validation and test image (paper: 5)."""
    validation_size: Count | None = None
    """Images held out of the training set; default: set by the data set (MNIST: 2,000 as in the paper)."""
    split_seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 524287
    """Seed of the split into training and validation (the released code's)."""
    resize: PictureSize | None = None
    """Own data: size to which pictures are brought, 32 or, height first, 32x48; default: they have one size already."""
    fit: Literal["crop", "pad", "stretch", "unscaled"] = "crop"
    """How resize reaches the size. crop: scaled to cover it, the middle kept; pad: scaled into it, on the background;
    stretch: scaled in each direction; unscaled: cut and padded around the middle."""
    colours: Literal["stored", "grey", "rgb"] = "stored"
    """Own data: whether pictures are turned to grey, or to colour."""
    background: Annotated[int, Field(ge=0, le=255)] = 255
    """Own data: grey level behind transparent pixels and around padded pictures; white by default."""
    flip: bool = False
    """Whether training images are mirrored, left and right, half of the time."""
    shift: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Most pixels by which training images are shifted in each direction, at random; their border is repeated."""

    condition_classes: Annotated[int, Field(ge=0, le=MOST_CLASSES)] = 0
    """Number of classes whose labels encoder, decoder and prior are told (MNIST: 10): a conditional VAE, with likelihoods of
    an image given its class; 0: none."""
    condition_covariates: Annotated[int, Field(ge=0, le=256)] = 0
    """Number of covariates of each image, such as an age or an angle, that encoder, decoder and prior are told: those of own
    data, in `covariates` of an archive or in covariates.csv of a folder; 0: none."""

    @model_validator(mode="after")
    def _static_draws_once(self) -> "Data":
        if self.binarisation != "dynamic" and self.evaluation_draws != 1:
            drawn = "draws every image once" if self.binarisation == "static" else "draws nothing"
            raise ValueError(
                f"evaluation_draws: {self.binarisation} binarisation {drawn}, expected 1, got {self.evaluation_draws}; "
                "set it to 1, or binarisation to dynamic"
            )
        return self

    @model_validator(mode="after")
    def _levels_of_bits(self) -> "Data":
        if self.levels & (self.levels - 1):
            raise ValueError(f"levels: expected a power of two, got {self.levels}; images have whole bits")
        if self.levels != 256 and self.pixel_values == "binary":
            raise ValueError(
                f"levels: {self.binarisation} binarisation draws from 256 levels, got {self.levels}; leave it out, or set "
                "binarisation to levels"
            )
        return self

    @model_validator(mode="after")
    def _published_data_are_not_prepared(self) -> "Data":
        given = [name for name in PREPARING if getattr(self, name) != PREPARING[name]]
        if self.dataset != "own" and given:
            raise ValueError(
                f"{given[0]}: is for dataset own, got {self.dataset}, whose images are used as they are published; leave it "
                "out"
            )
        return self

    @property
    def pixel_values(self) -> PixelValues:
        """The values of the pixels of the model's inputs and outputs."""
        return "binary" if self.binarisation in ("dynamic", "static") else self.binarisation

    @property
    def image_range(self) -> tuple[float, float]:
        """Smallest and largest pixel value of the model's inputs and outputs."""
        return RANGES[self.pixel_values]

    def shown(self, images: "Tensor") -> "Tensor":
        """Maps images from the model's value range to [0, 1], for display, without what a conditional model is told; Gaussian
        pixels beyond it are shown at its end."""
        images = self.without_condition(images)
        lowest, highest = self.image_range
        return ((images - lowest) / (highest - lowest)).clamp(0, 1)

    @property
    def condition(self) -> "Condition":
        """What the model is told of each image."""
        from mpdvae.data.conditions import Condition

        return Condition(self.condition_classes, self.condition_covariates)

    def without_condition(self, x: "Tensor") -> "Tensor":
        """Returns the images of the model's input [... channel height width], without what a conditional model is told."""
        return x[..., : -self.condition.channels, :, :] if self.condition.channels else x

    def protocol(self) -> "Protocol":
        """Returns the protocol that is applied to the images."""
        from mpdvae.data import Protocol

        return Protocol(
            self.binarisation,
            self.evaluation_draws,
            self.validation_size,
            self.split_seed,
            self.levels,
            self.flip,
            self.shift,
            self.condition_classes,
            self.condition_covariates,
        )

    def preparation(self) -> "Preparation":
        """Returns what is done to own pictures before the protocol."""
        from mpdvae.data.preparation import Preparation

        height, _, width = (self.resize or "").partition("x")
        size = (int(height), int(width or height)) if height else None
        return Preparation(size, self.fit, self.colours, self.background, 16 if self._deep else 8)

    @property
    def _deep(self) -> bool:
        """Whether images keep levels of 16 bits."""
        return self.dataset == "own" and self.levels > 256


PREPARING = {"resize": None, "fit": "crop", "colours": "stored", "background": 255}
"""Fields of `Data` on the preparation of own pictures, with the values that change nothing."""
