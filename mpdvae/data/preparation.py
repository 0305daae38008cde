"""Preparation of a user's own pictures: one size, grey or colour, a background; recorded in the experiment.

    colours     stored: as in the file; grey: the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B; rgb: three channels
    size        (height, width) of the result, which `fit` reaches
    fit         crop: scaled until it covers the size, then the middle is cut out
                pad: scaled until it lies within the size, then surrounded by the background
                stretch: scaled in both directions to the size
                unscaled: not scaled; what is too large is cut around the middle, what is too small is surrounded
    background  grey level behind transparent pixels and around padded pictures, of 8 bits
    bits        levels 0..255, or 0..65535 for models of more than 256 levels: level k of 8 bits is then 257 k, so that white
                stays white; a picture of 8 bits is scaled as one, and keeps such levels

Pictures are scaled by Pillow's Lanczos filter, whose support grows with the reduction, so that nothing is aliased. A picture
that has the form already stays as it is, so preparing twice is preparing once: a model's `preprocess` and `mpdvae encode`
apply the preparation of the training images to new ones, whether those were prepared or not.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from jaxtyping import UInt

from mpdvae.errors import InputError, refuse_unknown

if TYPE_CHECKING:
    from PIL.Image import Image

Colours = Literal["stored", "grey", "rgb"]
Fit = Literal["crop", "pad", "stretch", "unscaled"]
Bits = Literal[8, 16]
WHITE = 255
TO_16_BITS = 257
"""65535 / 255"""
LUMA = (0.299, 0.587, 0.114)
_CHANNELS = {"grey": 1, "rgb": 3}
_FITTED = {
    "crop": "scaled and cropped to {}",
    "pad": "scaled and padded to {}",
    "stretch": "stretched to {}",
    "unscaled": "cut or padded to {}",
}


@dataclass(frozen=True)
class Preparation:
    """What is done to each picture; see the head of this file. Raises `InputError` for values that it cannot have."""

    size: tuple[int, int] | None = None
    """Height and width of the result; None: those of the picture."""
    fit: Fit = "crop"
    colours: Colours = "stored"
    background: int = WHITE
    bits: Bits = 8

    def __post_init__(self) -> None:
        for name, value, known in (("fit", self.fit, get_args(Fit)), ("colours", self.colours, get_args(Colours))):
            if value not in known:
                refuse_unknown(name, value, list(known))
        if not 0 <= self.background <= WHITE:
            raise InputError(f"background: expected a grey level from 0 to {WHITE}, got {self.background}.")
        if self.size is not None and min(self.size) < 1:
            raise InputError(f"size: expected a positive height and width, got {self.size}.")

    @property
    def channels(self) -> int | None:
        """Channels of every result; None: those of the picture."""
        return _CHANNELS.get(self.colours)

    @property
    def changes_form(self) -> bool:
        """Whether pictures of another size, or other channels, get those of the result."""
        return self.size is not None or self.channels is not None

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Type of the levels of the result."""
        return np.uint16 if self.bits == 16 else np.uint8

    @property
    def in_words(self) -> str:
        """What it does, for the name of the data: "grey, scaled and cropped to 32x32"; empty if it leaves opaque pictures as
        they are."""
        surrounded = self.fit in ("pad", "unscaled") and self.background != WHITE
        fitted = _FITTED[self.fit].format(f"{self.size[0]}x{self.size[1]}") if self.size else ""
        words = [] if self.channels is None else ["colour" if self.colours == "rgb" else "grey"]
        words += [fitted + (f" on grey level {self.background}" if surrounded else "")] if fitted else []
        return ", ".join(words)

    def apply(self, levels: UInt[np.ndarray, "channel height width"]) -> UInt[np.ndarray, "_channel _height _width"]:
        """Returns the prepared picture, of 8 or 16 bits, from one of at most as many."""
        if levels.dtype != self.dtype:
            levels = levels.astype(self.dtype) * self.dtype(TO_16_BITS)
        if self.channels in (None, len(levels)) and self.size in (None, levels.shape[1:]):
            return levels
        if len(levels) not in (1, 3):
            return self._of_each_channel(levels)
        if self.bits == 8:
            return self._of_8_bits(levels)
        if not (levels % TO_16_BITS).any():  # scaled in 16 bits, it would seem to have them
            return self._of_8_bits((levels // TO_16_BITS).astype(np.uint8)).astype(np.uint16) * np.uint16(TO_16_BITS)
        return self._of_16_bits(levels)

    def _of_each_channel(self, levels: np.ndarray) -> np.ndarray:
        """Pillow has pictures of one and of three channels."""
        if self.channels is not None:
            raise InputError(
                f"colours: {self.colours} is made of pictures of 1 or 3 channels, got {len(levels)} channels; leave it out, "
                "or choose the channels before.",
                topic="own-data",
            )
        return np.concatenate([self.apply(channel[None]) for channel in levels])

    def _of_8_bits(self, levels: np.ndarray) -> np.ndarray:
        from PIL.Image import fromarray  # needed only here

        image = fromarray(levels[0] if len(levels) == 1 else np.ascontiguousarray(levels.transpose(1, 2, 0)))
        if self.channels not in (None, len(levels)):
            image = image.convert("L" if self.channels == 1 else "RGB")
        if self.size is not None and self.size != (image.height, image.width):
            image = self._fitted(image, self.size)
        prepared = np.asarray(image)
        return prepared[None] if prepared.ndim == 2 else np.ascontiguousarray(prepared.transpose(2, 0, 1))

    def _of_16_bits(self, levels: np.ndarray) -> np.ndarray:
        """Pillow has no colours of 16 bits, but it scales single channels of floating-point numbers."""
        if self.channels == 1 and len(levels) == 3:
            levels = np.tensordot(LUMA, levels, 1)[None]
        elif self.channels == 3 and len(levels) == 1:
            levels = levels.repeat(3, axis=0)
        if self.size is not None and self.size != levels.shape[1:]:
            from PIL.Image import fromarray

            scaled = [self._fitted(fromarray(channel.astype(np.float32)), self.size) for channel in levels]
            levels = np.stack([np.asarray(channel) for channel in scaled])
        return levels.round().clip(0, WHITE * TO_16_BITS).astype(np.uint16)

    def _fitted(self, image: "Image", size: tuple[int, int]) -> "Image":
        from PIL import ImageOps
        from PIL.Image import Resampling, new

        height, width = size
        if self.fit == "crop":
            return ImageOps.fit(image, (width, height), Resampling.LANCZOS)
        if self.fit == "stretch":
            return image.resize((width, height), Resampling.LANCZOS)
        if self.fit == "pad":
            scale = min(height / image.height, width / image.width)
            within = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
            image = image.resize(within, Resampling.LANCZOS)
        grey = self.background * (TO_16_BITS if image.mode == "F" else 1)
        sheet = new(image.mode, (width, height), (grey, grey, grey) if image.mode == "RGB" else grey)
        sheet.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        return sheet


AS_STORED = Preparation()
"""Leaves opaque pictures as they are, and puts transparent ones on white."""
