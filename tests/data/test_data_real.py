"""The published files themselves, on machines that have them: arrays against known checksums."""

from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import shared_data

from mpdvae import data
from mpdvae.data.cifar10 import order_independent_hash
from mpdvae.data.fashion_mnist import FASHION_MNIST
from mpdvae.data.images import Images
from mpdvae.data.published import array_hash


def joined(*parts: Images) -> np.ndarray:
    return torch.cat([part.pixels for part in parts])[:, 0].numpy()


def test_real_static_mnist() -> None:
    root = shared_data(*(f"binarized_mnist_{part}.amat.gz" for part in ("train", "valid", "test")))
    splits = data.load("static-mnist", root=root)
    assert splits.sizes == (50_000, 10_000, 10_000)
    train = splits.train.pixels.numpy() // 255
    assert array_hash(train) == "43490d4d6ac9002727af4426d8748609fdb7e4094fa65ad8d681ea60082a7a5a"
    assert set(np.unique(splits.test.pixels.numpy())) == {0, 255}


def test_real_omniglot(tmp_path: Path) -> None:
    names = [f"images_{part}.zip" for part in ("background", "evaluation")]
    root = shared_data(*(f"omniglot/{name}" for name in names))
    (tmp_path / "omniglot").mkdir()  # links, so that what is kept is not kept there
    for name in names:
        (tmp_path / "omniglot" / name).symlink_to(root / "omniglot" / name)
    splits = data.load("omniglot", root=tmp_path)
    assert splits.sizes == (16_935, 2_345, 13_180)
    assert array_hash(splits.test.pixels.numpy()) == "d46ed91e2994cc0300bea899585332a5c50382517d0a289f035bc99599a35c6f"
    assert data.load("omniglot", root=tmp_path).sha256 == splits.sha256
    assert (tmp_path / "omniglot" / "omniglot-28x28.npy").stat().st_size == 128 + 32_460 * 784


def test_real_caltech101() -> None:
    splits = data.load("caltech101", root=shared_data("caltech101_silhouettes_28_split1.mat"))
    assert splits.sizes == (4_100, 2_264, 2_307)
    assert (
        array_hash(splits.test.pixels.numpy() // 255)
        == "36fc4a2cc67cf73f78af709ed2228bdd1eb9feb6567b0b6a15fe2c80f83eab3f"
    )
    assert 0.4 < splits.train.pixels.float().mean() / 255 < 0.5
    assert splits.train.labels is not None
    assert (splits.train.labels.min(), splits.train.labels.max()) == (0, 100)


def test_real_frey_faces() -> None:
    splits = data.load("frey-faces", root=shared_data("freyfaces.npz"), split_seed=5)
    assert splits.sizes == (1_565, 200, 200)
    order = np.arange(1_965)
    np.random.RandomState(5).shuffle(order)
    faces = np.empty((1_965, 28, 20), np.uint8)
    faces[order] = joined(splits.train, splits.validation, splits.test)
    assert array_hash(faces) == "2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78"


def test_real_cifar10_subset_as_own_data() -> None:
    splits = data.load("own", path=shared_data("cifar10_subset.npz") / "cifar10_subset.npz")
    assert splits.sizes == (9_000, 1_000, 5_000)
    assert splits.image_shape == (3, 32, 32)
    train = torch.cat([splits.train.pixels, splits.validation.pixels]).numpy()
    assert order_independent_hash(train) == "db6b9a43e779d0d7f5b2b33ac88af896ba42c78d2dd659dfbd160cd939df580a"
    channels_last = splits.test.pixels.numpy().transpose(0, 2, 3, 1)
    assert array_hash(channels_last) == "33ee95a2cb69bb47451071026023dfd8553e336e8380625d9c4d82af18e9d520"
    assert splits.test.labels is not None
    assert splits.test.labels.bincount().tolist() == [500] * 10


@pytest.mark.parametrize("name", ["cifar10", "omniglot-burda", "fashion-mnist"])
def test_real_sets_that_users_have(name: str) -> None:
    root = data.data_dir()
    if not data.entry(name).is_here(root):
        pytest.skip(f"{name} is not in {root}; `mpdvae data fetch {name}` puts it there")
    splits = data.load(name, root=root)
    sizes = {"cifar10": (48_000, 2_000, 10_000), "omniglot-burda": (22_000, 2_345, 8_070)}
    assert splits.sizes == sizes.get(name, (58_000, 2_000, 10_000))
    if name == "fashion-mnist":
        assert (
            array_hash(splits.test.pixels.numpy()) == "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a"
        )


def test_debians_folder_is_known() -> None:
    assert "/usr/share/datasets/fashion-mnist" in FASHION_MNIST.folders
