"""Preparation of a user's own pictures: one size, grey or colour, a background; recorded in the experiment.

    colours     stored: as in the file; grey: the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B; rgb: three channels
    size        (height, width) of the result, which `fit` reaches
    fit         crop: scaled until it covers the size, then the middle is cut out
                pad: scaled until it lies within the size, then surrounded by the background
                stretch: scaled in both directions to the size
                unscaled: not scaled; what is too large is cut around the middle, what is too small is surrounded
    background  grey level behind transparent pixels and around padded pictures

Pictures are scaled by Pillow's Lanczos filter, whose support grows with the reduction, so that nothing is aliased. A picture
that has the form already stays as it is, so preparing twice is preparing once: a model's `preprocess` and `mpdvae encode`
apply the preparation of the training images to new ones, whether those were prepared or not.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from jaxtyping import UInt8

from mpdvae.errors import InputError, refuse_unknown

if TYPE_CHECKING:
    from PIL.Image import Image

Colours = Literal["stored", "grey", "rgb"]
Fit = Literal["crop", "pad", "stretch", "unscaled"]
WHITE = 255
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
    def in_words(self) -> str:
        """What it does, for the name of the data: "grey, scaled and cropped to 32x32"; empty if it leaves opaque pictures as
        they are."""
        surrounded = self.fit in ("pad", "unscaled") and self.background != WHITE
        fitted = _FITTED[self.fit].format(f"{self.size[0]}x{self.size[1]}") if self.size else ""
        words = [] if self.channels is None else ["colour" if self.colours == "rgb" else "grey"]
        words += [fitted + (f" on grey level {self.background}" if surrounded else "")] if fitted else []
        return ", ".join(words)

    def apply(self, levels: UInt8[np.ndarray, "channel height width"]) -> UInt8[np.ndarray, "_channel _height _width"]:
        """Returns the prepared picture."""
        if self.channels in (None, len(levels)) and self.size in (None, levels.shape[1:]):
            return levels
        from PIL.Image import fromarray  # needed only here

        image = fromarray(levels[0] if len(levels) == 1 else np.ascontiguousarray(levels.transpose(1, 2, 0)))
        if self.channels not in (None, len(levels)):
            image = image.convert("L" if self.channels == 1 else "RGB")
        if self.size is not None and self.size != (image.height, image.width):
            image = self._fitted(image, self.size)
        prepared = np.asarray(image)
        return prepared[None] if prepared.ndim == 2 else np.ascontiguousarray(prepared.transpose(2, 0, 1))

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
        grey = self.background
        sheet = new(image.mode, (width, height), grey if image.mode == "L" else (grey, grey, grey))
        sheet.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        return sheet


AS_STORED = Preparation()
"""Leaves opaque pictures as they are, and puts transparent ones on white."""
