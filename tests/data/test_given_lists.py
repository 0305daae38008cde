"""Lists of images with what belongs to them: the items of a stream, arrays with labels, columns of tables."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import tiny

import mpdvae
from mpdvae.data.given_images import given_images
from mpdvae.data.given_lists import beside_labels, holds_items, listed_column
from mpdvae.data.own import from_dataset, images_of_array
from mpdvae.errors import InputError

SHAPE = (1, 4, 5)
X = np.random.default_rng(0).integers(0, 256, (12, 4, 5), dtype=np.uint8)
Y = [number % 3 for number in range(12)]
NAMES = ["cat", "dog", "owl"]

ITEMS = {
    "pairs": [*zip(X, Y, strict=True)],
    "pairs of floats": [(x / 255, y) for x, y in zip(X, Y, strict=True)],
    "pairs of tensors": [(torch.from_numpy(x)[None] / 255, torch.tensor(y)) for x, y in zip(X, Y, strict=True)],
    "pairs of pictures": [(Image.fromarray(x), y) for x, y in zip(X, Y, strict=True)],
    "lists": [[x, y] for x, y in zip(X, Y, strict=True)],
    "nested lists": [((x / 255).tolist(), y) for x, y in zip(X, Y, strict=True)],
    "names": [(x, NAMES[y]) for x, y in zip(X, Y, strict=True)],
    "one-hot": [(x, np.eye(3)[y]) for x, y in zip(X, Y, strict=True)],
    "dictionaries": [{"image": x, "label": y} for x, y in zip(X, Y, strict=True)],
    "dictionaries of pictures": [{"img": Image.fromarray(x), "label": y} for x, y in zip(X, Y, strict=True)],
}


def table(cases):
    return pytest.mark.parametrize("case", cases.values(), ids=cases)


@table(ITEMS)
def test_the_list_of_a_stream_is_taken_as_a_data_set(case):
    assert holds_items(case)
    given = given_images(case, SHAPE)
    assert np.array_equal(given.pixels.numpy()[:, 0], X)
    assert given.labels.tolist() == Y
    data = from_dataset(case)
    assert sorted(torch.cat([part.labels for part in (data.train, data.validation, data.test)]).tolist()) == sorted(Y)


PLAIN = {
    "arrays": list(X),
    "pictures": [Image.fromarray(x) for x in X],
    "nested lists": (X / 255).tolist(),
    "two rows": (X[:2, :2] / 255).tolist(),
    "images with a channel": X[:, None].tolist(),
    "paths": ["a.png", "b.png"],
    "nothing": [],
    "an array": X,
    "two images": [X[0], X[1]],
    "two images, one with a channel": [X[0][None], X[1]],
    "two images, one with a channel last": [X[0][..., None], X[1]],
    "a list of lists of rows": [list(x) for x in X],
}


@table(PLAIN)
def test_lists_of_images_alone_hold_no_labels(case):
    assert not holds_items(case)
    assert beside_labels(case) is None


BESIDE = {
    "integers": (X, np.array(Y)),
    "a list": [X, Y],
    "names": (X[:, None], [NAMES[y] for y in Y]),
    "tensors": (torch.from_numpy(X), torch.tensor(Y)),
    "a column": (X, np.array(Y)[:, None]),
    "one-hot": (X, np.eye(3)[Y]),
}


@table(BESIDE)
def test_an_array_and_its_labels_are_taken_together(case):
    for given in (given_images(case, SHAPE), images_of_array(case, "data")):
        assert np.array_equal(given.pixels.numpy()[:, 0], X)
        assert given.labels.tolist() == Y
    assert given.class_names == (tuple(NAMES) if isinstance(case[1][0], str) else ())


def test_labels_of_another_number_are_refused():
    with pytest.raises(InputError, match="labels: expected one for each of 12 images, got 11; give"):
        given_images((X, Y[:11]), SHAPE)


def test_images_in_a_file_stay_there_beside_labels(tmp_path, monkeypatch):
    monkeypatch.setattr("mpdvae.data.own.IN_MEMORY", 1)
    np.save(tmp_path / "x.npy", X)
    images = images_of_array((np.load(tmp_path / "x.npy", mmap_mode="r"), Y), "data")
    assert not images.in_memory
    assert images.take(torch.tensor([5, 1])).labels.tolist() == [Y[5], Y[1]]
    assert np.array_equal(images.pixels.numpy()[:, 0], X)


def test_columns_of_tables_are_lists(tmp_path):
    pandas = pytest.importorskip("pandas")
    for number, x in enumerate(X):
        Image.fromarray(x).save(tmp_path / f"{number:02}.png")
    paths = sorted(tmp_path.iterdir())
    columns = [list(X), [Image.fromarray(x) for x in X], paths, [str(path) for path in paths]]
    for values in columns:
        given = given_images(pandas.Series(values, index=range(5, 17)), SHAPE)
        assert np.array_equal(given.pixels.numpy()[:, 0], X)
    assert given_images(np.array([str(path) for path in paths]), SHAPE).names == [path.name for path in paths]
    numbers = pandas.Series([1, 2])
    assert listed_column(numbers) is numbers


REFUSED = {
    "empty text": ("", "images: expected a path, or images, got empty text"),
    "empty bytes": (b"", "images: expected a path, or images, got empty text"),
    "a picture's bytes": (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "got 16 bytes that are no path; of a picture in a file, give",
    ),
    "many bytes": (b"x" * 5000, "got 5,000 bytes that are no path"),
}


@table(REFUSED)
def test_what_is_no_path_is_refused(case):
    given, message = case
    for images in (given, [given]):
        with pytest.raises(InputError, match=message):
            given_images(images, SHAPE)


def test_models_take_the_list_of_a_stream():
    vae = tiny("vae-digits-smoke").build((1, 8, 8))
    x = np.random.default_rng(1).random((3, 8, 8)) > 0.5
    assert torch.equal(vae.preprocess([(image, 0) for image in x]), vae.preprocess(x))
    assert torch.equal(vae.preprocess([{"image": image} for image in x]), vae.preprocess(x))
    assert torch.equal(vae.preprocess((x, [0, 1, 2])), vae.preprocess(x))
    with pytest.raises(InputError, match="empty text"):
        vae.preprocess("")


@pytest.mark.parametrize("form", ["items", "arrays"])
def test_models_are_trained_on_the_list_of_a_stream_and_on_arrays_with_labels(form, tmp_path):
    x, y = np.random.default_rng(1).random((20, 8, 8)), [number % 2 for number in range(20)]
    data = [*zip(x, y, strict=True)] if form == "items" else (x, y)

    def of_stream(image_shape, latent_dim):
        return tiny("vae-digits-smoke").build(image_shape)

    vae = mpdvae.fit(of_stream, data, out=tmp_path / "run", epochs=1, batch_size=8, device="cpu")
    assert vae.preprocess(data).shape == (20, 1, 8, 8)
