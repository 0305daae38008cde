"""Own data: a numpy archive (npz.py) or a folder of pictures (image_folder.py), split here unless the files define a split.

Without a test set, a tenth of the images becomes one; then a tenth of the rest (or the requested number) is set aside for
validation, both at random by the split seed.
"""

from pathlib import Path

from mpdvae.data.image_folder import read_image_folder
from mpdvae.data.images import Images, Splits
from mpdvae.data.npz import read_npz
from mpdvae.data.protocols import split_train_validation
from mpdvae.errors import InputError

_FEWEST = 10  # with fewer images, a tenth would be empty


def own_path(path: Path | str) -> Path:
    """Returns `path` with a leading `~` replaced by the home folder. Raises `InputError` for a user that does not exist."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path}: there is no such user; give the path of the images.", topic="own-data") from None


def load_own(path: Path, validation_size: int | None, split_seed: int) -> Splits:
    """Loads and splits the images at `path`. Raises `InputError` with one clear sentence for anything wrong with them."""
    if path.is_dir():
        parts = {"all": read_image_folder(path)}
    elif path.is_file():
        parts = read_npz(path)
    else:
        raise InputError(
            f"{path} does not exist: give an .npz file or a folder of pictures; if a run's images have moved, give their "
            "new place with --data-dir.",
            topic="own-data",
        )
    return split_own(parts, str(path), f"own data {path.name}", validation_size, split_seed)


def split_own(parts: dict[str, Images], where: str, title: str, validation_size: int | None, split_seed: int) -> Splits:
    """Splits images that are called "all", or "train" and "test". Raises `InputError`, naming `where`, if they are too
    few."""
    train, test = _with_test(parts, where, split_seed)
    size = (len(train) + 9) // 10 if validation_size is None else validation_size
    if not 0 < size < len(train):
        raise InputError(
            f"{where} has too few images: {len(train)} remain besides the test images, of which {size} cannot be set "
            "aside for validation.",
            topic="own-data",
        )
    kept, aside = split_train_validation(len(train), size, split_seed)
    return Splits.of("own", title, train.take(kept), train.take(aside), test, split_seed)


def _with_test(parts: dict[str, Images], where: str, split_seed: int) -> tuple[Images, Images]:
    if "all" in parts:
        images = parts["all"]
        if len(images) < _FEWEST:
            raise InputError(
                f"{where} has too few images: {len(images)}, but at least {_FEWEST} are needed to set a tenth aside for "
                "testing and another for validation.",
                topic="own-data",
            )
        rest, test = split_train_validation(len(images), len(images) // 10, split_seed)
        return images.take(rest), images.take(test)
    train, test = parts["train"], parts["test"]
    if train.image_shape != test.image_shape:
        raise InputError(
            f"training and test images in {where} differ in shape: {train.image_shape} and {test.image_shape} (channel, "
            "height, width).",
            topic="own-data",
        )
    return train, test
