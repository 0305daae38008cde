"""Which axis of an array is the channels, and images of any number of them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from mpdvae.data.arrays import channel_axis, channels_first
from mpdvae.data.given_images import given_images
from mpdvae.data.preparation import Preparation
from mpdvae.errors import InputError
from mpdvae.evaluation import image_grids


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7, 16, 64])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 12), (70, 65), (5, 5)])
def test_channels_are_told_from_the_sides_or_refused(channels, height, width):
    """Of both forms the same images come out. More channels than one side, of images that are not square, are not told: they
    could be the sides of images with fewer channels."""
    x = np.random.default_rng(0).integers(0, 256, (2, channels, height, width), np.uint8)
    told = channels in (1, 3) or channels < min(height, width) or (height == width != channels)
    for form in (x, x.transpose(0, 2, 3, 1)):
        if told:
            assert np.array_equal(channels_first(form, "x").numpy(), x)
        elif height == width:
            assert channel_axis(form.shape) is None


@pytest.mark.parametrize("shape", [(5, 8, 8, 8), (5, 65, 8, 8), (5, 12, 8, 12), (5, 4, 5, 4)])
def test_an_ambiguous_array_is_told(shape):
    with pytest.raises(InputError, match="cannot be told from height and width; give 1 or 3 channels, fewer than"):
        channels_first(np.zeros(shape, np.uint8), "x")


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch", "unscaled"])
def test_each_channel_is_prepared_alike(channels, fit):
    x = np.random.default_rng(0).integers(0, 256, (5, channels, 16, 20), np.uint8)
    preparation = Preparation(size=(8, 8), fit=fit)
    found = given_images(x, (channels, 8, 8), preparation=preparation).pixels
    for k in range(channels):
        alone = given_images(x[:, k], (1, 8, 8), preparation=preparation).pixels
        assert torch.equal(found[:, k], alone[:, 0])
    with pytest.raises(
        InputError, match=rf"colours: grey is made of pictures of 1 or 3 channels, got {channels} channels"
    ):
        Preparation(colours="grey").apply(x[0])


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB"), (4, "RGB"), (9, "RGB")])
def test_a_picture_shows_the_first_channels(channels, mode):
    images = torch.rand(4, channels, 5, 6)
    picture = Image.open(io.BytesIO(image_grids.sheet(images, 2)))
    assert (picture.mode, picture.size) == (mode, (12, 10))
    shown = torch.from_numpy(np.array(picture)).view(10, 12, -1).permute(2, 0, 1)[:, :5, :6]
    assert torch.equal(shown, (images[0, : len(shown)] * 255).round().byte())
