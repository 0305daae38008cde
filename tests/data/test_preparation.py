"""Preparation: pictures come to the stated size and colour, and preparing twice is preparing once."""

import numpy as np
import pytest
from PIL import Image

from mpdvae.data.preparation import AS_STORED, Preparation
from mpdvae.errors import InputError

SIZES = [(8, 8), (16, 8), (7, 9), (1, 40), (64, 48)]
FITS = ["crop", "pad", "stretch", "unscaled"]


def levels(size: tuple[int, int], channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (channels, *size), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("colours", ["stored", "grey", "rgb"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_picture_gets_the_form_and_keeps_it(size, fit, colours, channels):
    preparation = Preparation((8, 10), fit, colours, background=7)
    once = preparation.apply(levels(size, channels))
    assert once.dtype == np.uint8
    assert once.shape == ({"stored": channels, "grey": 1, "rgb": 3}[colours], 8, 10)
    assert np.array_equal(preparation.apply(once), once)


def test_as_stored_changes_nothing():
    picture = levels((8, 8))
    assert AS_STORED.apply(picture) is picture
    assert AS_STORED.in_words == ""


def test_crop_keeps_the_middle_and_stretch_all_of_it():
    picture = np.zeros((1, 8, 16), np.uint8)
    picture[:, :, 4:12] = 200
    assert (Preparation((8, 8), "crop").apply(picture) == 200).all()
    stretched = Preparation((8, 8), "stretch").apply(picture)
    assert stretched[0, :, 0].max() < 20
    assert stretched[0, :, 4].min() > 180


def test_pad_surrounds_the_whole_picture_with_the_background():
    padded = Preparation((8, 8), "pad", background=33).apply(np.full((3, 4, 8), 99, np.uint8))
    assert (padded[:, 2:6] == 99).all()
    assert (padded[:, [0, 1, 6, 7]] == 33).all()


def test_unscaled_keeps_every_pixel_that_it_shows():
    picture = levels((8, 6))
    larger = Preparation((12, 8), "unscaled", background=0).apply(picture)
    assert np.array_equal(larger[:, 2:10, 1:7], picture)
    assert larger.sum(dtype=int) == picture.sum(dtype=int)
    assert np.array_equal(Preparation((4, 4), "unscaled").apply(picture), picture[:, 2:6, 1:5])


def test_reduction_averages_instead_of_leaving_pixels_out():
    """A chessboard of single pixels becomes grey: its alias would be black, white or stripes."""
    board = 255 * (np.indices((64, 64)).sum(0) % 2).astype(np.uint8)[None]
    reduced = Preparation((16, 16), "stretch").apply(board)
    assert np.abs(reduced.astype(int) - 128).max() <= 2


def test_grey_is_the_luma_of_bt_601():
    picture = levels((5, 4))
    expected = np.tensordot([0.299, 0.587, 0.114], picture, 1)
    assert np.abs(Preparation(colours="grey").apply(picture)[0] - expected).max() <= 1
    assert np.array_equal(Preparation(colours="rgb").apply(picture[:1]), picture[:1].repeat(3, 0))


def test_pixels_are_those_of_pillow():
    picture = levels((40, 30))
    image = Image.fromarray(picture.transpose(1, 2, 0)).resize((10, 8), Image.Resampling.LANCZOS)
    assert np.array_equal(Preparation((8, 10), "stretch").apply(picture), np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("preparation", "words"),
    [
        (Preparation((32, 48)), "scaled and cropped to 32x48"),
        (Preparation((32, 32), "pad", "grey", 0), "grey, scaled and padded to 32x32 on grey level 0"),
        (Preparation((32, 32), "stretch", background=0), "stretched to 32x32"),
        (Preparation(None, colours="rgb"), "colour"),
    ],
)
def test_it_is_named(preparation, words):
    assert preparation.in_words == words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"background": 256}, "background: expected a grey level from 0 to 255, got 256"),
        ({"size": (0, 3)}, r"size: expected a positive height and width, got \(0, 3\)"),
    ],
)
def test_values_that_it_cannot_have_are_refused(values, words):
    with pytest.raises(InputError, match=words):
        Preparation(**values)
