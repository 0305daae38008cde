"""Codes of images as tables: what the columns hold, in every format, from every kind of source; what is refused."""

import csv
import io
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import call
from PIL import Image
from small_runs import digits, tiny
from torch.distributions import kl_divergence

import mpdvae
from mpdvae.data import evaluation_images
from mpdvae.data.protocols import images_by_content
from mpdvae.errors import InputError
from mpdvae.evaluation.code_files import write_table
from mpdvae.evaluation.image_codes import encode_images
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.measures import density
from mpdvae.sklearn import MPDVAE

LEVELS = {"data__binarisation": "levels", "data__evaluation_draws": 1}


@pytest.fixture
def vae(finished: Path) -> mpdvae.VAE:
    return mpdvae.load(finished)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five test images of the digits in folders by class, whose order differs from that of the images."""
    for i in range(5):
        folder = tmp_path / "pictures" / f"class-{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits().test.pixels[i, 0].numpy()).save(folder / f"{i}.png")
    return tmp_path / "pictures"


NAMES = ["class-0/0.png", "class-0/2.png", "class-0/4.png", "class-1/1.png", "class-1/3.png"]
IMAGES = digits().test.pixels[[0, 2, 4, 1, 3]]


def test_codes_are_the_posterior_with_its_kl_and_its_likelihood(vae, pictures):
    codes = encode_images(vae, pictures, 7)
    x, keys = images_by_content(IMAGES, vae.origin.experiment.data.protocol())
    with torch.no_grad():
        q, prior = vae.encoder(x), vae.prior()
        of_grey = vae.encoder(IMAGES / 255)
    measured = density.estimate(vae, x, 7, indices=keys, proposal="encoder")
    np.testing.assert_allclose(codes.mean, of_grey.mean.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(codes.scale, of_grey.stddev.numpy(), rtol=1e-5)
    np.testing.assert_allclose(codes.log_prob_nats, measured.log_prob.numpy(), rtol=1e-6)
    np.testing.assert_allclose(codes.kl_nats, measured.kl.numpy(), rtol=1e-6)
    with suppress(NotImplementedError):  # a flow has no closed form
        np.testing.assert_allclose(codes.kl_nats, kl_divergence(q, prior).numpy(), rtol=1e-5)
    assert (codes.names, codes.labels.tolist(), codes.samples) == (NAMES, [0, 0, 0, 1, 1], 7)


def test_codes_are_those_of_the_estimator(vae, finished, pictures):
    estimator = MPDVAE.from_pretrained(finished)
    np.testing.assert_allclose(encode_images(vae, pictures, 1).mean, estimator.transform(IMAGES), rtol=1e-5, atol=1e-6)


def test_an_image_has_the_same_row_whatever_is_beside_it(vae, pictures):
    together, alone = encode_images(vae, pictures, 3), encode_images(vae, pictures / "class-1" / "3.png", 3)
    assert alone.names == ["3.png"]
    np.testing.assert_allclose(alone.mean[0], together.mean[4], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(alone.log_prob_nats[0], together.log_prob_nats[4], rtol=1e-5)


def test_more_samples_give_a_tighter_bound_and_one_the_elbo(vae, pictures):
    one, many = encode_images(vae, pictures, 1), encode_images(vae, pictures, 500)
    assert many.log_prob_nats.mean() > one.log_prob_nats.mean()
    assert "elbo_nats" in one.columns()
    assert "log_prob_nats" not in one.columns()
    assert "log_prob_nats" in many.columns()
    assert set(many.columns()["samples"]) == {500}


@pytest.mark.parametrize("name", ["vae-digits-smoke", "mae-digits-smoke"])
def test_models_of_levels_take_pictures_too(name, pictures):
    parts = {"decoder": {"kind": "mlp"}, "encoder": {"kind": "mlp"}, "prior": {"kind": "standard-normal"}}
    experiment = Experiment.model_validate(with_changes(tiny(name), **LEVELS, **parts).model_dump())
    vae = experiment.build((1, 8, 8)).eval()
    x = vae.preprocess(pictures)
    torch.testing.assert_close(x, IMAGES / 127.5 - 1)
    vae.check_images(x)
    assert np.isfinite(encode_images(vae, pictures, 2).log_prob_nats).all()


def test_what_is_prepared_is_what_the_model_takes(vae, pictures):
    prepared = vae.preprocess(pictures)
    vae.check_images(prepared)
    assert torch.equal(prepared, vae.preprocess(IMAGES))
    assert torch.equal(prepared, vae.preprocess([Image.open(pictures / name) for name in NAMES]))
    assert torch.equal(vae.preprocess(IMAGES > 127), (IMAGES > 127).float())
    with pytest.raises(InputError, match=r"images: expected images of shape \(1, 8, 8\)"):
        vae.preprocess(np.zeros((2, 28, 28)))
    by_hand = mpdvae.VAE(vae.encoder, vae.decoder, vae.prior)
    with pytest.raises(InputError, match="vae: its configuration is unknown"):
        by_hand.preprocess(pictures)


def test_a_part_that_there_is_not_is_refused(vae):
    with pytest.raises(InputError, match="expected one of train, validation, test, got 'tset'"):
        encode_images(vae, "digits", 1, split="tset")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_data_set_is_encoded_by_its_name(split, vae):
    codes = encode_images(vae, "digits", 1, split=split)
    part = getattr(digits(), split)
    x, labels = evaluation_images(part, vae.origin.experiment.data.protocol(), split, draws=1)
    np.testing.assert_allclose(codes.mean, vae.encode(part.pixels / 255).numpy(), rtol=1e-4, atol=1e-5)
    of_draws = density.estimate(vae, x, 1, proposal="encoder")
    np.testing.assert_allclose(codes.log_prob_nats, of_draws.log_prob.numpy(), rtol=1e-6)
    assert codes.labels.tolist() == labels.tolist()
    assert codes.names is None


def read_table(path: Path) -> dict[str, list]:
    if path.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        return {name: [row[name] for row in rows] for name in rows[0]}
    if path.suffix == ".parquet":
        return pytest.importorskip("pyarrow.parquet").read_table(path).to_pydict()
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("ending", [".csv", ".npz", ".parquet"])
def test_the_command_writes_all_of_it_in_every_format(ending, capsys, finished, pictures, tmp_path):
    if ending == ".parquet":
        pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    out = tmp_path / "new" / f"codes{ending}"
    code, said, _ = call(capsys, "encode", finished, pictures, "--out", out, "--samples", "5")
    assert (code, said.splitlines()[-1]) == (0, str(out))
    expected, table = encode_images(mpdvae.load(finished), pictures, 5), read_table(out)
    assert list(table["name"]) == NAMES
    assert [int(label) for label in table["label"]] == [0, 0, 0, 1, 1]
    for name in ("kl_nats", "log_prob_nats"):
        assert np.array_equal([float(value) for value in table[name]], getattr(expected, name))
    for name in ("mean", "scale"):
        wide = getattr(expected, name)
        if ending == ".npz":
            assert np.array_equal(table[name], wide)
        else:
            columns = [np.array(table[f"{name}_{i}"], np.float32) for i in range(wide.shape[1])]
            assert np.array_equal(np.stack(columns, 1), wide)
            assert f"{name}_{wide.shape[1]}" not in table


def test_the_command_takes_a_model_of_the_package_and_an_array(capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 28, 28), bool))
    out = tmp_path / "codes.npz"
    assert call(capsys, "encode", "mae-mnist", tmp_path / "x.npy", "--out", out, "--samples", "1")[0] == 0
    table = read_table(out)
    assert table["mean"].shape == (2, 32)
    assert "elbo_nats" in table
    assert "name" not in table


def test_a_file_of_before_stays_if_the_images_cannot_be_used(capsys, finished, tmp_path):
    out = tmp_path / "codes.csv"
    out.write_text("mine")
    np.save(tmp_path / "x.npy", np.zeros((2, 9, 9)))
    code, _, err = call(capsys, "encode", finished, tmp_path / "x.npy", "--out", out)
    assert code == 2
    assert "x.npy: expected images of shape (1, 8, 8)" in err
    assert out.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes.csv", "x.npy"]


def test_without_pyarrow_a_sentence_says_how_to_get_it(monkeypatch, capsys, finished, pictures, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    code, _, err = call(capsys, "encode", finished, pictures, "--out", tmp_path / "codes.parquet")
    assert code == 2
    assert "needs pyarrow: pip install 'mpdvae[parquet]'" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("ending", [".csv", ".npz", ".parquet"])
def test_names_that_are_not_utf8_are_written_out_in_every_format_alike(ending, tmp_path):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    names = np.array(["plain.png", os.fsdecode(b"caf\xe9.png"), "caf\u00e9.png"])
    path = tmp_path / f"codes{ending}"
    write_table(path, {"name": names, "mean_0": np.arange(3.0)})
    if ending == ".csv":
        read = [row["name"] for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())]
    elif ending == ".npz":
        read = np.load(path)["name"].tolist()
    else:
        from pyarrow import parquet

        read = parquet.read_table(path)["name"].to_pylist()
    assert read == ["plain.png", "caf\\udce9.png", "caf\u00e9.png"]
