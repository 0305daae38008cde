"""Own images of 16 bits: kept where a model has more than 256 levels, from every source, and refused or rounded elsewhere."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import tiny

import mpdvae
from mpdvae.data import Images, Splits
from mpdvae.data.arrays import grey_levels
from mpdvae.data.image_folder import read_image_folder
from mpdvae.data.own import from_dataset, load_own
from mpdvae.data.preparation import Preparation
from mpdvae.data.protocols import Protocol, scaled
from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.sklearn import MPDVAE

DEEP = Preparation(bits=16)
X = np.random.default_rng(0).integers(0, 2**16, (20, 6, 5)).astype(np.uint16)
LEVELS = {"binarisation": "levels", "evaluation_draws": 1, "levels": 2**16}


def pictures(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    return folder


def saved(tmp_path: Path, x: np.ndarray) -> dict[str, Path]:
    """The same images in all forms."""
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    return {"npy": tmp_path / "x.npy", "npz": tmp_path / "x.npz", "folder": pictures(tmp_path / "pictures", x)}


def every_pixel(data: Splits) -> np.ndarray:
    parts = (data.train, data.validation, data.test)
    return np.sort(np.concatenate([part.pixels.numpy().ravel() for part in parts]))


def test_all_sources_keep_every_level(tmp_path):
    data = {name: load_own(path, None, 0, DEEP) for name, path in saved(tmp_path, X).items()}
    data["dataset"] = from_dataset(Listed(X), split_seed=0, preparation=DEEP)
    assert {splits.train.pixels.dtype for splits in data.values()} == {torch.uint16}
    assert len({splits.sha256 for splits in data.values()}) == 1
    np.testing.assert_array_equal(every_pixel(data["npy"]), np.sort(X.ravel()))
    assert "reduced" not in data["folder"].reading


class Listed:
    """A data set of another library."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.x[row]


def test_images_that_stay_in_their_file_are_the_same(tmp_path, monkeypatch):
    in_memory = load_own(saved(tmp_path, X)["npy"], None, 0, DEEP)
    monkeypatch.setattr("mpdvae.data.own.IN_MEMORY", X.nbytes - 1)  # bytes, not numbers
    stored = load_own(tmp_path / "x.npy", None, 0, DEEP)
    assert not stored.train.in_memory
    assert stored.sha256 == in_memory.sha256
    assert stored.train.pixels.equal(in_memory.train.pixels)


def test_without_16_bits_pictures_are_rounded_and_arrays_refused(tmp_path):
    paths = saved(tmp_path, X)
    rounded = load_own(paths["folder"], None, 0)
    assert rounded.train.pixels.dtype == torch.uint8
    assert "reduced 20 from 16 bits to 8" in rounded.reading
    for name in ("npy", "npz"):
        with pytest.raises(
            InputError, match=r"integers must lie in 0\.\.255 \(for levels of 16 bits, .*--data.levels 65536"
        ):
            load_own(paths[name], None, 0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.array([0, 1, 254, 255], np.uint8), [0, 257, 65278, 65535]),
        (np.array([0, 1, 255, 65535], np.int64), [0, 1, 255, 65535]),
        (np.array([0.0, 0.5, 1.0], np.float64), [0, 32768, 65535]),
        (np.array([False, True]), [0, 65535]),
    ],
    ids=["bytes", "integers", "floats", "booleans"],
)
def test_every_kind_of_array_reaches_black_and_white(given, expected):
    found = grey_levels(given[None, None], "x", 16)
    assert found.dtype == np.uint16
    assert found.ravel().tolist() == expected


def test_values_beyond_16_bits_are_refused():
    with pytest.raises(InputError, match=r"x has values from 0 to 65536: integers must lie in 0\.\.65535\."):
        grey_levels(np.array([[[0, 65536]]]), "x", 16)


