"""Whole models of the user's that are conditioned on classes or covariates: their parts are built wider, like those of
recipes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import call
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal

import mpdvae
from mpdvae.data import load, split_labels
from mpdvae.data.own import from_dataset
from mpdvae.errors import InputError
from mpdvae.experiments import own_parts
from mpdvae.experiments.experiment import Experiment
from mpdvae.models import GaussianEncoder, StandardNormal, VampPrior, mlp_decoder, mlp_encoder
from mpdvae.training import loop
from mpdvae.vae import VAE
from mpdvae.workflows.own_models import fit

TOLD = {"condition_classes": 10}
TRAINING = {"epochs": 1, "latent_dim": 3, "evaluate_every": 10, "steps": 20}


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_parts, "_KNOWN", own_parts._Known())
    monkeypatch.setenv(own_parts.PATHS, "")


class Encoder(nn.Module):
    def __init__(self, image_shape, latent_dim) -> None:
        super().__init__()
        channel, height, width = image_shape
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(channel * height * width, 2 * latent_dim))

    def forward(self, x):
        mean, log_variance = self.net(x).chunk(2, -1)
        return Independent(Normal(mean, (log_variance / 2).exp()), 1)


class Decoder(nn.Module):
    def __init__(self, image_shape, latent_dim) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(latent_dim, 64), nn.Unflatten(-1, image_shape))

    def forward(self, z):
        return Independent(Bernoulli(logits=self.net(z), validate_args=False), 3)


def foreign(image_shape, latent_dim):
    """Nothing of the package but the prior."""
    return VAE(Encoder(image_shape, latent_dim), Decoder(image_shape, latent_dim), StandardNormal((latent_dim,)))


def lazy(image_shape, latent_dim):
    encoder = GaussianEncoder(nn.Sequential(nn.Flatten(), nn.LazyLinear(2 * latent_dim)), image_shape)
    return VAE(encoder, mlp_decoder(image_shape, latent_dim, (5,)), StandardNormal((latent_dim,)))


def of_maps(image_shape, latent_dim):
    """Codes that are maps, of half the image's sides."""
    channel, height, width = image_shape
    encoder = GaussianEncoder(nn.Conv2d(channel, 2 * latent_dim, 2, 2), image_shape)
    decoder = mpdvae.models.IndependentDecoder(nn.ConvTranspose2d(latent_dim, channel, 2, 2), latent_ndim=3)
    return VAE(encoder, decoder, StandardNormal((latent_dim, height // 2, width // 2)))


@pytest.mark.parametrize("make", [foreign, lazy, of_maps])
def test_a_model_of_classes_is_trained_and_draws_them(make, tmp_path):
    vae = fit(make, "digits", images=TOLD, out=tmp_path / "run", **TRAINING)
    assert vae.classes == 10
    digits = load("digits").test
    x = vae.preprocess(digits.pixels[:6], labels=digits.labels[:6])
    other = vae.preprocess(digits.pixels[:6], labels=(digits.labels[:6] + 1) % 10)
    assert not torch.equal(vae.encode(x), vae.encode(other))
    images, labels = split_labels(vae.sample(4, labels=[0, 1, 2, 3]))
    assert images.shape == (4, 1, 8, 8)
    assert labels.tolist() == [0, 1, 2, 3]
    loaded = mpdvae.load(tmp_path / "run")
    assert torch.equal(loaded.encode(x), vae.encode(x))


def test_parts_are_as_wide_as_those_of_a_recipe():
    @mpdvae.part("encoder")
    def own_encoder(image_shape, latent_dim):
        return Encoder(image_shape, latent_dim)

    @mpdvae.part("decoder")
    def own_decoder(image_shape, latent_dim):
        return Decoder(image_shape, latent_dim)

    mpdvae.part("model", name="whole")(foreign)
    whole = {role: {"kind": "whole"} for role in ("encoder", "decoder", "prior")}
    parts = {"encoder": {"kind": "own-encoder"}, "decoder": {"kind": "own-decoder"}}
    for told in (TOLD, {"dataset": "own", "path": "x", "condition_covariates": 2}):
        one, other = (
            Experiment.model_validate({"latent_dim": 3, "data": told, "prior": {"kind": "standard-normal"}} | kinds)
            for kinds in (whole, parts)
        )
        shapes = [
            {name: tensor.shape for name, tensor in e.build((1, 8, 8)).state_dict().items()} for e in (one, other)
        ]
        assert shapes[0] == shapes[1]
        same = one.build((1, 8, 8)).state_dict()
        assert all(torch.equal(tensor, same[name]) for name, tensor in one.build((1, 8, 8)).state_dict().items())


def test_a_model_of_covariates(tmp_path):
    draws = np.random.default_rng(0)
    pairs = [(image, 0) for image in draws.random((80, 8, 8))]
    data = from_dataset(pairs, covariates=draws.normal(size=(80, 2)))
    vae = fit(foreign, data, images={"condition_covariates": 2}, out=tmp_path / "run", **TRAINING)
    assert vae.condition == (0, 2)
    assert vae.sample(3, covariates=[[0.0, 0.1]] * 3).shape == (3, 3, 8, 8)


def test_a_stopped_run_ends_with_the_same_bytes(tmp_path, monkeypatch):
    def run(name: str) -> bytes:
        fit(foreign, "digits", {"diversity_weight": 0.1}, images=TOLD, out=tmp_path / name, **TRAINING)
        return (tmp_path / name / "model" / "model.safetensors").read_bytes()

    whole, original = run("whole"), loop.training_step

    def stopping(learner, data):
        if learner.progress.step == 13:
            raise KeyboardInterrupt
        return original(learner, data)

    monkeypatch.setattr(loop, "training_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        run("parts")
    monkeypatch.setattr(loop, "training_step", original)
    assert run("parts") == whole


FILE = """
import mpdvae
from mpdvae.models import StandardNormal, mlp_decoder, mlp_encoder

def filed_model(image_shape, latent_dim):
    encoder, decoder = mlp_encoder(image_shape, latent_dim, (4,)), mlp_decoder(image_shape, latent_dim, (4,))
    return mpdvae.VAE(encoder, decoder, StandardNormal((latent_dim,)))
"""


def test_commands_draw_and_encode_classes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(FILE)
    own_parts.read_file(Path("mine.py"))
    fit(sys.modules["mine"].filed_model, "digits", images=TOLD, out="run", **TRAINING)
    monkeypatch.setattr(own_parts, "_KNOWN", own_parts._Known())
    for words in (
        ["sample", "run", "--out", "x.png", "--label", "7"],
        ["encode", "run", "digits", "--out", "x.csv", "--samples", "2"],
        ["evaluate", "run", "--samples", "2", "--images", "4"],
    ):
        code, _, err = call(capsys, *words, "--parts", "mine.py")
        assert code == 0, err
    sys.modules.pop("mine", None)


def tied(image_shape, latent_dim):
    vae = foreign(image_shape, latent_dim)
    vae.decoder.encoder = vae.encoder
    return vae


def with_vamp(image_shape, latent_dim):
    encoder = mlp_encoder(image_shape, latent_dim, (4,))
    return VAE(encoder, mlp_decoder(image_shape, latent_dim, (4,)), VampPrior(encoder, image_shape, 3))


def of_grey(image_shape, latent_dim):
    return VAE(Encoder((1, 8, 8), latent_dim), Decoder(image_shape, latent_dim), StandardNormal((latent_dim,)))


def of_three(image_shape, latent_dim):
    return VAE(Encoder(image_shape, latent_dim), Decoder(image_shape, 3), StandardNormal((latent_dim,)))


def of_three_throughout(image_shape, latent_dim):
    return VAE(Encoder(image_shape, 3), Decoder(image_shape, 3), StandardNormal((3,)))


WRONG = {
    "ready-made": (
        foreign((1, 8, 8), 3),
        r"^vae: expected a function of \(image_shape, latent_dim\) for a model that is told one of 10 classes, .* ready-made",
    ),
    "of nothing": (
        lambda: foreign((1, 8, 8), 3),
        r"^vae: expected a function of \(image_shape, latent_dim\) .* of nothing",
    ),
    "shared weights": (tied, r"^tied: .*one of 10 classes, .* share weights"),
    "prior of the encoder": (with_vamp, r"^with-vamp: .*one of 10 classes, .* VampPrior"),
    "channels": (
        of_grey,
        r"^encoder: encoding images of shape \(3, 25, 8, 8\), 24 channels more than images have, which say what the model is "
        r"told, failed at test_conditional_own_models\.py",
    ),
    "latent numbers": (
        of_three,
        r"^decoder: decoding codes of shape \(2, 3, 27\), 24 numbers more than codes have, which say what the model is told, "
        r"failed at test_conditional_own_models\.py",
    ),
    "latent numbers throughout": (of_three_throughout, r"^decoder: decoding codes of shape \(2, 3, 27\)"),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_told_anything_is_a_sentence_before_anything_is_written(make, message, tmp_path):
    with pytest.raises(InputError, match=message):
        fit(make, "digits", images=TOLD, out=tmp_path / "run", **TRAINING)
    assert not (tmp_path / "run").exists()
