"""Image grids: where each image is, and PNG files that others can read."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from mpdvae.errors import InputError
from mpdvae.evaluation.image_grids import GROUND, check_png_path, grid, in_rows, png, sheet


def test_each_image_has_its_place():
    images = torch.rand(2, 3, 1, 4, 5)
    canvas = grid(images)
    assert canvas.shape == (1, 2 * 5 + 1, 3 * 6 + 1)
    for i in range(2):
        for j in range(3):
            assert torch.equal(canvas[:, 1 + 5 * i : 5 + 5 * i, 1 + 6 * j : 6 + 6 * j], images[i, j])
    gaps = torch.ones_like(canvas, dtype=torch.bool)
    gaps.view(1, 11, 19)[:, [r for r in range(11) if r % 5], :] &= torch.arange(19) % 6 == 0
    assert (canvas[gaps] == GROUND).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_the_grid_enlarged_by_a_whole_factor(channels):
    images = torch.rand(2, 3, channels, 4, 5)
    picture = Image.open(io.BytesIO(png(images)))
    picture.load()
    factor = 900 // 19
    assert picture.format == "PNG"
    assert picture.mode == {1: "L", 3: "RGB"}[channels]
    assert picture.size == (19 * factor, 11 * factor)
    pixel = picture.getpixel((1 * factor + factor // 2, 1 * factor))
    expected = [round(255 * value) for value in images[0, 0, :, 0, 0].tolist()]
    assert ([pixel] if channels == 1 else list(pixel)) == expected


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_can_be_cut_up_again(channels):
    images = torch.randint(256, (7, channels, 4, 5)) / 255
    with Image.open(io.BytesIO(sheet(images, 3))) as picture:
        assert picture.size == (3 * 5, 3 * 4)
        for i, image in enumerate(images):
            left, top = i % 3 * 5, i // 3 * 4
            cut = np.asarray(picture.crop((left, top, left + 5, top + 4)), np.int64).reshape(4, 5, channels)
            assert np.array_equal(cut, (image * 255).round().long().permute(1, 2, 0).numpy())


def test_a_wide_grid_is_not_made_smaller():
    assert Image.open(io.BytesIO(png(torch.rand(1, 200, 1, 4, 5)))).size == (1201, 6)


def test_values_outside_the_range_are_clamped():
    picture = Image.open(io.BytesIO(png(torch.tensor([-3.0, 7.0]).reshape(1, 1, 1, 1, 2))))
    values = picture.get_flattened_data() if hasattr(picture, "get_flattened_data") else picture.getdata()
    assert set(values) == {0, 128, 255}


def test_the_last_row_is_filled_up():
    images = torch.rand(7, 1, 2, 2)
    rows = in_rows(images, 3)
    assert rows.shape == (3, 3, 1, 2, 2)
    assert torch.equal(rows.flatten(0, 1)[:7], images)
    assert (rows.flatten(0, 1)[7:] == GROUND).all()
    assert torch.equal(in_rows(images[:6], 3).flatten(0, 1), images[:6])


@pytest.mark.parametrize("name", ["x.jpg", "x", ".png", "folder.png"])
def test_names_that_are_no_png(tmp_path, name):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=r"--out: expected the name of a file that ends in \.png, got"):
        check_png_path(tmp_path / name)


def test_names_that_are(tmp_path):
    check_png_path(tmp_path / "x.png")
    check_png_path(tmp_path / "X.PNG")
