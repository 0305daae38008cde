"""Pictures in files: one, or one for each page of a TIFF and each frame of an animation.

A file may be damaged, of any size, or made to take memory: Pillow is given the formats below by content, whatever a file is
called, and what it unpacks is bounded.

The second picture that phones put into a JPEG (a preview, a depth map) belongs to the first and is not read.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from mpdvae.data.picture_levels import Kind, PictureLevels, kind_of, levels_of_picture
from mpdvae.data.preparation import AS_STORED, Preparation
from mpdvae.errors import InputError
from mpdvae.system.available_memory import check_room
from mpdvae.system.closed_folder import Inside
from mpdvae.system.untrusted_files import in_short, opened

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""The formats that Pillow may recognise by content: one of its others starts a PostScript interpreter."""
_LARGEST_PICTURE = 1 << 26
"""Pixels; no model here is meant for a hundredth of that."""
_LARGEST_FILE = 1 << 29
"""Bytes of a picture, as stored: more than the largest one has uncompressed."""
_BYTES_PER_PIXEL = 4
_MOST_PAGES = 1 << 16
"""Pages of a file, whose list Pillow searches once for each."""
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


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture in a file."""

    file: Path
    frame: int | None
    """Number of the page or frame, from 0; None: the file's only one."""
    kind: Kind

    def name(self, folder: Path) -> str:
        """Returns the file's path relative to `folder`, with the number of the page: `stack.tif#12`."""
        return self._with_frame(self.file.relative_to(folder))

    def __str__(self) -> str:
        return self._with_frame(self.file)

    def _with_frame(self, path: Path) -> str:
        return str(path) if self.frame is None else f"{path}#{self.frame}"


def pictures_in(file: Path) -> list[Picture]:
    """Returns the pictures in `file`, of which only the descriptions are read. Raises `InputError` if it is damaged, or a
    symbolic link out of its folder."""
    refuse_way_out(file)
    with damage_told(file), ExitStack() as closing:
        image = _open(file, closing)
        kinds = _kinds(image, file)
    if len(kinds) == 1:
        return [Picture(file, None, kinds[0])]
    return [Picture(file, frame, kind) for frame, kind in enumerate(kinds)]


def _kinds(image: "Image", file: Path) -> list[Kind]:
    """Returns the kind of each page; the frames of anything but TIFF are of one kind."""
    if image.format in ("JPEG", "MPO"):
        return [kind_of(image)]
    if image.format != "TIFF":
        count = getattr(image, "n_frames", 1)
        return [kind_of(image)] * (count if count <= _MOST_PAGES else _refuse_pages(file))
    kinds = []
    with suppress(EOFError):  # Pillow's word for the end
        while len(kinds) <= _MOST_PAGES:
            image.seek(len(kinds))
            kinds.append(kind_of(image))
        _refuse_pages(file)
    return kinds


def _refuse_pages(file: Path) -> NoReturn:
    raise InputError(f"{file} claims more than {_MOST_PAGES:,} pages: divide it into several files.", topic="own-data")


class PictureReader:
    """Reads pictures as levels [channel height width]. A file of several stays open until another one is read, so that its
    pages are found quickly. For one thread at a time."""

    def __init__(self, preparation: Preparation = AS_STORED, channels: int | None = None) -> None:
        """Takes what `levels_of_picture` takes."""
        self.preparation, self.channels = preparation, channels
        self._file, self._image, self._closing = None, None, ExitStack()

    def read(self, picture: Picture) -> PictureLevels:
        """Reads one picture. Raises `InputError` if it is damaged, too large or of another colour mode."""
        if picture.frame is None:
            with damage_told(picture), ExitStack() as closing:
                return _read(_open(picture.file, closing), picture, self.preparation, self.channels)
        with damage_told(picture):
            if self._file != picture.file or self._image is None:
                self.close()
                self._image, self._file = _open(picture.file, self._closing), picture.file
            self._image.seek(picture.frame)
            return _read(self._image, picture, self.preparation, self.channels)

    def close(self) -> None:
        """Closes the file that is open, if any."""
        self._closing.close()
        self._file, self._image = None, None

    def __del__(self) -> None:
        self.close()


def read_picture(file: Path | Inside) -> np.ndarray:
    """Reads the first picture in `file` as uint8 [channel height width]. Raises `InputError` as `PictureReader.read` does."""
    with damage_told(file), ExitStack() as closing:
        return _read(_open(file, closing), file, AS_STORED, None).levels


def refuse_way_out(file: Path) -> None:
    """Raises `InputError` for a symbolic link out of the folder: untrusted folders must not refer to the user's files."""
    folder = file.parent
    if file.is_symlink() and not file.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{file} is a symbolic link that leads out of its folder: put the pictures themselves there.",
            topic="own-data",
        )


def _open(file: Path | Inside, closing: ExitStack) -> "Image":
    from PIL import Image  # needed only here

    return closing.enter_context(Image.open(closing.enter_context(opened(file, _LARGEST_FILE)), formats=_FORMATS))


def _read(image: "Image", name: object, preparation: Preparation, channels: int | None) -> PictureLevels:
    if image.width * image.height > _LARGEST_PICTURE:
        raise InputError(
            f"{name} claims {image.height}x{image.width} pixels, more than {_LARGEST_PICTURE:,}: make it smaller.",
            topic="own-data",
        )
    check_room(_BYTES_PER_PIXEL * image.width * image.height, f"{name}, {image.height}x{image.width}")
    return levels_of_picture(image, name, preparation, channels)


@contextmanager
def damage_told(name: object) -> Iterator[None]:
    """Raises `InputError` for whatever Pillow raises for a damaged file. Its warnings of odd metadata are not shown, but for
    those in other threads, with which Python's filters of warnings cannot be changed."""
    from PIL.Image import DecompressionBombError

    quiet = warnings.catch_warnings(action="ignore") if current_thread() is main_thread() else nullcontext()
    try:
        with quiet:
            yield
    except InputError:
        raise
    except (*_BROKEN, DecompressionBombError) as error:
        raise InputError(
            f"{name} cannot be read as a picture; it may be damaged ({in_short(error)}).", topic="own-data"
        ) from error