FORMS = [
    Preparation(bits=16),
    Preparation((8, 3), "crop", bits=16),
    Preparation((9, 9), "pad", background=7, bits=16),
    Preparation((3, 4), "stretch", "grey", bits=16),
    Preparation((4, 9), "unscaled", "rgb", 0, bits=16),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("preparation", FORMS, ids=lambda p: p.in_words or "as stored")
def test_preparing_16_bits_is_preparing_8_more_finely(preparation, channels):
    levels = (
        np.random.default_rng(1).integers(100, 156, (channels, 6, 5)).astype(np.uint8)
    )  # Pillow clips 8 bits on the way
    coarse = Preparation(preparation.size, preparation.fit, preparation.colours, preparation.background).apply(levels)
    for given in (levels, levels.astype(np.uint16) * np.uint16(257)):
        fine = preparation.apply(given)
        assert (fine.dtype, fine.shape) == (np.dtype(np.uint16), coarse.shape)
        # Pillow rounds after each direction and in the luma: up to two levels of 8 bits in all.
        assert np.abs(fine / 257 - coarse).max() <= 2


@pytest.mark.parametrize("background", [255, 9])
def test_a_transparent_level_of_16_bits_becomes_the_background(tmp_path, background):
    deep = np.array([[0, 1000], [1000, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png", transparency=1000)
    found = read_image_folder(tmp_path, Preparation(background=background, bits=16)).pixels[0].numpy()
    assert found.ravel().tolist() == [0, 257 * background, 257 * background, 65535]


def test_levels_become_numbers_from_minus_one_to_one():
    k = torch.tensor([0, 1, 32768, 65535], dtype=torch.int32).to(torch.uint16)
    deep = scaled(k, Protocol("levels", 1, levels=2**16))
    torch.testing.assert_close(deep, torch.tensor([0, 1, 32768, 65535]) * 2 / 65535 - 1)
    upper = scaled(k, Protocol("levels", 1))
    torch.testing.assert_close(upper, torch.tensor([0, 0, 128, 255]) * 2 / 255 - 1)


def test_images_of_8_bits_are_no_images_of_more_levels(tmp_path):
    """Held in 16 bits, all levels are multiples of 257: a likelihood of 65,536 levels would be one of those gaps."""
    coarse = (X >> 8).astype(np.uint8)
    for path in saved(tmp_path, coarse).values():
        with pytest.raises(InputError, match="has images of 256 levels, expected at most so many, got 65536"):
            Protocol("levels", 1, levels=2**16).check(load_own(path, None, 0, DEEP))
    mixed = np.concatenate([X[:2], coarse.astype(np.uint16) * np.uint16(257)])
    np.save(tmp_path / "mixed.npy", mixed)
    Protocol("levels", 1, levels=2**16).check(load_own(tmp_path / "mixed.npy", None, 0, DEEP))


def test_16_bits_are_not_binarised():
    part = Images(torch.from_numpy(X)[:, None])
    data = Splits.of("own", "scans", part, part, part)
    with pytest.raises(InputError, match="scans has levels of 16 bits: binarisation dynamic draws from 8"):
        Protocol("dynamic").check(data)
    Protocol("levels", 1, levels=2**16).check(data)


def test_a_model_takes_new_images_as_it_took_those_for_training(tmp_path):
    paths = saved(tmp_path, X)
    parts = {"decoder": {"kind": "mlp"}, "encoder": {"kind": "mlp"}, "prior": {"kind": "standard-normal"}}
    data = {f"data__{name}": value for name, value in LEVELS.items()}
    changed = with_changes(tiny("vae-digits-smoke"), data__dataset="own", data__path=paths["npy"], **data, **parts)
    vae = Experiment.model_validate(changed.model_dump()).build((1, 6, 5)).eval()
    expected = torch.from_numpy(X.astype(np.float32))[:, None] / 32767.5 - 1
    for given in (X, torch.from_numpy(X), str(paths["npy"]), str(paths["npz"]), str(paths["folder"]), [*X]):
        torch.testing.assert_close(vae.preprocess(given), expected, rtol=0, atol=1e-6)
    vae.check_images(expected)
    assert torch.isfinite(vae.elbo(expected)).all()
    vae.save_pretrained(tmp_path / "model")
    estimator = MPDVAE.from_pretrained(tmp_path / "model", value_range=(0, 65535))
    np.testing.assert_allclose(estimator.transform(X), vae.encode(expected).numpy(), rtol=1e-5, atol=1e-6)
    assert estimator.transform(np.full((1, 6, 5), 255, np.uint8)) == pytest.approx(
        vae.encode(torch.ones(1, 1, 6, 5)).numpy()
    )


def test_a_model_of_ones_own_is_fitted_to_them(tmp_path):
    def scans(image_shape, latent_dim):
        return Experiment.model_validate(
            with_changes(
                tiny("vae-digits-smoke"),
                data__binarisation="levels",
                data__evaluation_draws=1,
                data__levels=2**16,
                data__dataset="own",
                data__path="x.npy",
                decoder={"kind": "mlp"},
                encoder={"kind": "mlp"},
                prior={"kind": "standard-normal"},
            ).model_dump()
        ).build(image_shape)

    vae = mpdvae.fit(scans, X, images=LEVELS, out=tmp_path / "run", epochs=1, batch_size=8, device="cpu")
    assert vae.preprocess(X).unique().numel() > 500  # 256 at the most, had they been reduced


COARSE = (X >> 8).astype(np.uint8)
CHANGES = [
    Preparation((4, 3), bits=16),
    Preparation((9, 9), "pad", background=7, bits=16),
    Preparation((3, 4), "stretch", "rgb", bits=16),
    Preparation(colours="rgb", bits=16),
]


@pytest.mark.parametrize("preparation", CHANGES, ids=lambda preparation: preparation.in_words)
def test_images_of_8_bits_that_are_resized_are_no_images_of_more_levels(preparation, tmp_path):
    data = {name: load_own(path, None, 0, preparation) for name, path in saved(tmp_path, COARSE).items()}
    data["dataset"] = from_dataset(Listed(COARSE), split_seed=0, preparation=preparation)
    assert len({splits.sha256 for splits in data.values()}) == 1
    for splits in data.values():
        with pytest.raises(InputError, match="has images of 256 levels, expected at most so many, got 65536"):
            Protocol("levels", 1, levels=2**16).check(splits)
    mixed = np.concatenate([X, COARSE.astype(np.uint16) * np.uint16(257)])
    Protocol("levels", 1, levels=2**16).check(from_dataset(Listed(mixed), preparation=preparation))


@pytest.mark.parametrize("preparation", CHANGES, ids=lambda preparation: preparation.in_words)
def test_a_picture_of_8_bits_is_prepared_as_one(preparation):
    coarse = Preparation(preparation.size, preparation.fit, preparation.colours, preparation.background)
    for levels in (COARSE[:1], COARSE[:3]):
        found = preparation.apply(levels)
        assert found.dtype == np.uint16
        assert np.array_equal(found, coarse.apply(levels).astype(np.int64) * 257)
