"""Images that stay in their files: the same batches, parts and hash as in memory, in less memory."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import picture
from PIL import Image

import mpdvae
from mpdvae import data
from mpdvae.data import Splits, batch_indices, evaluation_images, own, training_batch
from mpdvae.data.given_images import given_images
from mpdvae.data.own import from_dataset
from mpdvae.data.preparation import AS_STORED, Preparation
from mpdvae.data.protocols import Protocol
from mpdvae.data.stored_images import StoredImages
from mpdvae.errors import InputError

GREY = np.random.default_rng(0).integers(0, 256, (60, 4, 5), dtype=np.uint8)
LEVELS = Protocol("levels", evaluation_draws=1, flip=True, shift=1)


class TorchLike(torch.utils.data.Dataset):
    """A map-style data set of torch, of pairs."""

    def __len__(self) -> int:
        return len(GREY)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(GREY[index] / 255)[None], index % 3


class ClassLabel:
    pass


class HubLike:
    """Like a `datasets.Dataset` of Hugging Face: columns, their features, pictures of Pillow."""

    def __init__(self) -> None:
        self.features = {"number": None, "drawing": type("Image", (), {})(), "kind": ClassLabel()}

    def __len__(self) -> int:
        return len(GREY)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"number": index, "drawing": Image.fromarray(GREY[index]), "kind": index % 3}


def folder(path: Path) -> Path:
    for number, image in enumerate(GREY):
        file = path / "folder" / "abc"[number % 3] / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return path / "folder"


def stack(path: Path) -> Path:
    images = [Image.fromarray(image) for image in GREY]
    (path / "stack").mkdir()
    images[0].save(path / "stack" / "all.tif", save_all=True, append_images=images[1:])
    return path / "stack"


def array(path: Path) -> Path:
    np.save(path / "all.npy", GREY / 255)
    return path / "all.npy"


def torch_dataset(path: Path) -> Any:
    return TorchLike()


def hub_dataset(path: Path) -> Any:
    return HubLike()


FORMS = [folder, stack, array, torch_dataset, hub_dataset]


def load(given: Any, **options: Any) -> Splits:
    return data.load("own", path=given, **options) if isinstance(given, Path) else from_dataset(given, **options)


@pytest.fixture(params=FORMS, ids=lambda form: form.__name__)
def pair(request, tmp_path, monkeypatch) -> tuple[Splits, Splits]:
    """The same images in memory and stored, prepared."""
    given, preparation = request.param(tmp_path), Preparation((6, 6), "pad")
    held = load(given, preparation=preparation)
    monkeypatch.setattr(own, "IN_MEMORY", 100)
    monkeypatch.setattr("mpdvae.data.stored_images.PIECE", 200)
    return held, load(given, preparation=preparation)


def test_stored_images_have_the_hash_sizes_and_labels_of_those_in_memory(pair):
    held, stored = pair
    assert isinstance(stored.train, StoredImages)
    assert not isinstance(held.train, StoredImages)
    assert (stored.sha256, stored.sizes, stored.image_shape) == (held.sha256, held.sizes, held.image_shape)
    for split in ("train", "validation", "test"):
        ours, theirs = stored.part(split), held.part(split)
        assert ours.pixels.equal(theirs.pixels)
        assert (ours.labels is None) == (theirs.labels is None)
        assert ours.labels is None or ours.labels.equal(theirs.labels)


@pytest.mark.parametrize("ahead", [True, False])
def test_batches_are_the_same_read_ahead_or_not(pair, ahead):
    held, stored = pair
    for step in range(9):
        indices = batch_indices(len(held.train), 10, 0, step)
        batch = training_batch(stored.train, indices, LEVELS, 0, step)
        if ahead:
            stored.train.expect(batch_indices(len(held.train), 10, 0, step + 1))
        assert batch.equal(training_batch(held.train, indices, LEVELS, 0, step))
        taken = stored.train.take(indices)
        assert taken.labels is None or taken.labels.equal(held.train.take(indices).labels)


def test_fixed_draws_are_the_same(pair):
    held, stored = pair
    chosen = torch.tensor([5, 2, 20])
    for protocol in (Protocol(), LEVELS):
        rows = chosen % (len(held.test) * protocol.evaluation_draws)
        for some in (None, rows):
            ours = evaluation_images(stored.test, protocol, "test", chosen=some)[0]
            assert ours.equal(evaluation_images(held.test, protocol, "test", chosen=some)[0])


def test_what_is_stored_is_moved_batch_by_batch(pair):
    _, stored = pair
    moved = stored.to("meta")
    assert moved.train.device.type == moved.train.take(torch.arange(3)).pixels.device.type == "meta"
    assert moved.train.part(torch.arange(3)).device.type == "meta"


def test_what_was_changed_is_counted_once_however_often_it_is_read(tmp_path, monkeypatch):
    for number in range(12):
        picture(tmp_path / f"{number:02}.png", mode="LA", value=number)
    monkeypatch.setattr(own, "IN_MEMORY", 10)
    stored = data.load("own", path=tmp_path)
    assert isinstance(stored.train, StoredImages)
    assert stored.reading == "read 12 pictures of 4x3; put 12 with transparency on grey level 255"


def test_a_damaged_picture_is_told_by_the_thread_that_reads_ahead(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "IN_MEMORY", 100)
    path = folder(tmp_path)
    stored = data.load("own", path=path)
    for file in path.rglob("*.png"):
        file.write_bytes(b"")
    stored.train.expect(torch.arange(3))
    with pytest.raises(InputError, match="cannot be read as a picture"):
        stored.train.take(torch.arange(3))


def test_an_array_that_became_shorter_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "IN_MEMORY", 100)
    stored = data.load("own", path=array(tmp_path))
    with (tmp_path / "all.npy").open("r+b") as file:
        file.truncate(300)
    with pytest.raises(InputError, match=r"all\.npy has become shorter while it was read"):
        stored.train.take(torch.arange(30))


# data sets of other libraries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [TorchLike, HubLike])
def test_a_data_set_of_another_library_is_given_like_its_images(make):
    given = given_images(make(), (1, 4, 5))
    assert np.array_equal(given.pixels[:, 0].numpy(), GREY)
    assert given.labels is not None
    assert given.labels.tolist() == [number % 3 for number in range(60)]


class Items(list):
    """A data set of any items; a subclass of list would be taken for a list of images where one is expected."""


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "dataset: expected at least one image, got none"),
        (["a"], r"dataset\[0\]: expected an image, or \(image, label\), or a dictionary with .* got a str"),
        ([{"text": "a"}], r"dataset\[0\]: expected an image, .* image, img, .* got a NoneType"),
        ([GREY[0], GREY[1][:2]], r"dataset\[1\]: expected the shape of dataset\[0\], \(1, 4, 5\)"),
        ([GREY[0] * 2.0], r"dataset\[0\] has values from .* floats must lie in 0\.\.1"),
        ([(GREY[0], 0), (GREY[1], [1, 2])], "the labels of dataset differ in form"),
        ([Image.new("F", (5, 4))], r"dataset\[0\] has the colour mode F"),
    ],
    ids=["nothing", "text", "columns", "sizes", "values", "labels", "mode"],
)
def test_a_data_set_without_images_is_refused(items, words):
    with pytest.raises(InputError, match=words):
        from_dataset(Items(items))


def test_labels_of_a_data_set_may_be_names():
    splits = from_dataset(Items([{"img": image, "label": "ab"[n % 2]} for n, image in enumerate(GREY)]))
    assert splits.train.labels is not None
    assert set(splits.train.labels.tolist()) == {0, 1}


# memory ---------------------------------------------------------------------------------------------------------------

MEASURED = """
import sys
from pathlib import Path
import torch
from limits import memory_bytes, start_counting_memory
from mpdvae import data
from mpdvae.data import batch_indices, own, training_batch
from mpdvae.data.protocols import Protocol

