"""Own images from a folder of picture files.

    FOLDER/*.png            images without labels, or
    FOLDER/CLASS/*.png      one sub-folder per class; classes are numbered in the order of their names

All pictures must have the same size and be either all grey or all colour, as stored in the files. Files are read in the
order of their paths; hidden files and files without a picture's extension are ignored.
"""

import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mpdvae.data.images import Images
from mpdvae.errors import InputError
from mpdvae.system.available_memory import check_room
from mpdvae.system.closed_folder import Inside
from mpdvae.system.untrusted_files import in_short, opened

if TYPE_CHECKING:
    from PIL import Image

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""The formats that Pillow may recognise by content: one of its others starts a PostScript interpreter."""
_LARGEST_PICTURE = 1 << 26
"""Pixels; no model here is meant for a hundredth of that."""
_LARGEST_FILE = 1 << 29
"""Bytes of a picture, as stored: more than the largest one has uncompressed."""
_BYTES_PER_PIXEL = 4
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    MemoryError,
    RuntimeError,
    Warning,
    struct.error,
    zlib.error,
)
"""Errors that Pillow raises for damaged files, besides its DecompressionBombError, which is a subclass of none of these."""


def read_image_folder(folder: Path) -> Images:
    """Reads the pictures in `folder`. Raises `InputError` if they cannot be used together."""
    files = picture_files(folder)
    pixels = torch.from_numpy(_stack(files))
    if files[0].parent == folder:
        return Images(pixels)
    number = {path: label for label, path in enumerate(_classes(folder))}
    return Images(pixels, torch.tensor([number[file.parent] for file in files]))


def picture_files(folder: Path) -> list[Path]:
    """Returns the files of the pictures in `folder`, in the order in which `read_image_folder` reads them. Raises
    `InputError` if there are none."""
    classes, loose = _classes(folder), _pictures(folder)
    if classes and loose:
        raise InputError(
            f"{folder} holds both pictures ({loose[0].name}) and sub-folders ({classes[0].name}): "
            "put every picture into a sub-folder named after its class, or all into one folder.",
            topic="own-data",
        )
    files = loose if loose else [file for path in classes for file in _pictures(path)]
    if not files:
        raise InputError(
            f"{folder} is empty: it holds no pictures ({', '.join(sorted(_ENDINGS))}), and neither do its sub-folders.",
            topic="own-data",
        )
    for path in classes:
        if not _pictures(path):
            raise InputError(
                f"{path} holds no pictures, though each sub-folder is a class: remove or fill it.", topic="own-data"
            )
    return files


def _classes(folder: Path) -> list[Path]:
    classes = sorted(path for path in _visible(folder) if path.is_dir())
    for path in classes:
        _refuse_way_out(path)
    return classes


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in _visible(folder) if path.is_file() and path.suffix.lower() in _ENDINGS)


def _stack(files: list[Path]) -> np.ndarray:
    """Reads all pictures into one array [n channel height width]."""
    first = read_picture(files[0])
    size = f"{first.shape[1]}x{first.shape[2]}"
    check_room(len(files) * first.size, f"{files[0].parent} with {len(files)} pictures of {size}")
    pixels = np.empty((len(files), *first.shape), np.uint8)
    for index, file in enumerate(files):
        picture = read_picture(file)
        if picture.shape[0] != first.shape[0]:
            kind = {1: "grey", 3: "colour"}
            raise InputError(
                f"{file} is {kind[picture.shape[0]]}, but {files[0]} is {kind[first.shape[0]]}: make them all grey or "
                "all colour.",
                topic="own-data",
            )
        if picture.shape != first.shape:
            raise InputError(
                f"{file} is {picture.shape[1]}x{picture.shape[2]} (height x width), but {files[0]} is "
                f"{first.shape[1]}x{first.shape[2]}: resize all pictures to one size.",
                topic="own-data",
            )
        pixels[index] = picture
    return pixels


def read_picture(file: Path | Inside) -> np.ndarray:
    """Reads one picture as uint8 [channel height width]. Raises `InputError` if it is damaged, too large, partly transparent,
    or a symbolic link out of its folder."""
    from PIL import Image  # needed only here

    if isinstance(file, Path):
        _refuse_way_out(file)
    try:
        with (
            opened(file, _LARGEST_FILE) as stream,
            warnings.catch_warnings(),
            Image.open(stream, formats=_FORMATS) as image,
        ):
            warnings.simplefilter("ignore")  # about odd metadata in a damaged file
            if image.width * image.height > _LARGEST_PICTURE:
                raise InputError(
                    f"{file} claims {image.height}x{image.width} pixels, more than {_LARGEST_PICTURE:,}: make it smaller.",
                    topic="own-data",
                )
            check_room(_BYTES_PER_PIXEL * image.width * image.height, f"{file}, {image.height}x{image.width}")
            image.load()
            return levels_of_picture(image, file)
    except InputError:
        raise
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise InputError(
            f"{file} cannot be read as a picture; it may be damaged ({in_short(error)}).", topic="own-data"
        ) from error


def levels_of_picture(image: "Image.Image", name: Path | Inside | str) -> np.ndarray:
    """Returns one picture as uint8 [channel height width]. Raises `InputError`, which calls it `name`, if it is partly
    transparent or of another colour mode."""
    levels = np.asarray(_opaque(image, name))
    return levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1)


def _refuse_way_out(file: Path) -> None:
    """Raises `InputError` for a symbolic link out of the folder: untrusted folders must not refer to the user's files."""
    folder = file.parent
    if file.is_symlink() and not file.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{file} is a symbolic link that leads out of its folder: put the pictures themselves there.",
            topic="own-data",
        )


def _opaque(image: "Image.Image", file: Path | Inside | str) -> "Image.Image":
    """Converts the picture to mode L or RGB. Rejects transparency that is in use, and more than 8 bits."""
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA") else "RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise InputError(f"{file} is partly transparent: flatten it onto a background first.", topic="own-data")
    if image.mode in ("1", "L", "LA"):
        return image.convert("L")
    if image.mode in ("RGB", "RGBA", "P"):
        return image.convert("RGB")
    raise InputError(f"{file} has the colour mode {image.mode}: expected 8 bits, grey or RGB.", topic="own-data")
