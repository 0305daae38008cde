"""Images in every form that people have them in: one table of forms, one of what is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mpdvae.data.arrays import plain_array
from mpdvae.data.given_dataset import DatasetSource, holds_pictures
from mpdvae.data.given_images import given_images
from mpdvae.data.layout import in_unit_range
from mpdvae.data.preparation import Preparation
from mpdvae.errors import InputError

SHAPE = (1, 4, 5)
GREY = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (3, 3, 4, 5), dtype=np.uint8)
LAST = COLOUR.transpose(0, 2, 3, 1)

FORMS = {
    "no channel": GREY,
    "channels first": GREY[:, None],
    "channels last": GREY[..., None],
    "rows": GREY.reshape(3, -1),
    "integers": GREY.astype(np.int64),
    "floats": GREY / 255,
    "single precision": (GREY / 255).astype(np.float32),
    "tensor": torch.from_numpy(GREY.copy()),
    "tensor of floats": torch.from_numpy(GREY / 255),
    "tensor with a gradient": torch.from_numpy(GREY / 255).requires_grad_(),
    "a list of tensors": [torch.from_numpy(image / 255) for image in GREY],
    "a list of arrays": list(GREY),
    "a tuple of arrays with channels": tuple(GREY[..., None]),
    "nested lists": (GREY / 255).tolist(),
    "pictures": [Image.fromarray(image) for image in GREY],
    "a mixture": [Image.fromarray(GREY[0]), GREY[1] / 255, torch.from_numpy(GREY[2].copy())],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_bytes(form):
    given = given_images(FORMS[form], SHAPE)
    assert np.array_equal(given.pixels.numpy(), GREY[:, None])
    assert given.names is None


@pytest.mark.parametrize(
    "one", [GREY[0], GREY[0][None], GREY[0][..., None], GREY[:1].reshape(1, -1), Image.fromarray(GREY[0])]
)
def test_one_image_needs_no_axis_of_images(one):
    assert np.array_equal(given_images(one, SHAPE).pixels.numpy(), GREY[:1, None])


@pytest.mark.parametrize("form", [COLOUR, LAST, list(COLOUR), list(LAST), [Image.fromarray(image) for image in LAST]])
def test_colour_is_taken_with_channels_first_or_last(form):
    assert np.array_equal(given_images(form, (3, 4, 5)).pixels.numpy(), COLOUR)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_to_its_own_accuracy(dtype):
    given = given_images(torch.from_numpy(GREY / 255).to(dtype), SHAPE).pixels.numpy()
    assert np.abs(given.astype(int) - GREY[:, None]).max() <= 1


def test_a_range_is_that_of_floats_and_integers_and_not_of_bytes():
    for images in (GREY / 255 * 16, (GREY // 51 * 3).astype(np.int32)):
        given = given_images(images, SHAPE, (0.0, 16.0)).pixels.numpy()[:, 0]
        assert np.array_equal(given, np.round(images / 16 * 255))
    assert np.array_equal(given_images(GREY, SHAPE, (0.0, 16.0)).pixels.numpy(), GREY[:, None])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for label, image in zip("aba", GREY, strict=True):
        folder = tmp_path / "pictures" / label
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{len(list(folder.iterdir()))}.png")
    return tmp_path / "pictures"


def test_files_are_read_with_their_names_and_labels(pictures):
    for path in (pictures, str(pictures), os.fsencode(pictures)):
        given = given_images(path, SHAPE)
        assert given.names == ["a/0.png", "a/1.png", "b/0.png"]
        assert given.labels.tolist() == [0, 0, 1]
        assert np.array_equal(given.pixels.numpy(), GREY[[0, 2, 1], None])
    files = [pictures / "b" / "0.png", str(pictures / "a" / "0.png")]
    several = given_images(files, SHAPE)
    assert np.array_equal(several.pixels.numpy(), GREY[[1, 0], None])
    assert several.names == ["b/0.png", "a/0.png"]
    assert given_images([pictures / "a", files[0]], SHAPE).names == ["a/0.png", "a/1.png", "b/0.png"]
    assert given_images([pictures / "a" / "1.png", files[1]], SHAPE).names == ["1.png", "0.png"]
    assert given_images([files[0], GREY[0]], SHAPE).names is None
    assert given_images(files[0], SHAPE).names == ["0.png"]


@pytest.mark.parametrize("images", [GREY, GREY / 255, GREY[:, None], GREY > 99, GREY.reshape(3, -1)])
def test_arrays_are_read_from_their_files(images, tmp_path):
    np.save(tmp_path / "x.npy", images)
    assert np.array_equal(
        given_images(tmp_path / "x.npy", SHAPE).pixels.numpy(), given_images(images, SHAPE).pixels.numpy()
    )


def test_archives_are_read_with_their_labels(tmp_path):
    np.savez(tmp_path / "x.npz", x=GREY, y=np.array([5, 6, 7]))
    given = given_images(tmp_path / "x.npz", SHAPE)
    assert np.array_equal(given.pixels.numpy(), GREY[:, None])
    assert given.labels.tolist() == [5, 6, 7]


REFUSED = {
    "another shape": (
        np.zeros((3, 5, 4)),
        r"images: expected images of shape \(1, 4, 5\) .* got an array of shape \(3, 5, 4\)",
    ),
    "colour for grey": (COLOUR, r"got an array of shape \(3, 3, 4, 5\); resize them, or convert grey to colour"),
    "five axes": (np.zeros((1, 1, 1, 4, 5)), r"got an array of shape \(1, 1, 1, 4, 5\)"),
    "no image": (np.zeros((0, 4, 5)), r"images: expected at least one image"),
    "an empty list": ([], r"images: expected images of shape"),
    "no number": (np.full((1, 4, 5), np.nan), r"images has NaN pixels in 1 of 1 images"),
    "infinity": (np.full((1, 4, 5), np.inf), r"images: has values from inf to inf, expected 0 to 1"),
    "0..255 as floats": (GREY.astype(float), r"images: has values from .* expected 0 to 1; scale them, or give"),
    "integers beyond 255": (GREY.astype(int) + 9, r"images has values from .*: integers must lie in 0..255"),
    "integers 0 and 1": ((GREY > 99).astype(int), r"images holds integers 0 and 1"),
    "ragged lists": ([[[0.0, 1.0]], [[0.0]]], r"images: expected images of one shape, got lists of different lengths"),
    "words": (np.array([["a"]]), r"images: expected images, got an array of <U1"),
    "objects": (np.array([{}]), r"images: expected images, got an array of object"),
    "complex numbers": (np.zeros((1, 4, 5), complex), r"images: expected images, got an array of complex128"),
    "nothing": (None, r"images: expected images, got an array of object"),
    "a tensor without values": (torch.zeros(1, 4, 5, device="meta"), r"images: .* device meta, which has none"),
    "one of another shape": ([GREY[0], GREY[1].T], r"images\[1\]: expected images of shape \(1, 4, 5\)"),
    "no such file": ("nothing-here.png", r"nothing-here\.png does not exist: give a folder of pictures"),
    "32 bits": (Image.new("F", (5, 4)), r"images has the colour mode F: expected grey of 1, 8 or 16 bits"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_one_sentence(case):
    images, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as error:
        given_images(images, SHAPE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value_range", [(1, 0), (0,), "x", 3, (0, None), (np.nan, 1)])
def test_a_range_that_is_none_is_refused(value_range):
    with pytest.raises(InputError, match=r"value_range: expected \(black, white\)"):
        in_unit_range(GREY / 255, value_range)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no array",
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '|u1', 'fortran_order': False, 'shape': (999999999999, 4, 5)}"
        + b" " * 40
        + b"\n",
    ],
)
def test_a_damaged_array_is_refused_in_one_sentence(content, tmp_path):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npy cannot be read as a numpy array") as error:
        given_images(tmp_path / "x.npy", SHAPE)
    assert "\n" not in str(error.value)


def test_a_truncated_picture_that_pillow_reads_late_is_refused(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 250), dtype=np.uint8)).save(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes()[:9000])
    with (
        Image.open(tmp_path / "x.png") as picture,
        pytest.raises(InputError, match=r"images\[0\] cannot be read as a picture"),
    ):
        given_images([picture], (1, 200, 250))


def test_an_array_of_objects_is_never_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read as a numpy array"):
        given_images(tmp_path / "x.npy", SHAPE)


def test_arrays_of_tables_are_plain_too():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(GREY.reshape(3, -1))
    assert np.array_equal(given_images(table, SHAPE).pixels.numpy(), GREY[:, None])
    assert np.array_equal(plain_array(table, "X"), GREY.reshape(3, -1))


# -- lists of pictures -------------------------------------------------------------------------------------------------

TURNED = 0x0112
"""Tag of the orientation in EXIF."""


def of_colours(*colours):
    """A picture with a palette, whose indices say nothing of its colours."""
    picture = Image.new("P", (5, 4), len(colours) - 1)
    picture.putpalette([level for colour in colours for level in colour])
    return picture


def lying():
    """A picture that a camera stored on its side: upright, its first column is white."""
    levels = np.zeros((5, 4), np.uint8)
    levels[-1] = 255
    picture = Image.fromarray(levels)
    picture.getexif()[TURNED] = 6
    return picture


PICTURES = {
    "palettes of grey": [of_colours((9, 9, 9), (200, 200, 200)), of_colours((0, 0, 0))],
    "palettes in colour": [of_colours((9, 9, 9), (200, 0, 0)), of_colours((0, 9, 0))],
    "palettes, some in colour": [of_colours((9, 9, 9)), of_colours((200, 0, 0))],
    "a palette of grey beside colour": [Image.new("RGB", (5, 4), (1, 2, 3)), of_colours((9, 9, 9))],
    "on its side": [lying(), Image.new("L", (5, 4), 3)],
    "transparent": [Image.new("LA", (5, 4), (0, 0)), Image.new("LA", (5, 4), (0, 255))],
    "black and white": [Image.new("1", (5, 4), 1), Image.new("1", (5, 4), 0)],
    "beside an array": [lying(), np.full((4, 5), 7, np.uint8)],
}


@pytest.mark.parametrize("pictures", PICTURES.values(), ids=PICTURES)
def test_pictures_are_read_in_a_list_for_training_as_they_are_for_a_model(pictures):
    source = DatasetSource(pictures)
    pixels = source.read(np.arange(len(pictures)))
    assert np.array_equal(pixels, given_images(pictures, source.image_shape).pixels.numpy())
    alone = [given_images(picture, source.image_shape).pixels.numpy() for picture in pictures]
    assert np.array_equal(pixels, np.concatenate(alone))


def test_lists_of_pictures_are_told_from_other_lists():
    assert all(map(holds_pictures, PICTURES.values()))
    assert not any(map(holds_pictures, [[], [GREY], GREY, "pictures", lying(), None, [[1]]]))


# -- arrays of any size ------------------------------------------------------------------------------------------------

COLOURS = {1: "grey", 3: "rgb"}


@pytest.mark.parametrize("channels", COLOURS)
@pytest.mark.parametrize("n", range(1, 8))
@pytest.mark.parametrize(("height", "width"), [(12, 12), (7, 9), (3, 8), (1, 5)])
def test_three_axes_are_grey_images_however_many(channels, n, height, width):
    small = Preparation(size=(8, 8), colours=COLOURS[channels])
    x = np.random.default_rng(n).integers(0, 256, (n, height, width), dtype=np.uint8)
    given = given_images(x, (channels, 8, 8), preparation=small).pixels
    if (channels, n) == (3, 3):  # one in colour, with its channels first
        assert torch.equal(given, given_images(x[None], (3, 8, 8), preparation=small).pixels)
    else:
        assert torch.equal(given, given_images(x[:, None], (channels, 8, 8), preparation=small).pixels)


@pytest.mark.parametrize("channels", COLOURS)
@pytest.mark.parametrize("height", range(1, 8))
def test_three_axes_of_which_the_last_has_three_numbers_are_a_picture_in_colour(channels, height):
    small = Preparation(size=(8, 8), colours=COLOURS[channels])
    x = np.random.default_rng(height).integers(0, 256, (height, 9, 3), dtype=np.uint8)
    given = given_images(x, (channels, 8, 8), preparation=small).pixels
    assert torch.equal(given, given_images(Image.fromarray(x), (channels, 8, 8), preparation=small).pixels)


@pytest.mark.parametrize("channels", COLOURS)
@pytest.mark.parametrize("last", [1, 2, 4])
@pytest.mark.parametrize("listed", [False, True])
def test_three_axes_that_may_be_one_picture_or_several_are_refused(channels, last, listed):
    small = Preparation(size=(8, 8), colours=COLOURS[channels])
    x = np.random.default_rng(last).integers(0, 256, (20, 30, last), dtype=np.uint8)
    with pytest.raises(
        InputError, match=r"got an array of shape \(20, 30, .\), which may be .* or 20 grey ones of 30x"
    ):
        given_images([x] if listed else x, (channels, 8, 8), preparation=small)
    several = given_images(x[:, None], (channels, 8, 8), preparation=small).pixels
    assert several.shape == (20, channels, 8, 8)
    one = x[None] if last == 1 else Image.fromarray(x, {2: "LA", 4: "RGBA"}[last])
    assert given_images(one, (channels, 8, 8), preparation=small).pixels.shape == (1, channels, 8, 8)


def test_a_last_axis_of_as_many_numbers_as_the_model_has_channels_is_one_picture():
    x = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    assert given_images(x, (4, 8, 8), preparation=Preparation(size=(8, 8))).pixels.shape == (1, 4, 8, 8)
