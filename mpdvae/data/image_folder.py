"""Own images from a folder of picture files.

    FOLDER/*.png            images without labels, or
    FOLDER/CLASS/**/*.png   one sub-folder per class; classes are numbered in the order of their names

A table FOLDER/covariates.csv adds numbers that are known of each (covariates.py).

Pictures are read in the order of their paths, those of one file in their own order. They must have the same size and be
either all grey or all colour, unless a `Preparation` makes them so. Hidden files are ignored; all other files that hold no
pictures are counted and named.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from mpdvae.data import covariates
from mpdvae.data.class_names import ClassNames
from mpdvae.data.images import Images
from mpdvae.data.picture_file import ENDINGS, Picture, pictures_in, refuse_way_out
from mpdvae.data.picture_source import PictureSource
from mpdvae.data.preparation import AS_STORED, Preparation
from mpdvae.errors import InputError, listed
from mpdvae.system.untrusted_files import in_short
from mpdvae.system.untrusted_text import encodable

NAMED = 3
"""Number of files left out that are named."""
NAMED_CLASSES = 5
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
"""Names of folders that hold parts of a data set."""


@dataclass(frozen=True)
class PictureFolder:
    """The pictures of a folder, before they are read."""

    folder: Path
    pictures: list[Picture]
    class_names: list[str] | None
    """Names of the classes, in the order of their numbers; None without classes."""
    left_out: list[str]
    """Files that hold no pictures, relative to the folder."""

    @property
    def names(self) -> list[str]:
        """Name of each picture: its file, relative to the folder, and the page if it has several."""
        return [picture.name(self.folder) for picture in self.pictures]

    @cached_property
    def labels(self) -> torch.Tensor | None:
        """Number of the class of each picture."""
        if self.class_names is None:
            return None
        number = {name: label for label, name in enumerate(self.class_names)}
        return torch.tensor([number[picture.file.relative_to(self.folder).parts[0]] for picture in self.pictures])

    @property
    def recorded_names(self) -> ClassNames:
        """Names of the classes as a run records them, in the order of their numbers; empty without classes."""
        return tuple(map(encodable, self.class_names or ()))

    @cached_property
    def covariates(self) -> torch.Tensor | None:
        """Numbers that are known of each picture [n covariate]; None without a table of them."""
        return covariates.of_folder(self.folder, self.names)

    def reading(self, source: PictureSource) -> str:
        """Returns what was read, changed and left out, in one line; `source` has read the pictures."""
        height, width = source.image_shape[1:]
        parts = [
            f"read {_counted(len(self.pictures), 'picture')} of {height}x{width}",
            *source.changes(),
        ]
        if self.class_names:
            called = listed([in_short(name, 60) for name in self.class_names], NAMED_CLASSES)
            parts[0] += f" in {len(self.class_names)} class{'' if len(self.class_names) == 1 else 'es'} ({called})"
        return "; ".join([*parts, *([self.omission] if self.left_out else [])])

    @property
    def omission(self) -> str:
        """The files left out, counted, in words; empty if there are none."""
        if not self.left_out:
            return ""
        names = [in_short(name) for name in self.left_out[:NAMED]] + ["..."] * (len(self.left_out) > NAMED)
        return f"left out {_counted(len(self.left_out), 'file')} without pictures: {', '.join(names)}"


def read_image_folder(folder: Path, preparation: Preparation = AS_STORED) -> Images:
    """Reads the pictures in `folder`, prepared; warns of files that are left out. Raises `InputError` if the pictures cannot
    be used together."""
    found = picture_folder(folder)
    images = Images(
        torch.from_numpy(PictureSource(found.pictures, preparation).read_all()),
        found.labels,
        covariates=found.covariates,
        class_names=found.recorded_names,
    )
    if found.left_out:
        warnings.warn(f"{folder}: {found.omission}", stacklevel=2)
    return images


def picture_folder(folder: Path) -> PictureFolder:
    """Finds the pictures in `folder`. Raises `InputError` if there are none, a file is damaged, or it is unclear what the
    classes are."""
    entries = _visible(folder)
    classes = [path for path in entries if path.is_dir()]
    files = [path for path in entries if not path.is_dir() and path.name != covariates.TABLE]
    loose = [path for path in files if _is_picture(path)]
    if classes and loose:
        raise InputError(
            f"{folder} holds both pictures ({loose[0].name}) and sub-folders ({classes[0].name}): "
            "put every picture into a sub-folder named after its class, or all into one folder.",
            topic="own-data",
        )
    files += [file for path in classes for file in _below(path)]
    held = sorted(path for path in files if _is_picture(path))
    if not held:
        raise InputError(
            f"{folder} is empty: it holds no pictures ({', '.join(sorted(ENDINGS))}), and neither do its sub-folders.",
            topic="own-data",
        )
    _check_classes(classes, {path.relative_to(folder).parts[0] for path in held})
    _refuse_splits(folder, classes)
    left_out = sorted(str(path.relative_to(folder)) for path in files if not _is_picture(path))
    pictures = [picture for file in held for picture in pictures_in(file)]
    return PictureFolder(folder, pictures, [path.name for path in classes] or None, left_out)


def _check_classes(classes: list[Path], filled: set[str]) -> None:
    for path in classes:
        if path.name not in filled:
            raise InputError(
                f"{path} holds no pictures, though each sub-folder is a class: remove or fill it.", topic="own-data"
            )


def _refuse_splits(folder: Path, classes: list[Path]) -> None:
    """Raises `InputError` for a folder of parts, train/CLASS and test/CLASS, whose classes would be called train and test."""
    if not classes or not {path.name.lower() for path in classes} <= SPLITS:
        return
    held = [{path.name for path in _visible(part) if path.is_dir()} for part in classes]
    if shared := sorted(set.intersection(*held)):
        parts, within = listed([path.name for path in classes]), listed([in_short(name, 60) for name in shared], NAMED)
        raise InputError(
            f"{folder}: expected a sub-folder for each class, got {parts}, which are named like parts of a data set and hold "
            f"{within}; give {folder / _training(classes)}, or put the pictures of "
            "each class into one folder.",
            topic="own-data",
        )


def _training(classes: list[Path]) -> str:
    """Returns the name of the part to train on."""
    return next((path.name for path in classes if path.name.lower().startswith("train")), classes[0].name)


def _visible(folder: Path) -> list[Path]:
    """Returns the entries of `folder` that are not hidden, sorted. Raises `InputError` if it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder} cannot be listed ({error.strerror}).", topic="own-data") from None


def _below(folder: Path) -> list[Path]:
    """Returns the files of a class, at any depth. Raises `InputError` for a link that leads out of the folder, or into it
    again."""
    refuse_way_out(folder)
    files, waiting = [], [folder]
    while waiting:
        for path in _visible(waiting.pop()):
            if not path.is_dir():
                files.append(path)
                continue
            if path.is_symlink():
                raise InputError(
                    f"{path} is a symbolic link to a folder within a class: put the pictures themselves there.",
                    topic="own-data",
                )
            waiting.append(path)
    return files


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and path.is_file()


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
