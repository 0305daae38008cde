"""One picture as Pillow holds it, as levels: upright, opaque, grey or colour, of 8 bits or, if the preparation says so, 16.

    orientation      applied as EXIF states it, as every viewer does; Pillow applies that of TIFF itself
    transparency     blended with the background of the preparation, white by default: round(a x + (1 - a) background)
    16 bits, grey    kept, or rounded to 8: round(x / 257), so that 0 stays black and 65535 white, also where a TIFF has white
                     as 0
    16 bits, others  Pillow keeps the upper 8 of each channel of colour, and of grey with transparency; a picture in which
                     one colour of 16 bits is transparent is refused if the upper 8 do not tell where that is
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
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF 6.0, section 8; Pillow heeds it up to 8 bits
_STEPS = {"L;2": 85, "L;4": 17}
"""Levels of 8 bits between two of a PNG of fewer, by packing. Its transparent level is of as few bits."""
_KEPT = "_mpdvae_stored"
"""Attribute of a picture."""
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


@dataclass(frozen=True)
class _Stored:
    """What the file of a picture says of it, which Pillow forgets as it reads the pixels."""

    mode: str
    """Pillow's mode of the picture."""
    kind: Kind
    reduced: bool
    """Whether Pillow keeps the upper 8 of 16 bits."""
    turned: bool
    """Whether Pillow turns the picture itself."""
    step: int
    """Difference of the levels that Pillow makes of two successive levels in the file: 17 for one of 4 bits."""


def kind_of(image: "Image") -> Kind:
    """Returns what a picture is by its form."""
    return _stored(image).kind


def _stored(image: "Image") -> _Stored:
    """Returns what the file says. It is kept with the picture: one that a program holds is read more than once."""
    packed = {_packing(arguments) for _, _, _, arguments in getattr(image, "tile", ())}
    kept = getattr(image, _KEPT, None)
    if not packed and isinstance(kept, _Stored) and kept.mode == image.mode:
        return kept
    if image.format == "GIF" or image.mode in ("P", "PA"):
        kind = "palette"
    else:
        grey = image.mode in ("1", "L", "LA", "La", "I") or image.mode.startswith("I;16") or "LA;16B" in packed
        kind = "grey" if grey else "colour"
    reduced = not image.mode.startswith("I") and any(";16" in packing for packing in packed)
    turned = _tiff_tag(image, _ORIENTATION) in _TURNS
    stored = _Stored(image.mode, kind, reduced, turned, max((_STEPS.get(packing, 1) for packing in packed), default=1))
    if packed:
        setattr(image, _KEPT, stored)
    return stored


def _tiff_tag(image: "Image", tag: int) -> object:
    """Returns what a TIFF says under `tag`; None if it says nothing, and for another format."""
    return getattr(image, "tag_v2", {}).get(tag) if image.format == "TIFF" else None


def _packing(arguments: object) -> str:
    """Returns how pixels are packed in a part of a file, as Pillow calls it, from the arguments of its decoder."""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def levels_of_picture(
    image: "Image", name: object, preparation: Preparation = AS_STORED, channels: int | None = None
) -> PictureLevels:
    """Reads the pixels of a picture, and returns it prepared.

    Arguments:
        image: the picture.
        name: what messages call it.
        preparation: what is done to it.
        channels: 3 if a palette that holds only grey shall be read as colour; otherwise it is read as grey.

    Raises:
        InputError: for pixels whose black and white are not known, or another colour mode.
    """
    stored = _stored(image)
    image.load()
    kind, (levels, changes) = stored.kind, _opaque(image, name, preparation, stored)
    if kind == "palette" and channels != 3 and len(levels) == 3 and (levels == levels[:1]).all():
        levels = levels[:1]
    if kind == "palette" and channels == 3 and len(levels) == 1:
        levels = levels.repeat(3, axis=0)
    turn = _TURNS.get(_orientation(image), np.asarray)
    turned: tuple[Change, ...] = ("turned",) if stored.turned or turn is not np.asarray else ()
    reduced: tuple[Change, ...] = ("rounded",) if stored.reduced else ()
    return PictureLevels(np.array(preparation.apply(turn(levels)), order="C"), (*changes, *turned, *reduced))


def _orientation(image: "Image") -> int:
    """Returns the EXIF orientation, 1 if there is none or it cannot be read."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, struct.error):
        return 1  # Pillow raises any of these for damaged metadata, which leave the pixels as good as they were


def _opaque(
    image: "Image", name: object, preparation: Preparation, stored: _Stored
) -> tuple[np.ndarray, tuple[Change, ...]]:
    """Returns levels [channel height width], and what was changed for that."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _of_16_bits(image, preparation)
    changes: tuple[Change, ...] = ()
    clear = image.info.get("transparency")
    if isinstance(clear, int) and (image.mode == "1" or (image.mode == "L" and stored.step > 1)):
        levels = _channels_first(np.asarray(image.convert("L")))
        # Of white in black and white, Pillow says 1 or, in later versions, 255.
        hidden = levels == (255 * bool(clear) if image.mode == "1" else clear * stored.step)
        return np.where(hidden, np.uint8(preparation.background), levels), ("blended",) if hidden.any() else ()
    if image.mode == "RGB" and isinstance(clear, tuple) and stored.reduced:
        levels = _channels_first(np.asarray(image))
        if (levels == np.array(clear).reshape(3, 1, 1) >> 8).all(0).any():
            raise InputError(
                f"{name} has colours of 16 bits, of which {clear} is transparent, and pixels that agree with it in the upper "
                "8 bits, which are all that is read; save it with an alpha channel, or with 8 bits.",
                topic="own-data",
            )
        return levels, changes
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        alpha = np.asarray(image.getchannel("A")).astype(np.uint16)
        levels = _channels_first(np.asarray(image))[: 1 if stored.kind == "grey" else -1]
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
    if _tiff_tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
        deep = 65_535 - deep
    keep = preparation.bits == 16
    levels = deep.astype(np.uint16) if keep else ((deep + 128) // TO_16_BITS).astype(np.uint8)
    changes: tuple[Change, ...] = () if keep else ("rounded",)
    if not isinstance(clear, int) or not (deep == clear).any():
        return levels[None], changes
    levels[deep == clear] = preparation.background * (TO_16_BITS if keep else 1)
    return levels[None], (*changes, "blended")


def _channels_first(x: np.ndarray) -> np.ndarray:
    return x[None] if x.ndim == 2 else x.transpose(2, 0, 1)
