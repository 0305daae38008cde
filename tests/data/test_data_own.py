"""Own data: what is read as what, and one clear sentence for everything that cannot be used."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import picture
from PIL import Image
from small_runs import tiny

from mpdvae import data
from mpdvae.data import Splits
from mpdvae.data.image_folder import read_image_folder
from mpdvae.data.npz import read_npz
from mpdvae.data.own import load_own
from mpdvae.data.preparation import Preparation
from mpdvae.data.protocols import split_train_validation
from mpdvae.errors import InputError
from mpdvae.runs.run_folder import Run
from mpdvae.workflows.job import data_of, describe_run

GREY = np.random.default_rng(0).integers(0, 256, (20, 4, 5)).astype(np.uint8)
COLOUR = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3)).astype(np.uint8)
LABELS = np.arange(20)


def load(path: Path, **options: Any) -> Splits:
    return data.load("own", path=path, **options)


def save(tmp_path: Path, **arrays: np.ndarray) -> Path:
    np.savez(tmp_path / "own.npz", **arrays)  # type: ignore[arg-type]
    return tmp_path / "own.npz"


# archives -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (GREY, GREY[:, None]),
        (GREY[:, None], GREY[:, None]),
        (GREY[..., None], GREY[:, None]),
        (COLOUR, COLOUR.transpose(0, 3, 1, 2)),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR.transpose(0, 3, 1, 2)),
        (GREY / 255, GREY[:, None]),
        ((GREY / 255).astype(np.float32), GREY[:, None]),
        (GREY.astype(np.int64), GREY[:, None]),
        (GREY > 99, 255 * (GREY > 99)[:, None]),
    ],
    ids=["nhw", "n1hw", "nhw1", "nhw3", "n3hw", "float64", "float32", "int64", "bool"],
)
def test_layouts_and_types(tmp_path: Path, x: np.ndarray, expected: np.ndarray) -> None:
    images = read_npz(save(tmp_path, x=x))["all"]
    assert np.array_equal(images.pixels.numpy(), expected)
    assert images.labels is None


def test_all_images_are_split_by_seed(tmp_path: Path) -> None:
    path = save(tmp_path, x=GREY, y=LABELS[:, None])
    splits = load(path)
    assert splits.sizes == (16, 2, 2)
    assert splits.title == "own data own.npz"
    assert load(path).sha256 == splits.sha256 != load(path, split_seed=1).sha256
    assert load(path, validation_size=5).sizes == (13, 5, 2)
    for part in (splits.train, splits.validation, splits.test):
        assert part.labels is not None
        assert np.array_equal(part.pixels.numpy()[:, 0], GREY[part.labels])


def test_a_given_test_set_is_kept(tmp_path: Path) -> None:
    path = save(tmp_path, x_train=GREY[:15], y_train=LABELS[:15], x_test=GREY[15:], y_test=LABELS[15:])
    splits = load(path)
    assert splits.sizes == (13, 2, 5)
    assert np.array_equal(splits.test.pixels.numpy()[:, 0], GREY[15:])
    assert load(save(tmp_path, x_train=GREY)).sizes == (16, 2, 2)


def test_labels_may_be_names_or_one_hot_rows(tmp_path: Path) -> None:
    names = np.array(["square", "circle", "triangle"] * 7)[:20]
    numbers = np.searchsorted(np.unique(names), names)
    forms = (names, names[:, None], names.astype("S"), np.eye(3)[numbers], np.eye(3, dtype=bool)[numbers], numbers)
    for y in forms:
        labels = read_npz(save(tmp_path, x=GREY, y=y))["all"].labels
        assert labels is not None
        assert labels.tolist() == numbers.tolist()


def test_names_stand_for_one_class_in_training_and_test_images(tmp_path: Path) -> None:
    path = save(tmp_path, x_train=GREY, y_train=np.array(["b", "c"] * 10), x_test=GREY[:2], y_test=np.array(["c", "a"]))
    parts = read_npz(path)
    train, test = parts["train"].labels, parts["test"].labels
    assert train is not None
    assert test is not None
    assert (train[:2].tolist(), test.tolist()) == ([1, 2], [2, 0])


@pytest.mark.parametrize(
    "x", [GREY, GREY[:, None], GREY[..., None], COLOUR, GREY / 255, GREY > 99, GREY.astype(np.int32)]
)
def test_an_array_is_read_like_the_same_in_an_archive(tmp_path: Path, x: np.ndarray) -> None:
    np.save(tmp_path / "own.npy", x)
    assert load(tmp_path / "own.npy").sha256 == load(save(tmp_path, x=x)).sha256


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (GREY // 128, "holds integers 0 and 1"),
        (GREY * 2.0, r"from 0 to 5\d\d: floats must lie in 0\.\.1"),
        (GREY.astype(np.int64) * 2, "integers must lie in 0..255"),
        (GREY[0], "has 2 axes"),
        (GREY[:0], "is empty"),
        (GREY.astype(complex), "dtype complex128"),
        (np.asfortranarray(GREY), "is stored column by column: save numpy.ascontiguousarray"),
        (
            COLOUR[..., [0, 1, 2, 0]],
            r"shape \(1, 4, 5, 4\): the channels, up to 64 .* cannot be told from height and width",
        ),
        (GREY[:9], "too few images: 9"),
    ],
    ids=["0 and 1", "floats", "integers", "axes", "empty", "complex", "columns", "channels", "few"],
)
def test_bad_arrays_are_refused(tmp_path: Path, x: np.ndarray, words: str) -> None:
    np.save(tmp_path / "own.npy", x)
    with pytest.raises(InputError, match=words):
        load(tmp_path / "own.npy")


def test_nan_in_an_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "own.npy", with_nan())
    with pytest.raises(InputError, match=r"own\.npy from image 0 on has NaN pixels in 1 of 20 images"):
        load(tmp_path / "own.npy")


@pytest.mark.parametrize("form", ["folder", "own.npz", "own.npy"])
def test_images_are_prepared_whatever_holds_them(tmp_path: Path, form: str) -> None:
    preparation = Preparation((6, 6), "pad", "rgb", 9)
    for number, image in enumerate(GREY):
        (tmp_path / "folder").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "folder" / f"{number:02}.png")
    np.save(tmp_path / "own.npy", GREY)
    save(tmp_path, x=GREY)
    splits = load(tmp_path / form, preparation=preparation)
    assert splits.title == f"own data {form} (colour, scaled and padded to 6x6 on grey level 9)"
    assert splits.image_shape == (3, 6, 6)
    rest, test = split_train_validation(20, 2, 524287)
    kept, aside = split_train_validation(18, 2, 524287)
    for part, rows in ((splits.test, test), (splits.validation, rest[aside]), (splits.train, rest[kept])):
        assert np.array_equal(part.pixels.numpy(), [preparation.apply(image[None]) for image in GREY[rows.numpy()]])


def test_published_data_are_not_prepared() -> None:
    with pytest.raises(InputError, match="'mnist' is used as it is published"):
        data.load("mnist", preparation=Preparation(colours="grey"))


def with_nan() -> np.ndarray:
    x = GREY / 255
    x[7, 1, 1] = np.nan
    return x


BAD_ARCHIVES: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "no images": ({"pictures": GREY}, r"holds no images: expected an array x"),
    "both": ({"x": GREY, "x_train": GREY}, "holds both x and x_train"),
    "no training images": ({"x_test": GREY}, "x_test but no x_train"),
    "one axis too few": (
        {"x": GREY.reshape(20, 20)},
        r"x in .* has 2 axes, shape \(20, 20\): expected \[n height width\]",
    ),
    "empty": ({"x": GREY[:0]}, r"is empty: shape \(0, 4, 5\)"),
    "NaN": ({"x": with_nan()}, "NaN pixels in 1 of 20 images, the first is image 7"),
    "infinite": ({"x": np.where(GREY > 9, np.inf, 0.0)}, "from 0 to inf: floats must lie in 0..1"),
    "floats to 255": ({"x": GREY.astype(float)}, r"from 0 to 255: floats must lie in 0..1 \(divide by 255\?\)"),
    "negative floats": ({"x": GREY / 255 - 0.5}, "from -0.5 to 0.5: floats must lie in 0..1"),
    "wide integers": ({"x": GREY.astype(np.int64) * 2}, "integers must lie in 0..255"),
    "integers 0 and 1": ({"x": GREY // 128}, r"integers 0 and 1, .* give booleans, x.astype\(bool\)"),
    "complex": ({"x": GREY.astype(complex)}, "type complex128: expected uint8"),
    "objects": ({"x": GREY.astype(object)}, "expected numbers or text in x.npy, got Python's objects; object arrays"),
    "text as objects": (
        {"x": GREY, "y": np.array(["a", "b"] * 10, object)},
        r"expected numbers or text in y.npy, got Python's objects; .* y\.astype\(str\)",
    ),
    "other names": (
        {"images": GREY, "labels": LABELS},
        "holds no images: .* found 'images' and 'labels'; save them by",
    ),
    "ambiguous channels": (
        {"x": COLOUR[..., [0, 1, 2, 0]]},
        r"shape \(20, 4, 5, 4\): the channels, up to 64 .* cannot be told",
    ),
    "labels missing": ({"x": GREY, "y": LABELS[:19]}, "labels are missing: .* 20 images in x, 19 labels in y"),
    "labels not integers": (
        {"x": GREY, "y": LABELS / 2},
        "y in .* must be one integer per image, or one name, or a one-hot row, but it is float64",
    ),
    "rows of labels": ({"x": GREY, "y": np.ones((20, 2), int)}, r"a one-hot row, but it is int.* \(20, 2\)"),
    "test labels missing": (
        {"x_train": GREY, "y_train": LABELS, "x_test": GREY},
        "holds labels y_train, but y_test is missing",
    ),
    "grey and colour": ({"x_train": GREY, "x_test": COLOUR}, r"differ in shape: \(1, 4, 5\) and \(3, 4, 5\)"),
    "too few": ({"x": GREY[:9]}, "too few images: 9, but at least 10 are needed"),
    "too few beside the test": ({"x_train": GREY[:1], "x_test": GREY}, "too few images: 1 remain"),
}


@pytest.mark.parametrize("fault", BAD_ARCHIVES)
def test_bad_archives_are_refused(tmp_path: Path, fault: str) -> None:
    arrays, words = BAD_ARCHIVES[fault]
    with pytest.raises(InputError, match=words):
        load(save(tmp_path, **arrays))


def test_validation_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="18 remain besides the test images, of which 18 cannot be set aside"):
        load(save(tmp_path, x=GREY), validation_size=18)


def test_files_that_are_no_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"absent\.npz does not exist: give an \.npz file, an \.npy file or a folder of pictures"
    ):
        load(tmp_path / "absent.npz")
    whole = save(tmp_path, x=GREY).read_bytes()
    for name, content in {"half.npz": whole[:300], "none.npz": b"", "text.npz": b"x, y\n1, 2\n"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} cannot be read as a numpy archive; it may be truncated"):
            load(tmp_path / name)
    flipped = bytearray(whole)
    flipped[200] ^= 255
    (tmp_path / "flipped.npz").write_bytes(flipped)
    with pytest.raises(InputError, match=r"flipped.npz cannot be read"):
        load(tmp_path / "flipped.npz")
    with (tmp_path / "single.npz").open("wb") as file:
        np.save(file, GREY)
    with pytest.raises(InputError, match=r"single\.npz holds a single array: save it with numpy\.savez"):
        load(tmp_path / "single.npz")


# folders --------------------------------------------------------------------------------------------------------------


def test_a_folder_without_classes(tmp_path: Path) -> None:
    for index in range(12):
        picture(tmp_path / f"{index:02d}.png", value=index)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_text("not a picture")
    with pytest.warns(UserWarning, match=r"left out 1 file without pictures: notes\.txt$"):
        images = read_image_folder(tmp_path)
    assert images.image_shape == (1, 4, 3)
    assert images.pixels[:, 0, 0, 0].tolist() == list(range(12))
    assert images.labels is None
    assert load(tmp_path).sizes == (8, 2, 2)


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for value, name in enumerate(["b/1.png", "a/2.JPG", "a/1.bmp"]):
        picture(tmp_path / name, mode="RGB", value=value)
    images = read_image_folder(tmp_path)
    assert images.image_shape == (3, 4, 3)
    assert images.labels is not None
    assert images.labels.tolist() == [0, 0, 1]
    assert images.pixels[:, 0, 0, 0].tolist() == [2, 1, 0]


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("RGB", 3), ("RGBA", 3)])
def test_colour_modes(tmp_path: Path, mode: str, channels: int) -> None:
    picture(tmp_path / "a.png", mode=mode, value=255)
    images = read_image_folder(tmp_path)
    assert images.image_shape == (channels, 4, 3)
    assert images.pixels.min() == 255


def test_palettes_are_colour(tmp_path: Path) -> None:
    Image.new("RGB", (3, 4), (1, 2, 3)).quantize(2).save(tmp_path / "a.png")
    assert read_image_folder(tmp_path).pixels[0, :, 0, 0].tolist() == [1, 2, 3]


def broken(folder: Path) -> None:
    content = picture(folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(content[: len(content) // 2])


def text(folder: Path) -> None:
    (folder / "a.png").write_text("not a picture")


def two_sizes(folder: Path) -> None:
    picture(folder / "a.png")
    picture(folder / "b.png", size=(5, 3))


def grey_and_colour(folder: Path) -> None:
    picture(folder / "a.png")
    picture(folder / "b.png", mode="RGB")


def class_without_pictures(folder: Path) -> None:
    picture(folder / "c" / "a.png")
    (folder / "d").mkdir()


def loose_pictures(folder: Path) -> None:
    picture(folder / "c" / "a.png")
    picture(folder / "b.png")


BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda folder: None, "is empty: it holds no pictures"),
    "truncated": (broken, r"a\.png cannot be read as a picture; it may be damaged"),
    "text": (text, r"a\.png cannot be read as a picture"),
    "two sizes": (two_sizes, r"b\.png is 5x3 \(height x width\), but .*a\.png is 4x3"),
    "grey and colour": (grey_and_colour, r"b\.png is colour, but .*a\.png is grey"),
    "class without pictures": (class_without_pictures, "d holds no pictures, though each sub-folder is a class"),
    "loose pictures": (loose_pictures, r"holds both pictures \(b\.png\) and sub-folders \(c\)"),
    "32 bits": (
        lambda folder: picture(folder / "a.tif", mode="I"),
        r"a\.tif has the colour mode I: expected grey of 1, 8",
    ),
    "too few": (lambda folder: picture(folder / "a.png"), "too few images: 1, but at least 10"),
}


@pytest.mark.parametrize("fault", BAD_FOLDERS)
def test_bad_folders_are_refused(tmp_path: Path, fault: str) -> None:
    make, words = BAD_FOLDERS[fault]
    make(tmp_path)
    with pytest.raises(InputError, match=words):
        load(tmp_path)


def test_images_that_have_moved_are_found_where_they_are_now(tmp_path):
    np.savez(tmp_path / "here.npz", x=np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8))
    run = Run.create(
        tmp_path / "run", tiny(data__dataset="own", data__path=str(tmp_path / "here.npz"), data__validation_size=10)
    )
    before = data_of(run)
    (tmp_path / "here.npz").rename(tmp_path / "there.npz")
    missing = r"here\.npz does not exist: .* give their new place with --data-dir\."
    with pytest.raises(InputError, match=missing):
        data_of(run, tmp_path / "there.npz")  # of a run that is yet to be made nobody could tell other images
    describe_run(run, before, "mpdvae train")
    assert data_of(run, tmp_path / "there.npz").sha256 == before.sha256
    with pytest.raises(InputError, match=missing):
        data_of(run)


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_an_array_of_python_2_is_read_without_a_warning(tmp_path, ending):
    x = np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    of_python_2 = (tmp_path / "x.npy").read_bytes().replace(b"(20, 4, 4), }  ", b"(20L, 4L, 4), }")
    assert b"20L" in of_python_2
    if ending == "npy":
        (tmp_path / "x.npy").write_bytes(of_python_2)
    else:
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("x.npy", of_python_2)
    assert sum(load_own(tmp_path / f"x.{ending}", None, 0).sizes) == 20  # warnings are errors here


@pytest.mark.parametrize(("count", "sizes"), [(10, (6, 2, 2)), (11, (7, 2, 2)), (19, (15, 2, 2)), (30, (24, 3, 3))])
def test_two_images_or_a_tenth_are_set_aside_for_each(tmp_path, count, sizes):
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).integers(0, 256, (count, 6, 5), dtype=np.uint8))
    assert load(tmp_path / "x.npz").sizes == sizes
