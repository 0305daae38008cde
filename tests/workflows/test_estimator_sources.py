"""What the estimator takes beside arrays of numbers - files, folders, pictures, data sets, columns of these - and the one
sentence for everything else, in `fit` and in `transform`."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from mpdvae.errors import InputError
from mpdvae.experiments.decoder_config import MLPDecoder
from mpdvae.experiments.encoder_config import MLPEncoder
from mpdvae.sklearn import MPDVAE

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # fits of an epoch

BYTES = np.random.default_rng(0).integers(0, 256, (12, 4, 5), dtype=np.uint8)
FLOATS = BYTES / 255


def small(**changes) -> MPDVAE:
    networks = {"encoder": MLPEncoder(hidden_features=(8,)), "decoder": MLPDecoder(hidden_features=(8,))}
    return MPDVAE(2, prior="standard-normal", max_iter=1, random_state=0, **networks, **changes)


class OfPairs(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return len(FLOATS)

    def __getitem__(self, i: int):
        return torch.from_numpy(FLOATS[i]), i % 3


@pytest.fixture(scope="module")
def fitted() -> MPDVAE:
    return small().fit(FLOATS)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of pictures, and the same images in an array and an archive beside it."""
    root = tmp_path_factory.mktemp("images")
    folder = root / "pictures"
    folder.mkdir()
    for i, image in enumerate(BYTES):
        Image.fromarray(image).save(folder / f"{i:02}.png")
    np.save(root / "x.npy", FLOATS)
    np.savez(root / "x.npz", x=BYTES)
    np.savez(root / "parts.npz", x_train=BYTES, x_test=BYTES)
    return root


def column(items) -> np.ndarray:
    made = np.empty(len(items), object)
    made[:] = items
    return made


def of_pandas(items):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"image": pandas.Series(items)})


TAKEN = {
    "a folder": lambda root: root / "pictures",
    "its name": lambda root: str(root / "pictures"),
    "its name in bytes": lambda root: bytes(root / "pictures"),
    "paths": lambda root: sorted((root / "pictures").iterdir()),
    "an array of names": lambda root: np.array(sorted(map(str, (root / "pictures").iterdir()))),
    "a file of an array": lambda root: root / "x.npy",
    "an archive": lambda root: root / "x.npz",
    "a data set of pairs": lambda root: OfPairs(),
    "a data set of tensors": lambda root: torch.utils.data.TensorDataset(torch.from_numpy(FLOATS)),
    "the list of a stream of pairs": lambda root: list(zip(FLOATS, range(12), strict=True)),
    "the list of a stream of dictionaries": lambda root: [{"image": x, "label": 0} for x in FLOATS],
    "images and labels": lambda root: (FLOATS, np.arange(12)),
    "with channels": lambda root: torch.utils.data.TensorDataset(torch.from_numpy(FLOATS)[:, None]),
    "an array of arrays": lambda root: column(list(FLOATS)),
    "an array of objects": lambda root: FLOATS.astype(object),
    "a column of a table": lambda root: of_pandas(list(FLOATS))["image"],
    "a table of one column": lambda root: of_pandas(list(FLOATS)),
    "a column of paths": lambda root: of_pandas(sorted((root / "pictures").iterdir())),
    "a column of names": lambda root: of_pandas(sorted(map(str, (root / "pictures").iterdir())))["image"],
    "a memory view": lambda root: memoryview(FLOATS),
    "a sparse tensor": lambda root: torch.from_numpy(FLOATS).to_sparse(),
    "lists": lambda root: FLOATS.tolist(),
}


@pytest.mark.parametrize("form", TAKEN)
def test_images_in_any_form_have_the_codes_of_the_array(form, fitted, files):
    X, codes = TAKEN[form](files), fitted.transform(FLOATS)
    np.testing.assert_allclose(fitted.transform(X), codes, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(small().fit(X).transform(FLOATS), codes, rtol=1e-6, atol=1e-7)


def with_one(value: float) -> np.ndarray:
    x = FLOATS.copy()
    x[3, 1, 1] = value
    return x


REFUSED = {
    "no such folder": (lambda root: root / "none", r"X: .*none does not exist; give"),
    "no such name": (lambda root: "none", r"X: none does not exist; give"),
    "a split archive": (lambda root: root / "parts.npz", r"X: .* which holds x_train and x_test; give one of them"),
    "a loader": (lambda root: torch.utils.data.DataLoader(OfPairs()), r"X: .* got a DataLoader; give .* X\.dataset"),
    "a generator": (lambda root: (x for x in FLOATS), r"X: .* got a generator; give .* list\(X\)"),
    "a dictionary": (lambda root: {"x": FLOATS}, r"X: .* got a dict; give one of its parts, such as X\['x'\]"),
    "nothing": (lambda root: None, r"X: expected images, .* got a NoneType; convert"),
    "a number": (lambda root: 3, r"X: expected images, .* got a int; convert"),
    "a scalar": (lambda root: np.float32(3), r"X: expected images, .* got a float32; convert"),
    "a function": (lambda root: print, r"X: expected images, .* got a builtin_function_or_method; convert"),
    "words": (lambda root: np.array([["a"] * 20] * 9), r"X: expected images, .* got an array of <U1; convert"),
    "no images": (lambda root: [], r"X: expected images, .* got one axis, shape \(0,\)"),
    "a row": (lambda root: FLOATS[0, 0], r"X: expected images, .* got one axis, shape \(5,\)"),
    "dictionaries": (lambda root: [{"x": 1}] * 9, r"X\[0\]: expected an image, .* got a int"),
    "NaN": (lambda root: with_one(np.nan), r"^Input X contains NaN: .* in 1 of 12 images, the first is image 3; leave"),
    "infinity": (lambda root: with_one(np.inf), r"^Input X contains infinity: .* the first is image 3; leave"),
    "objects of NaN": (lambda root: with_one(np.nan).astype(object), r"^Input X contains NaN: .* image 3; leave"),
    "complex numbers": (lambda root: FLOATS + 0j, r"X: Complex data not supported, expected real numbers; give"),
    "none of them": (lambda root: FLOATS[:0], r"X: expected . or more images, got 0 sample"),
}


@pytest.mark.parametrize("given", REFUSED)
def test_what_holds_no_images_is_refused_in_a_sentence(given, fitted, files):
    make, message = REFUSED[given]
    for call in (small().fit, fitted.transform, fitted.score_samples, small().estimate_seconds):
        with pytest.raises(InputError, match=message) as refused:
            call(make(files))
        sentence = re.sub(r"\n`mpdvae explain .*", "", f"{refused.value}")
        assert "\n" not in sentence


def test_a_list_of_paths_and_others_is_refused_in_fit(files):
    with pytest.raises(
        InputError, match=r"X\[1\]: expected the path of a picture, .* got a ndarray; give all as paths"
    ):
        small().fit([next((files / "pictures").iterdir()), BYTES[0]])


def test_files_that_are_no_pictures_are_told(files, tmp_path, fitted):
    for path in (files / "pictures").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "notes.txt").write_text("of the day")
    for call in (small().fit, fitted.transform):
        with pytest.warns(UserWarning, match=r"1 file"):
            call(tmp_path)


def test_messages_name_parameters(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"is not empty and not a run; choose another run_folder\."):
        small(run_folder=tmp_path).fit(FLOATS)
    assert (tmp_path / "notes.txt").read_text() == "mine"
