"""Data sets of published files: where they are looked for, what is done about wrong ones, and the real ones."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import amat, cifar_pickle, mat, png, put, tarred, zipped

from mpdvae import data
from mpdvae.data import Lines, Listener, cifar10, omniglot, published
from mpdvae.data.caltech101 import CALTECH101
from mpdvae.data.cifar10 import CIFAR10
from mpdvae.data.download import Unreachable
from mpdvae.data.files import read_whole
from mpdvae.data.frey_faces import FREY_FACES
from mpdvae.data.images import Images, Splits
from mpdvae.data.omniglot import OMNIGLOT
from mpdvae.data.omniglot_burda import BURDA, BURDA_LYING
from mpdvae.data.published import Arrays, ArraySet, Form, PublishedFile, array_hash
from mpdvae.data.static_mnist import STATIC_MNIST
from mpdvae.errors import InputError, RunError

RNG = np.random.default_rng(0)
ALL_SETS = (STATIC_MNIST, OMNIGLOT, BURDA, BURDA_LYING, CIFAR10, CALTECH101, FREY_FACES)


# sets of files --------------------------------------------------------------------------------------------------------


def read_rows(paths: Sequence[Path]) -> Arrays:
    content = b"".join(read_whole(path) for path in paths)
    return {"x": np.frombuffer(content, np.uint8).reshape(-1, 2, 2)}


def split_rows(arrays: Arrays, validation_size: int | None, split_seed: int) -> Splits:
    images = Images(torch.from_numpy(arrays["x"].copy())[:, None])
    return Splits.of("tiny", "Tiny", images, images, images)


ONE, TWO = b"abcd" * 3, b"efgh"
TINY = ArraySet(
    name="tiny",
    title="Tiny",
    folders=("tiny", "."),
    forms=(
        Form((PublishedFile("whole", "http://host/whole", f"sha256:{sha256(ONE + TWO).hexdigest()}"),), read_rows),
        Form(
            (PublishedFile("part/1", "http://host/1", "md5:1"), PublishedFile("part/2", "http://host/2", "md5:2")),
            read_rows,
        ),
        Form((PublishedFile("only here"),), read_rows),
    ),
    split=split_rows,
    hashes={"x": sha256(ONE + TWO).hexdigest()},
)


@pytest.mark.parametrize(
    "found", [{"tiny/whole": ONE + TWO}, {"part/1": ONE, "tiny/part/2": TWO}, {"only here": ONE + TWO}], ids=str
)
def test_each_form_will_do(tmp_path: Path, found: dict[str, bytes]) -> None:
    assert not TINY.is_here(tmp_path)
    for name, content in found.items():
        put((tmp_path / name).parent, {Path(name).name: content})
    assert TINY.is_here(tmp_path)
    assert TINY.load(tmp_path, None, 0).sizes == (4, 4, 4)
    said = TINY.check(tmp_path)
    assert said.startswith("Tiny: the images match the known checksums\n  ")
    assert TINY.hashes["x"] in said
    assert all(str(tmp_path / name) in said for name in found)
    lines = []
    TINY.fetch(tmp_path, Lines(lines.append))
    assert lines == ["Tiny: all files are present; `mpdvae data check tiny` verifies their checksums"]


def test_wrong_files_are_reported_and_kept(tmp_path: Path) -> None:
    put(tmp_path / "tiny", {"whole": ONE + ONE})
    words = (
        rf"tiny/whole: damaged or different images: x, 6 x 2 x 2, has the checksum {sha256(ONE + ONE).hexdigest()}, expected "
        rf"{TINY.hashes['x']}; delete it and run `mpdvae data fetch tiny`"
    )
    for use in (lambda: TINY.load(tmp_path, None, 0), lambda: TINY.check(tmp_path)):
        with pytest.raises(InputError, match=words):
            use()
    assert (tmp_path / "tiny" / "whole").read_bytes() == ONE + ONE


def test_files_may_be_known_by_their_digests(tmp_path: Path) -> None:
    form = replace(TINY.forms[0], by_digest=True)
    tiny = replace(TINY, forms=(form,), hashes={})
    put(tmp_path / "tiny", {"whole": ONE + TWO})
    assert tiny.load(tmp_path, None, 0).sizes == (4, 4, 4)
    assert form.files[0].digest in tiny.check(tmp_path)
    put(tmp_path / "tiny", {"whole": ONE})
    with pytest.raises(
        InputError, match=r"tiny/whole is damaged or a different file: its sha256 is .*, expected .*; delete it"
    ):
        tiny.load(tmp_path, None, 0)


def fake_download(monkeypatch: pytest.MonkeyPatch, served: dict[str, bytes]) -> list[str]:
    asked = []

    def download(url: str, target: Path, digest: str, listener: Listener) -> None:
        asked.append(url)
        if url not in served:
            raise Unreachable("no connection")
        put(target.parent, {target.name: served[url]})

    monkeypatch.setattr(published, "download", download)
    return asked


def test_the_next_form_is_fetched_where_one_cannot_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = fake_download(monkeypatch, {"http://host/1": ONE, "http://host/2": TWO})
    put(tmp_path / "tiny" / "part", {"1": ONE})
    lines = []
    TINY.fetch(tmp_path, Lines(lines.append))
    assert asked == ["http://host/whole", "http://host/2"]
    assert lines[-1] == f"Tiny: fetched and checked, in {tmp_path / 'tiny'}"
    assert TINY.load(tmp_path, None, 0).sizes == (4, 4, 4)


def test_what_was_fetched_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_download(monkeypatch, {"http://host/whole": TWO})
    with pytest.raises(InputError, match="damaged or different images"):
        TINY.load(tmp_path, None, 0)


def test_without_network_the_user_learns_what_goes_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_download(monkeypatch, {})
    with pytest.raises(
        RunError,
        match=r"Tiny could not be fetched \(http://host/whole: no connection; http://host/1: no connection\): put whole, or "
        r"the folder part, or only here into .*tiny",
    ):
        TINY.load(tmp_path, None, 0)
    with pytest.raises(
        InputError, match=r"Tiny is not in .*: run `mpdvae data fetch tiny`, or put whole, or .* into .*tiny"
    ):
        TINY.check(tmp_path)


@pytest.mark.parametrize("known", ALL_SETS, ids=lambda known: known.name)
def test_every_set_says_which_files_are_wanted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, known: ArraySet
) -> None:
    asked = fake_download(monkeypatch, {})
    assert not known.is_here(tmp_path)
    words = rf"could not be fetched \(http.*: no connection.*\): put .* into .*{known.folders[0]}"
    with pytest.raises(RunError, match=words):
        data.load(known.name, root=tmp_path)
    assert asked
    assert all(f.digest.partition(":")[2] for form in known.forms for f in form.files if f.address)


# each set, tiny -------------------------------------------------------------------------------------------------------


def accepting(known: ArraySet, **arrays: np.ndarray) -> ArraySet:
    """The set with the checksums of these arrays instead of the published ones."""
    return replace(known, hashes={name: known.hash_of(array) for name, array in arrays.items()})


@pytest.mark.parametrize("zipped", [False, True])
def test_tiny_static_mnist(tmp_path: Path, zipped: bool) -> None:
    images = {
        part: RNG.integers(0, 2, (n, 28, 28)).astype(np.uint8) for n, part in enumerate(("train", "valid", "test"), 2)
    }
    put(tmp_path / "static-mnist", {f"binarized_mnist_{part}.amat": amat(x) for part, x in images.items()}, zipped)
    splits = accepting(STATIC_MNIST, **images).load(tmp_path, None, 0)
    assert splits.sizes == (2, 3, 4)
    assert splits.split_seed is None
    assert np.array_equal(splits.test.pixels[:, 0].numpy(), 255 * images["test"])
    assert splits.test.labels is None
    protocol = data.Protocol(evaluation_draws=1)
    assert protocol.describe(splits) == "static MNIST 28x28, static binarisation by Larochelle, split 2/3/4"
    assert data.evaluation_images(splits.test, protocol, "test")[0].equal(
        torch.from_numpy(images["test"])[:, None].float()
    )
    assert accepting(STATIC_MNIST, **images).load(tmp_path, 3, 0).sizes == (2, 3, 4)
    with pytest.raises(InputError, match=r"static MNIST is split by its files, with 3 validation images, but .* is 2"):
        accepting(STATIC_MNIST, **images).load(tmp_path, 2, 0)
    with pytest.raises(
        InputError, match=r"binarized_mnist_train.amat.* \.\.\.: damaged or different images: train, 2 x 28 x 28"
    ):
        STATIC_MNIST.load(tmp_path, None, 0)


def test_tiny_omniglot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parts = {"images_background": 5, "images_evaluation": 3}
    reduced = {}
    for name, n in parts.items():
        ink = RNG.integers(0, 2, (n, 105, 105)).astype(np.uint8)
        reduced[name] = omniglot.area_mean(ink)
        members = {f"{name}/Greek/character{i:02d}/{i:04d}_01.png": png(drawing) for i, drawing in enumerate(ink)}
        zipped(tmp_path / "omniglot" / f"{name}.zip", members)
    hashes = {name: array_hash(array) for name, array in reduced.items()}
    monkeypatch.setattr(omniglot, "_PARTS", parts)
    monkeypatch.setattr(omniglot, "_HASHES", hashes)
    tiny = accepting(OMNIGLOT, **reduced)
    first = tiny.load(tmp_path, 2, 7)
    assert first.sizes == (3, 2, 3)
    assert np.array_equal(first.test.pixels[:, 0].numpy(), reduced["images_evaluation"])
    kept = tmp_path / "omniglot" / "omniglot-28x28.npy"
    whole = kept.read_bytes()
    (tmp_path / "omniglot" / "images_background.zip").write_bytes(b"not looked at again")
    assert tiny.load(tmp_path, 2, 7).sha256 == first.sha256
    with pytest.raises(InputError, match="cannot be read as a zip of drawings"):
        tiny.check(tmp_path)
    for damaged in (whole[:-1] + b"\0", whole[:50], b"", whole.replace(b"|u1", b"|i1")):
        kept.write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read as a zip of drawings"):
            tiny.load(tmp_path, 2, 7)


def test_tiny_burda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    grey = RNG.integers(0, 256, (6, 28, 28)).astype(np.uint8)
    columns, one_hot = (grey / 255).transpose(0, 2, 1).reshape(6, 784).T, np.eye(6)
    (tmp_path / "omniglot-burda").mkdir()
    mat(
        tmp_path / "omniglot-burda" / "chardata.mat", data=columns, target=one_hot, testdata=columns, testtarget=one_hot
    )
    with pytest.raises(
        InputError, match=r"chardata.mat is damaged or a different file: its git-blob is .*, expected 016a3536ff"
    ):
        BURDA.load(tmp_path, 2, 0)
    for known, expected in ((BURDA, grey), (BURDA_LYING, grey.transpose(0, 2, 1))):
        splits = replace(known, forms=(replace(known.forms[0], by_digest=False),)).load(tmp_path, 2, 524287)
        assert splits.sizes == (4, 2, 6)
        assert splits.name == known.name
        train, validation = data.split_train_validation(6, 2, 524287)
        assert np.array_equal(splits.train.pixels[:, 0].numpy(), expected[train])
        assert np.array_equal(splits.validation.pixels[:, 0].numpy(), expected[validation])
        assert splits.train.labels is not None
        assert splits.train.labels.equal(train)


def cifar_files(rows: np.ndarray, labels: list[int]) -> dict[str, bytes]:
    """The six files of the Python version, each with the same images."""
    return dict.fromkeys(cifar10._PYTHON_MEMBERS, cifar_pickle(rows, labels))


@pytest.mark.parametrize("form", ["archive", "binary", "folder"])
def test_tiny_cifar(tmp_path: Path, form: str) -> None:
    rows, labels = RNG.integers(0, 256, (10, 3072)).astype(np.uint8), [*range(9, -1, -1)]
    if form == "archive":
        tarred(tmp_path / "cifar-10-python.tar.gz", cifar_files(rows, labels))
    elif form == "binary":
        records = np.column_stack([np.array(labels, np.uint8), rows]).tobytes()
        tarred(tmp_path / "cifar-10-binary.tar.gz", dict.fromkeys(cifar10._BINARY_MEMBERS, records))
    else:
        files = {Path(name).name: content for name, content in cifar_files(rows, labels).items()}
        put(tmp_path / "cifar-10-batches-py", files)
    images = rows.reshape(10, 3, 32, 32)
    splits = accepting(CIFAR10, train=np.concatenate([images] * 5), test=images).load(tmp_path, 20, 0)
    assert splits.sizes == (30, 20, 10)
    assert splits.image_shape == (3, 32, 32)
    assert np.array_equal(splits.test.pixels.numpy(), images)
    assert splits.test.labels is not None
    assert splits.test.labels.tolist() == labels
    with pytest.raises(InputError, match="different images: train, 50 x 3 x 32 x 32"):
        CIFAR10.load(tmp_path, 20, 0)


def test_cifar_with_other_labels_is_refused(tmp_path: Path) -> None:
    rows = RNG.integers(0, 256, (10, 3072)).astype(np.uint8)
    tarred(tmp_path / "cifar-10-python.tar.gz", cifar_files(rows, [0, *range(9)]))
    with pytest.raises(InputError, match="expected the same number of images of each class"):
        CIFAR10.load(tmp_path, 20, 0)


def test_faces_are_split_by_seed(tmp_path: Path) -> None:
    faces = RNG.integers(0, 256, (405, 28, 20)).astype(np.uint8)
    np.savez(tmp_path / "freyfaces.npz", x=faces)
    tiny = accepting(FREY_FACES, x=faces)
    splits = tiny.load(tmp_path, None, 3)
    assert splits.sizes == (5, 200, 200)
    order = np.arange(405)
    np.random.RandomState(3).shuffle(order)
    parts = torch.cat([splits.train.pixels, splits.validation.pixels, splits.test.pixels])
    assert np.array_equal(parts[:, 0].numpy(), faces[order])
    assert tiny.load(tmp_path, 100, 3).test.pixels.equal(splits.test.pixels)
    with pytest.raises(InputError, match="405 images cannot be split"):
        tiny.load(tmp_path, 205, 3)