own.IN_MEMORY = int(sys.argv[2])
torch.zeros(64, 3, 64, 64).float() / 2
start_counting_memory()
before = memory_bytes(peak=False)
images = data.load("own", path=Path(sys.argv[1]), validation_size=100).train
for step in range(20):
    x = training_batch(images, batch_indices(len(images), 64, 0, step), Protocol("levels", 1), 0, step)
    images.expect(batch_indices(len(images), 64, 0, step + 1))
print(x.double().sum().item(), (memory_bytes(peak=True) - before) / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("form", ["array", "folder"])
def test_stored_images_take_little_memory(form, tmp_path):
    """6,000 pictures of 48 KiB are 281 MiB in memory; stored, a batch and a piece of 16 MiB are."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 128, 128, 3), dtype=np.uint8)
    if form == "array":
        np.save(tmp_path / "own.npy", np.concatenate([pixels] * 30))
    else:
        for number in range(6_000):
            Image.fromarray(pixels[number % 200]).save(tmp_path / f"{number:04}.png", compress_level=0)
    path = tmp_path / "own.npy" if form == "array" else tmp_path

    def measured(limit: int) -> tuple[float, float]:
        found = subprocess.run(
            [sys.executable, "-c", MEASURED, path, str(limit)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        total, mebibytes = map(float, found.stdout.split())
        return total, mebibytes

    (total, held), (same, stored) = measured(1 << 40), measured(1 << 20)
    assert same == total
    assert held > 281
    assert stored < 200


class Blank:
    """A source of black pictures."""

    preparation = AS_STORED

    def __init__(self, count: int, *image_shape: int) -> None:
        self.count, self.image_shape = count, image_shape

    def __len__(self) -> int:
        return self.count

    def read(self, rows: np.ndarray) -> np.ndarray:
        return np.zeros((len(rows), *self.image_shape), np.uint8)


@pytest.mark.parametrize(
    ("count", "shape", "sizes"),
    [
        (1_000, (1, 28, 28), (810, 90, 100)),
        (70_000, (1, 28, 28), (56_700, 6_300, 7_000)),
        (300_000, (1, 28, 28), (257_202, 21_399, 21_399)),
        (20_000, (3, 64, 64), (17_270, 1_365, 1_365)),
        (3_000, (3, 256, 256), (2_600, 200, 200)),
    ],
)
def test_of_many_images_no_more_are_set_aside_than_memory_holds(count, shape, sizes):
    images = StoredImages(Blank(count, *shape))
    assert own.split_own({"all": images}, "here", "blank", None, 0).sizes == sizes
    assert own.split_own({"all": images}, "here", "blank", 50, 0).sizes[1] == 50


RUN = """
import sys
from limits import memory_bytes, start_counting_memory
from mpdvae.commands.cli import main

start_counting_memory()
before = memory_bytes(peak=False)
code = main(["train", "vae-digits-smoke", "--data.dataset", "own", "--data.path", sys.argv[1], "--out", sys.argv[2],
    *"--data.binarisation levels --data.evaluation-draws 1 --training.steps 20 --training.evaluate-every 10".split(),
    *"--training.batch-size 64 --evaluation.density-images 5 --evaluation.density-samples 4".split(),
    *"--evaluation.explored-images 20 --threads 1".split()])
print("measured", code, (memory_bytes(peak=True) - before) / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_run_on_many_pictures_takes_little_more_memory_than_one_on_few(tmp_path):
    """From training to pictures: 40,000 in colour of 64x64 are 1.8 GiB as numbers."""
    noise = np.random.default_rng(0).integers(0, 256, (1_000, 64, 64, 3), dtype=np.uint8)
    taken = []
    for count in (2_000, 40_000):
        path = tmp_path / f"{count}.npy"
        stored = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, 64, 64, 3))
        for first in range(0, count, len(noise)):
            stored[first : first + len(noise)] = noise
        stored.flush()
        done = subprocess.run(
            [sys.executable, "-c", RUN, path, tmp_path / f"run-{count}"],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        code, mebibytes = done.stdout.splitlines()[-1].split()[1:]
        assert code == "0"
        taken.append(float(mebibytes))
    assert taken[1] < taken[0] + 256
    assert taken[1] < 1024


class Stream(torch.utils.data.IterableDataset):
    def __len__(self):
        return len(GREY)

    def __iter__(self):
        yield from GREY


UNNUMBERED = {
    "stream": (Stream, "got a Stream; give a map-style data set or, if it ends and fits into memory, list({})"),
    "generator": (lambda: (image for image in GREY), "got a generator; give a map-style data set"),
    "loader": (lambda: torch.utils.data.DataLoader(Items(GREY)), "got a DataLoader; give what it loads, {}.dataset"),
    "parts": (lambda: {"train": Items(GREY)}, "got a dict; give one of its parts, such as {}['train']"),
    "no parts": (dict, "got a dict; give one of its parts, such as {}['train']"),
}
TAKEN = {
    "dataset": from_dataset,
    "images": lambda given: given_images(given, (1, *GREY.shape[1:])),
    "data": lambda given: mpdvae.fit(lambda: None, given, out="never"),
}


@pytest.mark.parametrize("argument", TAKEN)
@pytest.mark.parametrize(("made", "words"), UNNUMBERED.values(), ids=UNNUMBERED)
def test_what_gives_no_images_by_number_is_refused_in_a_sentence(made, words, argument):
    with pytest.raises(InputError, match=f"^{argument}: expected images, or a data set") as error:
        TAKEN[argument](made())
    assert words.format(argument) in str(error.value)


def test_a_number_is_no_data_set():
    with pytest.raises(InputError, match="dataset: expected a data set that has a length and gives items by number"):
        from_dataset(3)


def test_a_stream_that_ends_is_taken_as_a_list():
    assert torch.equal(from_dataset(list(Stream())).train.pixels, from_dataset(Items(GREY)).train.pixels)


def test_tensors_of_half_precision_are_images_and_those_without_values_are_refused():
    x = torch.from_numpy(GREY / 255)
    half = from_dataset([image.to(torch.bfloat16) for image in x]).train.pixels.int()
    assert (half - from_dataset(list(x)).train.pixels.int()).abs().max() <= 1
    with pytest.raises(InputError, match=r"dataset\[0\]: expected values, got a tensor on the device meta"):
        from_dataset([image.to("meta") for image in x])
    with pytest.raises(InputError, match="the labels of dataset: expected values, got a tensor on the device meta"):
        from_dataset([(image, torch.zeros((), device="meta")) for image in x])


def test_covariates_of_different_lengths_or_without_values_are_refused():
    ragged = [[1.0], *[[1.0, 2.0]] * (len(GREY) - 1)]
    with pytest.raises(InputError, match="covariates: expected rows of as many numbers each, got lists of different"):
        from_dataset(Items(GREY), covariates=ragged)
    with pytest.raises(InputError, match="covariates: expected values, got a tensor on the device meta"):
        from_dataset(Items(GREY), covariates=torch.zeros(len(GREY), 2, device="meta"))
    half = from_dataset(Items(GREY), covariates=torch.ones(len(GREY), dtype=torch.bfloat16))
    assert half.train.covariates.unique().tolist() == [1]
