"""Values of black and white: whatever form the images have, a range means the same."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mpdvae.data.arrays import grey_levels
from mpdvae.data.given_images import given_images
from mpdvae.data.own import from_dataset, images_of_array
from mpdvae.data.preparation import Preparation
from mpdvae.errors import InputError

SHAPE = (1, 4, 5)
X = np.random.default_rng(0).integers(0, 17, (12, 4, 5))
X.flat[:2] = 0, 16


class Listed:
    """A data set of another library."""

    def __init__(self, items) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int):
        return self.items[row]


def saved(folder, **arrays):
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


def stored(folder, x):
    np.save(folder / "x.npy", x)
    return folder / "x.npy"


FORMS = {
    "array": lambda x, folder: x,
    "tensor": lambda x, folder: torch.from_numpy(x),
    "lists": lambda x, folder: x.tolist(),
    "list of arrays": lambda x, folder: list(x),
    "archive": lambda x, folder: saved(folder, x=x),
    "archive in two parts": lambda x, folder: saved(folder, x_train=x[:3], x_test=x),
    "array in a file": lambda x, folder: stored(folder, x),
    "data set": lambda x, folder: Listed(list(x)),
    "data set of pairs": lambda x, folder: Listed([(image, 0) for image in x]),
    "data set of tensors": lambda x, folder: Listed([{"image": torch.from_numpy(image)} for image in x]),
}
RANGES = {
    "integers from zero": (X, (0, 16)),
    "floats from zero": (X.astype(float), (0, 16)),
    "from minus one to one": ((X / 8 - 1).astype(np.float32), (-1, 1)),
    "integers below zero": (X - 8, (-8, 8)),
    "half precision": ((X / 8 - 1).astype(np.float16), (-1, 1)),
}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("case", RANGES.values(), ids=RANGES)
def test_a_range_means_the_same_in_every_form(case, form, bits, tmp_path):
    x, value_range = case
    levels = given_images(form(x, tmp_path), SHAPE, value_range, preparation=Preparation(bits=bits)).pixels
    assert np.array_equal(levels.numpy()[:, 0], np.round(X / 16 * (2**bits - 1)))


@pytest.mark.parametrize("case", RANGES.values(), ids=RANGES)
def test_data_sets_for_training_take_a_range(case):
    x, value_range = case
    data = from_dataset(Listed(list(x)), value_range=value_range)
    levels = torch.cat([part.pixels for part in (data.train, data.validation, data.test)])
    assert np.array_equal(np.sort(levels.numpy().ravel()), np.sort(np.round(X / 16 * 255).ravel()))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    ("value_range", "message"),
    [((0, 15), "has values from .* to 16, expected 0 to 15; scale them"), ((1, 0), r"value_range: expected \(black")],
)
def test_values_beyond_the_range_are_refused_in_every_form(form, value_range, message, tmp_path):
    with pytest.raises(InputError, match=message):
        given_images(form(X.astype(float), tmp_path), SHAPE, value_range)


@pytest.mark.parametrize("form", ["archive", "array in a file", "data set", "array"])
@pytest.mark.parametrize("x", [(X * 15).astype(np.uint8), X > 8], ids=["bytes", "booleans"])
def test_bytes_and_booleans_have_their_own_range_in_every_form(form, x, tmp_path):
    levels = given_images(FORMS[form](x, tmp_path), SHAPE, (0, 16)).pixels.numpy()[:, 0]
    assert np.array_equal(levels, x * (255 if x.dtype == np.bool_ else 1))


def test_pictures_have_their_own_range():
    picture = Image.fromarray(np.full((4, 5), 9, np.uint8))
    assert (given_images(Listed([picture]), SHAPE, (0, 16)).pixels == 9).all()


# -- every width of numbers --------------------------------------------------------------------------------------------

FLOATS = [np.float16, np.float32, np.float64, np.longdouble, np.dtype(">f4")]
INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.dtype(">u2")]


@settings(max_examples=20, deadline=None)
@given(values=st.lists(st.floats(0, 1, width=16), min_size=1, max_size=20), bits=st.sampled_from([8, 16]))
def test_floats_of_every_width_are_the_levels_of_float64(values, bits):
    for dtype in FLOATS:
        x = np.array(values, dtype)[None, None]
        expected = np.round(x.astype(np.float64) * (2**bits - 1))
        assert np.array_equal(grey_levels(x, "x", bits), expected), dtype
        assert np.array_equal(
            images_of_array(np.repeat(x, 2, 1), "x", Preparation(bits=bits)).pixels[0, 0].numpy(),
            np.repeat(expected, 2, 1)[0],
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float8_e4m3fn])
@pytest.mark.parametrize("bits", [8, 16])
def test_tensors_of_every_width_are_the_levels_of_float64(dtype, bits):
    x = torch.linspace(0, 1, 20).view(1, 4, 5).to(dtype)
    found = images_of_array(x, "x", Preparation(bits=bits)).pixels.numpy()
    assert np.array_equal(found[:, 0], np.round(x.float().double().numpy() * (2**bits - 1)))


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("bits", [8, 16])
def test_integers_of_every_width_are_levels(dtype, bits):
    most = min(2**bits - 1, np.iinfo(dtype).max)
    x = np.linspace(0, most, 20).round().astype(dtype).reshape(1, 4, 5)
    own = 257 if bits == 16 and dtype == np.uint8 else 1
    assert np.array_equal(grey_levels(x, "x", bits), x.astype(np.int64) * own)
