"""Pictures as people have them: each form is read as it looks, and what is changed or left out is said."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import picture
from PIL import Image, ImageOps

from mpdvae import data
from mpdvae.data.given_images import given_images
from mpdvae.data.image_folder import picture_folder, read_image_folder
from mpdvae.data.picture_levels import levels_of_picture
from mpdvae.data.picture_source import PictureSource
from mpdvae.data.preparation import Preparation
from mpdvae.errors import InputError

GREY = np.random.default_rng(0).integers(0, 256, (4, 3), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (4, 3, 3), dtype=np.uint8)
DEEP = np.random.default_rng(2).integers(0, 65536, (4, 3), dtype=np.uint16)
DEEP[0] = 0, 65535, 300
ALPHA = np.random.default_rng(3).integers(0, 256, (4, 3), dtype=np.uint8)
BLENDED = np.round((GREY * (ALPHA / 255)) + 255 * (1 - ALPHA / 255))
ORIENTATION = 0x0112


def first(path: Path) -> np.ndarray:
    """Reads a folder of one picture."""
    return read_image_folder(path.parent).pixels[0].numpy()


def reading(folder: Path) -> str:
    """What loading says of a folder."""
    return data.load("own", path=folder).reading


def reading_of_one(path: Path) -> str:
    """What reading a folder of this picture says of it."""
    source = PictureSource(picture_folder(path.parent).pictures)
    source.read_all()
    return "; ".join(source.changes())


# forms of one picture -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_a_picture_is_turned_as_exif_states(turn, ending, tmp_path):
    image = Image.fromarray(COLOUR)
    image.getexif()[ORIENTATION] = turn
    image.save(tmp_path / f"a.{ending}", exif=image.getexif(), **({"lossless": True} if ending == "webp" else {}))
    upright = np.asarray(ImageOps.exif_transpose(image)).transpose(2, 0, 1)
    assert np.array_equal(first(tmp_path / f"a.{ending}"), upright)
    assert np.array_equal(given_images([image], (3, 4, 3)).pixels[0].numpy(), upright)


def test_damaged_exif_leaves_a_picture_as_it_is(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert np.array_equal(first(tmp_path / "a.png")[0], GREY)


def test_sixteen_bits_are_rounded_to_eight(tmp_path):
    for name, options in {"plain.png": {}, "plain.tif": {}, "clear.png": {"transparency": 300}}.items():
        Image.fromarray(DEEP).save(tmp_path / name, **options)
    (tmp_path / "plain.pgm").write_bytes(b"P5 3 4 65535\n" + DEEP.astype(">u2").tobytes())
    clear, *plain = read_image_folder(tmp_path).pixels.numpy()[:, 0]
    rounded = np.round(DEEP / 257)
    for levels in plain:
        assert np.array_equal(levels, rounded)
    assert np.array_equal(clear, np.where(DEEP == 300, 255, rounded))


@pytest.mark.parametrize("background", [255, 0, 99])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_show_the_background(mode, background, tmp_path):
    image = Image.fromarray(GREY).convert(mode)
    image.putalpha(Image.fromarray(ALPHA))
    image.save(tmp_path / "a.png")
    levels = read_image_folder(tmp_path, Preparation(background=background)).pixels[0].numpy()
    expected = GREY * (ALPHA / 255) + background * (1 - ALPHA / 255)
    assert levels.shape[0] == (1 if mode == "LA" else 3)
    assert np.abs(levels - expected).max() <= 0.5


def of_mode(mode: str) -> Image.Image:
    return Image.fromarray(COLOUR).convert(mode)


@pytest.mark.parametrize(
    ("image", "ending", "levels"),
    [
        (Image.fromarray(GREY > 99), "png", 255.0 * (GREY > 99)[None]),
        (of_mode("CMYK"), "tif", np.asarray(of_mode("CMYK").convert("RGB")).transpose(2, 0, 1)),
        (of_mode("P"), "png", np.asarray(of_mode("P").convert("RGB")).transpose(2, 0, 1)),
        (
            Image.fromarray(COLOUR).quantize(12),
            "gif",
            np.asarray(of_mode("RGB").quantize(12).convert("RGB")).T.swapaxes(1, 2),
        ),
        (Image.fromarray(GREY), "gif", GREY[None]),
        (Image.fromarray(255 - GREY // 2).convert("P"), "png", 255 - GREY[None] // 2),
    ],
    ids=["1", "CMYK", "palette", "GIF", "grey GIF", "grey palette"],
)
def test_other_forms_are_read_as_they_look(image, ending, levels, tmp_path):
    image.save(tmp_path / f"a.{ending}")
    assert np.array_equal(first(tmp_path / f"a.{ending}"), levels)


def test_palettes_of_grey_are_colour_beside_colour(tmp_path):
    grey, colour = Image.fromarray(GREY).convert("P"), Image.fromarray(COLOUR)
    grey.save(tmp_path / "a.gif")
    grey.save(tmp_path / "b.png")
    assert read_image_folder(tmp_path).image_shape[0] == 1
    assert given_images(tmp_path, (3, 4, 3)).pixels.shape[1] == 3
    assert levels_of_picture(grey, "a", channels=3).levels.shape[0] == 3
    colour.quantize(12).save(tmp_path / "c.gif")
    assert read_image_folder(tmp_path).image_shape[0] == 3
    colour.save(tmp_path / "c.gif", "PNG")
    assert read_image_folder(tmp_path).image_shape[0] == 3
    Image.fromarray(GREY).save(tmp_path / "c.gif", "PNG")
    assert read_image_folder(tmp_path).image_shape[0] == 1


def test_a_palette_of_colour_beside_grey_pictures_is_refused(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    Image.fromarray(COLOUR).quantize(12).save(tmp_path / "b.gif")
    with pytest.raises(InputError, match=r"b\.gif is colour, but .*a\.png is grey: .* such as by --data\.colours grey"):
        read_image_folder(tmp_path)
    assert read_image_folder(tmp_path, Preparation(colours="grey")).image_shape == (1, 4, 3)
    assert read_image_folder(tmp_path, Preparation(colours="rgb")).image_shape == (3, 4, 3)


# forms that Pillow does not write -----------------------------------------------------------------------------------------


def png(path: Path, kind: int, x: np.ndarray, bits: int, clear: tuple[int, ...] = ()) -> Path:
    """Writes numbers [height width channel] of so many bits, of a colour type of PNG, and what is transparent."""
    height, width, _ = x.shape
    if bits == 16:
        rows = [row.astype(">u2").tobytes() for row in x]
    else:
        packed = np.unpackbits(x.astype(np.uint8)[..., None], axis=-1)[..., -bits:].reshape(height, -1)
        rows = [row.tobytes() for row in np.packbits(packed, axis=1)]
    parts = {b"IHDR": struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)}
    parts |= {b"tRNS": struct.pack(f">{len(clear)}H", *clear)} if clear else {}
    parts |= {b"IDAT": zlib.compress(b"".join(b"\0" + row for row in rows)), b"IEND": b""}
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts.items()
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_grey_level_shows_the_background_whatever_its_bits(bits, tmp_path):
    highest = 2**bits - 1
    x = np.random.default_rng(0).integers(0, highest + 1, (6, 8, 1))
    clear = int(x[2, 3, 0])
    path = png(tmp_path / "a.png", 0, x, bits, (clear,))
    levels = np.round(x[..., 0] * (255 / highest))
    for background in (255, 0, 99):
        shown = read_image_folder(tmp_path, Preparation(background=background)).pixels[0, 0].numpy()
        assert np.array_equal(shown, np.where(x[..., 0] == clear, background, levels))
    assert "put 1 with transparency on grey level 255" in reading_of_one(path)


def test_grey_of_16_bits_with_transparency_is_grey(tmp_path):
    x = np.stack([DEEP, ALPHA.astype(np.int64) * 257], -1)
    path = png(tmp_path / "a.png", 4, x, 16)
    levels = first(path)[0]
    assert np.abs(levels - (DEEP // 256 * (ALPHA / 255) + 255 * (1 - ALPHA / 255))).max() <= 0.5
    assert "reduced 1 from 16 bits to 8" in reading_of_one(path)
    Image.fromarray(GREY).save(tmp_path / "b.png")  # grey, too
    assert read_image_folder(tmp_path).image_shape[0] == 1
    held = Image.open(path)
    for _ in range(2):
        assert np.array_equal(given_images([held], (1, 4, 3)).pixels[0, 0].numpy(), levels)


def test_a_transparent_colour_of_16_bits_is_refused_where_it_is_not_known_which_pixels_it_is(tmp_path):
    x = np.random.default_rng(0).integers(0, 65536, (4, 3, 3))
    x[0, 0] = 18  # upper bits 0
    path = png(tmp_path / "a.png", 2, x, 16, (18, 0x1200, 18))
    assert np.array_equal(first(path), x.transpose(2, 0, 1) // 256)
    png(path, 2, x, 16, (20, 18, 18))
    with pytest.raises(InputError, match=r"a\.png has colours of 16 bits, of which \(20, 18, 18\) is transparent"):
        first(path)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_with_white_as_zero_is_no_negative(bits, tmp_path):
    Image.fromarray(DEEP).save(tmp_path / "a.tif", tiffinfo={262: 0})
    levels = read_image_folder(tmp_path, Preparation(bits=bits)).pixels[0, 0].numpy()
    assert np.array_equal(levels, np.round((65535 - DEEP.astype(np.int64)) / (257 if bits == 8 else 1)))


def test_a_tiff_that_is_turned_is_counted(tmp_path):
    for name, turn in {"a": 6, "b": 1, "c": 6}.items():
        Image.fromarray(GREY if turn == 6 else GREY.T.copy()).save(
            tmp_path / f"{name}.tif", tiffinfo={ORIENTATION: turn}
        )
    source = PictureSource(picture_folder(tmp_path).pictures)
    source.read_all()
    assert "turned 2 as EXIF states" in source.changes()


# several pictures in a file -------------------------------------------------------------------------------------------


def save_pages(path: Path, pages: np.ndarray) -> None:
    images = [Image.fromarray(page) for page in pages]
    images[0].save(path, save_all=True, append_images=images[1:])


@pytest.mark.parametrize("ending", ["tif", "gif", "png"])
def test_every_page_is_a_picture(ending, tmp_path):
    pages = np.random.default_rng(0).integers(0, 256, (12, 4, 3), dtype=np.uint8)
    save_pages(tmp_path / f"stack.{ending}", pages)
    Image.fromarray(GREY).save(tmp_path / "t.png")
    given = given_images(tmp_path, (1, 4, 3))
    assert np.array_equal(given.pixels[:, 0].numpy(), [*pages, GREY])
    assert given.names == [*(f"stack.{ending}#{page}" for page in range(12)), "t.png"]
    assert given_images(tmp_path / f"stack.{ending}", (1, 4, 3)).names == given.names[:-1]


def test_a_page_of_another_size_is_named(tmp_path):
    pages = [Image.fromarray(GREY), Image.fromarray(GREY[:2])]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match=r"stack\.tif#1 is 2x3 \(height x width\), but .*stack\.tif#0 is 4x3: resize"):
        read_image_folder(tmp_path)


@pytest.mark.parametrize("ending", ["tif", "png"])
def test_a_file_of_too_many_pages_is_refused(ending, tmp_path, monkeypatch):
    save_pages(tmp_path / f"stack.{ending}", np.arange(7 * 12, dtype=np.uint8).reshape(7, 4, 3))
    monkeypatch.setattr("mpdvae.data.picture_file._MOST_PAGES", 7)
    assert len(picture_folder(tmp_path).pictures) == 7
    monkeypatch.setattr("mpdvae.data.picture_file._MOST_PAGES", 6)
    with pytest.raises(InputError, match=rf"stack\.{ending} claims more than 6 pages: divide it"):
        picture_folder(tmp_path)


def test_the_preview_in_a_photograph_is_not_a_picture(tmp_path):
    photograph, preview = Image.fromarray(COLOUR), Image.fromarray(COLOUR[:2])
    photograph.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview])
    assert [str(picture) for picture in picture_folder(tmp_path).pictures] == [str(tmp_path / "a.jpg")]


# folders --------------------------------------------------------------------------------------------------------------


def test_nested_pictures_belong_to_the_class_of_the_top_folder(tmp_path):
    for name in ("b/0.png", "a/9.png", "a/more/1.png", "a/more/still/2.png"):
        picture(tmp_path / name, value=int(Path(name).stem))
    (tmp_path / "a" / ".thumbnails").mkdir()
    images = read_image_folder(tmp_path)
    assert images.pixels[:, 0, 0, 0].tolist() == [9, 1, 2, 0]
    assert images.labels is not None
    assert images.labels.tolist() == [0, 0, 0, 1]


def test_a_link_to_a_folder_within_a_class_is_refused(tmp_path):
    picture(tmp_path / "a" / "0.png")
    (tmp_path / "a" / "again").symlink_to(".")
    with pytest.raises(InputError, match=r"again is a symbolic link to a folder within a class"):
        read_image_folder(tmp_path)


def some_pictures(folder: Path, number: int = 12) -> None:
    for i in range(number):
        picture(folder / f"{i:03}.png", value=i)


def transparent(folder: Path) -> None:
    Image.new("LA", (3, 4), (1, 9)).save(folder / "t.png")


def turned(folder: Path) -> None:
    image = Image.new("L", (4, 3))
    image.getexif()[ORIENTATION] = 6
    image.save(folder / "u.png", exif=image.getexif())


def deep_colour(folder: Path) -> None:
    from struct import pack
    from zlib import compress, crc32

    def chunk(name: bytes, content: bytes) -> bytes:
        return pack(">I", len(content)) + name + content + pack(">I", crc32(name + content))

    rows = (b"\0" + bytes(3 * 6)) * 4
    head = pack(">IIBBBBB", 3, 4, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", compress(rows)) + chunk(b"IEND", b"")
    (folder / "d.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    for path in folder.glob("0*.png"):
        picture(path, mode="RGB")


SAID: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing special": (lambda folder: None, "read 12 pictures of 4x3"),
    "transparent": (transparent, "read 13 pictures of 4x3; put 1 with transparency on grey level 255"),
    "turned": (turned, "read 13 pictures of 4x3; turned 1 as EXIF states"),
    "CMYK": (
        lambda folder: [Image.new("CMYK", (3, 4)).save(folder / f"{i:03}.png", "TIFF") for i in range(12)],
        "read 12 pictures of 4x3; converted 12 from CMYK or YCbCr",
    ),
    "16 bits": (
        lambda folder: Image.fromarray(DEEP).save(folder / "d.png"),
        "read 13 pictures of 4x3; reduced 1 from 16 bits to 8",
    ),
    "16 bits in colour": (deep_colour, "read 13 pictures of 4x3; reduced 1 from 16 bits to 8"),
    "another file": (
        lambda folder: (folder / "a.txt").write_text(""),
        "read 12 pictures of 4x3; left out 1 file without pictures: a.txt",
    ),
    "other files": (
        lambda folder: [(folder / name).write_text("") for name in ("d.csv", "b.heic", "a.txt", "c", ".hidden")],
        "read 12 pictures of 4x3; left out 4 files without pictures: a.txt, b.heic, c, ...",
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_what_was_changed_and_left_out_is_said_in_one_line(case, tmp_path):
    some_pictures(tmp_path)
    SAID[case][0](tmp_path)
    assert reading(tmp_path) == SAID[case][1]


def test_files_beside_classes_are_said(tmp_path):
    for name in ("a", "b"):
        some_pictures(tmp_path / name, 6)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "a" / "labels.csv").write_text("")
    said = "read 12 pictures of 4x3 in 2 classes (a and b); left out 2 files without pictures: a/labels.csv, notes.txt"
    assert reading(tmp_path) == said


PARTS = {
    "two": (["train/cat", "train/dog", "val/cat", "val/dog"], "train and val", "cat and dog", "train"),
    "three": (["Test/cat", "Train/cat", "Validation/cat"], "Test, Train and Validation", "cat", "Train"),
    "some classes": (["test/dog", "train/cat", "train/dog"], "test and train", "dog", "train"),
    "one": (["training/cat"], "training", "cat", "training"),
}


@pytest.mark.parametrize("case", PARTS.values(), ids=PARTS)
def test_folders_of_parts_are_no_classes(case, tmp_path):
    folders, parts, classes, give = case
    for folder in folders:
        some_pictures(tmp_path / folder, 3)
    with pytest.raises(
        InputError, match=f"got {parts}, which are named like .* and hold {classes}; give .*/{give}, or"
    ):
        read_image_folder(tmp_path)
    assert len(read_image_folder(tmp_path / give)) == 3 * sum(folder.startswith(f"{give}/") for folder in folders)


@pytest.mark.parametrize("folders", [["train", "test"], ["train/cat", "plane/cat"], ["train/cat", "test/dog"]])
def test_classes_may_be_called_like_parts(folders, tmp_path):
    for folder in folders:
        some_pictures(tmp_path / folder, 3)
    assert len(set(read_image_folder(tmp_path).labels.tolist())) == 2


def test_the_line_names_few_of_many_classes(tmp_path):
    for name in "abcdefg":
        some_pictures(tmp_path / name, 2)
    assert "read 14 pictures of 4x3 in 7 classes (a, b, c, d, e and 2 more)" in reading(tmp_path)
