"""One picture as Pillow holds it, as levels: upright, opaque, grey or colour, of 8 bits or, if the preparation says so, 16.

    orientation      applied as EXIF states it, as every viewer does
    transparency     blended with the background of the preparation, white by default: round(a x + (1 - a) background)
    16 bits, grey    kept, or rounded to 8: round(x / 257), so that 0 stays black and 65535 white
    16 bits, colour  Pillow keeps the upper 8 of each channel
    palette, GIF     grey if all colours in use are; `channels` decides where that leaves a choice
    1 bit            0 and 255
    CMYK, YCbCr      Pillow's conversion to RGB; colour profiles are not applied

32 bits a pixel say nothing of black and white and are refused.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import UInt

from mpdvae.data.preparation import AS_STORED, TO_16_BITS, Preparation
from mpdvae.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

Kind = Literal["grey", "colour", "palette"]
"""What a picture is by its form; a palette may hold either."""
Change = Literal["turned", "blended", "rounded", "converted"]
IN_WORDS: dict[Change, str] = {
    "turned": "turned {} as EXIF states",
    "blended": "put {} with transparency on grey level {background}",
    "rounded": "reduced {} from 16 bits to 8",
    "converted": "converted {} from CMYK or YCbCr",
}

_ORIENTATION = 0x0112  # EXIF 2.32, table 4
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda x: x[:, :, ::-1],
    3: lambda x: x[:, ::-1, ::-1],
    4: lambda x: x[:, ::-1],
    5: lambda x: x.transpose(0, 2, 1),
    6: lambda x: x.transpose(0, 2, 1)[:, :, ::-1],
    7: lambda x: x.transpose(0, 2, 1)[:, ::-1, ::-1],
    8: lambda x: x.transpose(0, 2, 1)[:, ::-1],
}
"""What makes a picture [channel height width] of each orientation upright."""


@dataclass(frozen=True)
class PictureLevels:
    """A picture, and what was changed to read it."""

    levels: UInt[np.ndarray, "channel height width"]
    changes: tuple[Change, ...] = ()


def kind_of(image: "Image") -> Kind:
    """Returns what a picture is by its form, known before its pixels are read."""
    if image.format == "GIF" or image.mode in ("P", "PA"):
        return "palette"
    return "grey" if image.mode in ("1", "L", "LA", "La", "I") or image.mode.startswith("I;16") else "colour"


def is_deep(image: "Image") -> bool:
    """Returns whether a picture in colour has 16 bits a channel; known only before its pixels are read."""
    return kind_of(image) == "colour" and any(
        "16" in str(arguments) for _, _, _, arguments in getattr(image, "tile", ())
    )


def levels_of_picture(
    image: "Image", name: object, preparation: Preparation = AS_STORED, channels: int | None = None
) -> PictureLevels:
    """Returns a picture whose pixels are read, prepared.

    Arguments:
        image: the picture.
        name: what messages call it.
        preparation: what is done to it.
        channels: 3 if a palette that holds only grey shall be read as colour; otherwise it is read as grey.

    Raises:
        InputError: for pixels whose black and white are not known, or another colour mode.
    """
    kind, (levels, changes) = kind_of(image), _opaque(image, name, preparation)
    if kind == "palette" and channels != 3 and len(levels) == 3 and (levels == levels[:1]).all():
        levels = levels[:1]
    if kind == "palette" and channels == 3 and len(levels) == 1:
        levels = levels.repeat(3, axis=0)
    turn = _TURNS.get(_orientation(image), np.asarray)
    turned: tuple[Change, ...] = ("turned",) if turn is not np.asarray else ()
    return PictureLevels(np.array(preparation.apply(turn(levels)), order="C"), (*changes, *turned))


def _orientation(image: "Image") -> int:
    """Returns the EXIF orientation, 1 if there is none or it cannot be read."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, struct.error):
        return 1  # Pillow raises any of these for damaged metadata, which leave the pixels as good as they were


def _opaque(image: "Image", name: object, preparation: Preparation) -> tuple[np.ndarray, tuple[Change, ...]]:
    """Returns levels [channel height width], and what was changed for that."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _of_16_bits(image, preparation)
    changes: tuple[Change, ...] = ()
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        alpha = np.asarray(image.getchannel("A")).astype(np.uint16)
        levels = _channels_first(np.asarray(image))[:-1]
        if (alpha == 255).all():
            return levels, changes
        return ((levels * alpha + (255 - alpha) * preparation.background + 127) // 255).astype(np.uint8), ("blended",)
    if image.mode in ("1", "L"):
        return _channels_first(np.asarray(image.convert("L"))), changes
    if image.mode in ("CMYK", "YCbCr"):
        changes = ("converted",)
    elif image.mode not in ("RGB", "RGBX", "P"):
        raise InputError(
            f"{name} has the colour mode {image.mode}: expected grey of 1, 8 or 16 bits, RGB, CMYK, YCbCr or a palette; "
            "convert it.",
            topic="own-data",
        )
    return _channels_first(np.asarray(image.convert("RGB"))), changes


def _of_16_bits(image: "Image", preparation: Preparation) -> tuple[np.ndarray, tuple[Change, ...]]:
    """Keeps 16 bits, or rounds them to 8. A transparent grey level is a number of 16 bits, which Pillow's own conversion
    would clip."""
    deep, clear = np.asarray(image).astype(np.uint32), image.info.get("transparency")
    keep = preparation.bits == 16
    levels = deep.astype(np.uint16) if keep else ((deep + 128) // TO_16_BITS).astype(np.uint8)
    changes: tuple[Change, ...] = () if keep else ("rounded",)
    if not isinstance(clear, int) or not (deep == clear).any():
        return levels[None], changes
    levels[deep == clear] = preparation.background * (TO_16_BITS if keep else 1)
    return levels[None], (*changes, "blended")


def _channels_first(x: np.ndarray) -> np.ndarray:
    return x[None] if x.ndim == 2 else x.transpose(2, 0, 1)
