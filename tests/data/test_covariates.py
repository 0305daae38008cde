"""Covariates of own images: archives, tables beside pictures, data sets; and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from mpdvae.data.images import hash_images
from mpdvae.data.own import from_dataset, load_own
from mpdvae.errors import InputError

SEED = 524287


def some(count=30):
    x = np.random.default_rng(0).integers(0, 256, (count, 4, 4), dtype=np.uint8)
    x[:, 0, 0] = np.arange(count)  # so that each image is known by its first pixel
    return x, np.stack([np.arange(count), np.arange(count) / 7 + 1_000], 1)


def folder_of(path, count=30, header="file,age,dose", rows=None):
    """Writes pictures in two classes with a table of covariates, the last picture first."""
    x, covariates = some(count)
    names = [f"{'ab'[i % 2]}/{i}.png" for i in range(count)]
    for name, levels in zip(names, x, strict=True):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(path / name)
    lines = [f"{name},{age},{dose}" for name, (age, dose) in zip(names, covariates, strict=True)]
    (path / "covariates.csv").write_text("\n".join([header, *(lines[::-1] if rows is None else rows)]) + "\n")
    return path


def kept(images):
    """Whether each image still has its own covariates."""
    number = images.pixels[:, 0, 0, 0].double()
    expected = torch.stack([number, number / 7 + 1_000], 1).float()
    return images.covariates is not None and torch.equal(images.covariates, expected)


SOURCES = {
    "archive": lambda path, x, c: np.savez(path / "own.npz", x=x, covariates=c),
    "archive with a test part": lambda path, x, c: np.savez(
        path / "own.npz", x_train=x[:20], covariates_train=c[:20], x_test=x[20:], covariates_test=c[20:]
    ),
}


@pytest.mark.parametrize("write", SOURCES.values(), ids=SOURCES)
def test_every_image_of_an_archive_keeps_its_covariates(tmp_path, write):
    write(tmp_path, *some())
    splits = load_own(tmp_path / "own.npz", None, SEED)
    assert all(kept(part) for part in (splits.train, splits.validation, splits.test))
    assert kept(splits.train.take(torch.tensor([5, 0, 3])).to("cpu"))


def test_every_picture_has_the_covariates_of_its_row(tmp_path):
    splits = load_own(folder_of(tmp_path), None, SEED)
    assert all(kept(part) for part in (splits.train, splits.validation, splits.test))
    assert splits.train.labels is not None
    assert "left out" not in splits.reading


def test_pictures_that_stay_in_their_files_keep_their_covariates(tmp_path, monkeypatch):
    monkeypatch.setattr("mpdvae.data.own.IN_MEMORY", 0)
    splits = load_own(folder_of(tmp_path), None, SEED)
    assert not splits.train.in_memory
    assert kept(splits.train)
    assert kept(splits.train.take(torch.tensor([5, 0, 3])))
    assert kept(splits.train.part(torch.tensor([5, 0, 3])).to("cpu"))


def test_a_data_set_of_another_library_takes_covariates():
    x, covariates = some()
    splits = from_dataset([(image, 0) for image in x], covariates=covariates.tolist())
    assert all(kept(part) for part in (splits.train, splits.validation, splits.test))
    with pytest.raises(InputError, match=r"covariates: expected numbers \[30\] or \[30 covariate\]"):
        from_dataset([(image, 0) for image in x], covariates=covariates[:29])


def test_a_single_covariate_may_have_no_axis(tmp_path):
    x, covariates = some()
    np.savez(tmp_path / "own.npz", x=x, covariates=covariates[:, 0].astype(int))
    train = load_own(tmp_path / "own.npz", None, SEED).train
    assert train.covariates is not None
    assert train.covariates.shape == (len(train), 1)


def test_the_hash_knows_the_covariates(tmp_path):
    x, covariates = some()
    hashes = set()
    for name, c in {"none": None, "these": covariates, "others": covariates + 1}.items():
        np.savez(tmp_path / f"{name}.npz", x=x, **({} if c is None else {"covariates": c}))
        splits = load_own(tmp_path / f"{name}.npz", None, SEED)
        hashes.add(hash_images(splits.train))
    assert len(hashes) == 3


@pytest.mark.parametrize(
    ("covariates", "message"),
    [
        (np.zeros(29), r"covariates in .*: expected numbers \[30\] or \[30 covariate\], one row for each image"),
        (np.zeros((30, 2, 2)), r"got float64 of shape \(30, 2, 2\)"),
        (np.zeros((30, 0)), r"got float64 of shape \(30, 0\)"),
        (np.array(["young"] * 30), r"got <U5 of shape"),
        (np.zeros(30, bool), r"got bool of shape"),
        (np.where(np.arange(30) == 7, np.nan, 0.0), r"expected finite numbers, got \[nan\] for image 7"),
        (np.where(np.arange(30) == 7, 1e300, 0.0), r"expected finite numbers, got \[1e\+300\] for image 7"),
    ],
)
def test_what_are_no_covariates_of_an_archive_is_refused(tmp_path, covariates, message):
    np.savez(tmp_path / "own.npz", x=some()[0], covariates=covariates)
    with pytest.raises(InputError, match=message):
        load_own(tmp_path / "own.npz", None, SEED)


def test_both_parts_of_an_archive_have_covariates_or_none(tmp_path):
    x, covariates = some()
    np.savez(tmp_path / "own.npz", x_train=x[:20], covariates_train=covariates[:20], x_test=x[20:])
    with pytest.raises(InputError, match="holds covariates covariates_train, but covariates_test is missing"):
        load_own(tmp_path / "own.npz", None, SEED)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"rows": ["a/0.png,1,2"]}, r"expected a row for each picture, found none for a/10\.png"),
        ({"rows": ["b/1.png,1,2"], "count": 2}, r"expected a row for each picture, found none for a/0\.png"),
        *(
            (
                {"count": 2, "rows": ["a/0.png,1,2", "", f"b/1.png{cells}"]},
                rf"expected 2 numbers in each row, as the header names, got {given} in line 4 \(b/1\.png\)",
            )
            for cells, given in {
                "": "nothing",
                ",1": "'1'",
                ",1,2,3": "'1,2,3'",
                ",1,old": "'1,old'",
                ",1,": "'1,'",
            }.items()
        ),
        (
            {"count": 2, "rows": ["a/0.png,1,2,3", "b/1.png,1,2,3"]},
            r"expected 2 numbers in each row, as the header names, got '1,2,3' in line 2 \(a/0\.png\)",
        ),
        (
            {"count": 2, "rows": ["a/0.png,1", "b/1.png,1"]},
            "expected 2 numbers in each row, as the header names, got '1' in",
        ),
        *(
            (
                {"count": 2, "rows": ["a/0.png,1,2", f"b/1.png,1,{wrong}"]},
                rf"expected finite numbers, got '1,{wrong}' in line 3 \(b/1\.png\); leave the picture out",
            )
            for wrong in ("nan", "inf", "1e300")
        ),
        *(
            (
                {"count": 2, "rows": ["a/0.png,1,2", "b/1.png,1,2", f"{again},3,4"]},
                r"expected one row for each picture, but line 4 \(.*a/+0\.png\) is of the same one as line 2",
            )
            for again in ("a/0.png", "./a/0.png", "a//0.png")
        ),
        ({"count": 2, "header": "file"}, "expected a header with the column of files and the names of covariates"),
    ],
)
def test_a_table_that_does_not_fit_the_pictures_is_refused(tmp_path, table, message):
    with pytest.raises(InputError, match=message):
        load_own(folder_of(tmp_path, **table), None, SEED)


def test_rows_of_no_picture_are_counted(tmp_path):
    table = folder_of(tmp_path) / "covariates.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, "a/99.png,1,2", *rows, "b/98.png,1,2"]) + "\n")
    with pytest.warns(
        UserWarning, match=r"covariates\.csv: left out 2 rows of no picture in the folder, the first in line 2"
    ):
        splits = load_own(tmp_path, None, SEED)
    assert kept(splits.train)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'file,age\n"a/0.png', b"file,age\n" + b"x" * 200_000])
def test_a_damaged_table_is_refused(tmp_path, content):
    folder_of(tmp_path, 2)
    (tmp_path / "covariates.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"covariates\.csv"):
        load_own(tmp_path, None, SEED)
