"""Faster networks compute the same, and where there is no compiler models run as they are."""

import copy
import os
import shutil
import subprocess
import sys

import pytest
import torch
from constructors import DECODERS, ENCODERS
from small_runs import results, tiny, trained

from mpdvae import VAE
from mpdvae.errors import InputError
from mpdvae.experiments.experiment import with_changes
from mpdvae.models.acceleration import compile_networks, run_in_bfloat16, uncompiled
from mpdvae.models.priors import StandardNormal
from mpdvae.training import loop
from mpdvae.workflows.job import check_device

SHAPE, LATENT = (1, 8, 8), 4
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


def pixelcnn_vae() -> VAE:
    parts = ENCODERS["convnet-2"].build(SHAPE, LATENT), DECODERS["pixelcnn-one-layer"].build(SHAPE, LATENT)
    return VAE(*parts, StandardNormal((LATENT,)))


def images(count: int = 6) -> torch.Tensor:
    return (torch.rand(count, *SHAPE) < 0.3).float()


COMPARE = """
import copy, torch
from mpdvae import VAE, density
from mpdvae.models.acceleration import compile_networks
from mpdvae.models.decoders import pixelcnn_decoder
from mpdvae.models.encoders import mlp_encoder
from mpdvae.models.injective import injective_decoder, injective_pixelcnn_decoder
from mpdvae.models.priors import StandardNormal

vae = VAE(mlp_encoder((1, 8, 8), 4, ()), DECODER, StandardNormal((4,)))
x, plain = (torch.rand(6, 1, 8, 8) < 0.3).float(), copy.deepcopy(vae)
assert compile_networks(vae)
assert vae.state_dict().keys() == plain.state_dict().keys()
ours, theirs = density.estimate(vae, x, samples=8), density.estimate(plain, x, samples=8)
torch.testing.assert_close(ours.log_prob, theirs.log_prob, rtol=1e-5, atol=1e-4)
for model in (vae, plain):
    torch.manual_seed(0)
    (-model.elbo(x)).sum().backward()
for one, other in zip(vae.parameters(), plain.parameters(), strict=True):
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-3)
z = torch.randn(3, 4)
torch.testing.assert_close(vae.decode(z), plain.decode(z))  # pixel by pixel: uncompiled
print("equal")
"""


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(
    "decoder",
    [
        "pixelcnn_decoder((1, 8, 8), 4, 4, (5, 3), 2)",
        "injective_pixelcnn_decoder((1, 8, 8), 4, 4, (3,), 16)",
        "injective_decoder((1, 8, 8), 4, 16)",
    ],
)
def test_compiled_networks_give_the_same(decoder, tmp_path):
    """In a process of its own: the checks of shapes that run under pytest cannot be compiled."""
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPARE.replace("DECODER", decoder)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.stdout == "equal\n", done.stderr


def test_without_a_compiler_models_run_as_they_are(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", broken)
    vae, x = pixelcnn_vae(), images()
    with pytest.warns(
        UserWarning, match=r"torch.compile does not work here \(no compiler\); the model runs uncompiled"
    ):
        assert not compile_networks(vae)
    assert vae.elbo(x).shape == (6,)


def test_networks_in_bfloat16_give_float32_close_to_full_precision():
    vae, x = pixelcnn_vae(), images()
    plain = copy.deepcopy(vae)
    run_in_bfloat16(vae)
    q, full = vae.encoder(x), plain.encoder(x)
    assert q.mean.dtype == torch.float32
    torch.testing.assert_close(q.mean, full.mean, rtol=0.05, atol=0.05)
    assert (q.mean != full.mean).any()
    z = torch.randn(6, LATENT)
    log_prob = vae.decoder(z).log_prob(x)
    assert log_prob.dtype == torch.float32
    torch.testing.assert_close(log_prob, plain.decoder(z).log_prob(x), rtol=0.05, atol=0.5)
    log_prob.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in vae.decoder.parameters())
    assert vae.state_dict().keys() == plain.state_dict().keys()


def test_a_run_in_bfloat16_is_close_and_repeats(tmp_path):
    one, two = (trained(tmp_path / name, tiny(training__precision="bfloat16")) for name in ("one", "two"))
    assert results(one.path) == results(two.path)
    plain = trained(tmp_path / "plain", tiny())
    assert one.history[-1]["loss_nats"] != plain.history[-1]["loss_nats"]
    assert one.history[-1]["loss_nats"] == pytest.approx(plain.history[-1]["loss_nats"], rel=0.02)


def test_networks_are_compiled_when_asked_for(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(loop, "compile_networks", compiled.append)
    trained(tmp_path / "plain", tiny())
    assert compiled == []
    trained(tmp_path / "compiled", tiny(training__compile=True))
    assert [type(model) for model in compiled] == [VAE]


def test_uncompiled_lets_everything_through():
    with uncompiled():
        assert pixelcnn_vae().elbo(images()).isfinite().all()


def test_refined_posteriors_cannot_be_compiled():
    with pytest.raises(InputError, match=r"training\.compile: refined posteriors .* switch one of the two off"):
        with_changes(tiny(), encoder__refinement_steps=2, training__compile=True)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there(device):
    with pytest.raises(InputError, match=rf"--device: torch cannot use '{device}' here \(.*\); try cpu"):
        check_device(device)
