"""An evaluation point: its results do not depend on the memory budget, which it keeps, and are those of one pass."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from constructors import DECODERS, ENCODERS, FLOWS, binary_images, shaken
from small_runs import digits, interrupted, results, tiny, trained
from torch.distributions import Independent, Normal

from mpdvae.divergence import diagonal_normal
from mpdvae.measures import code_diagnostics
from mpdvae.measures.memory_budget import in_pieces
from mpdvae.measures.memory_use import LiveBytes
from mpdvae.models.priors import FlowPrior, StandardNormal, VampPrior
from mpdvae.seeding import seeded
from mpdvae.training.loop import Course
from mpdvae.training.validation import validate
from mpdvae.vae import VAE

SHAPE, LATENT, SAMPLES = (1, 8, 8), 4, 3
BUDGETS = (1, 100_000, 400_000, 2_000_000)
"""Bytes: one image and draw at once, one image and two draws, three images, fifteen."""


def model(prior: str = "flow") -> VAE:
    with seeded("model"):
        encoder, decoder = (
            ENCODERS["convnet-2"].build(SHAPE, LATENT),
            DECODERS["pixelcnn-one-layer"].build(SHAPE, LATENT),
        )
        made = {
            "flow": lambda: FlowPrior(FLOWS["affine"](LATENT), (LATENT,)),
            "normal": lambda: StandardNormal((LATENT,)),
            "mixture": lambda: VampPrior(encoder, SHAPE, components=5),
        }
        return shaken(VAE(encoder, decoder, made[prior]())).double()


def images(count: int) -> torch.Tensor:
    with seeded("images"):
        return binary_images(count, *SHAPE).double()


def in_one_pass(vae: VAE, x: torch.Tensor) -> tuple[float, float, code_diagnostics.Diagnostics]:
    """Reconstruction, KL and diagnostics of images whose noise is drawn together."""
    vae.eval()
    with torch.no_grad(), seeded(7, "validation"):
        q = vae.encoder(x)
        z = q.rsample((SAMPLES,))
        reconstruction, kl = -vae.decoder(z).log_prob(x).mean(0), vae.kl(q, z)
        flat = diagonal_normal(q)
        codes = Independent(Normal(flat.loc.flatten(1), flat.scale.flatten(1)), 1)
        return reconstruction.mean().item(), kl.mean().item(), code_diagnostics.of_posteriors(codes, vae.prior())


@pytest.mark.parametrize("prior", ["flow", "normal", "mixture"])
def test_the_memory_budget_changes_nothing(prior):
    vae, x = model(prior), images(37)
    reconstruction, kl, codes = in_one_pass(vae, x)
    for budget in (*BUDGETS, 2**30):
        v = validate(vae, x, SAMPLES, seed=7, memory_budget=budget)
        assert v.reconstruction_nats == pytest.approx(reconstruction, rel=1e-6)
        assert v.kl_nats == pytest.approx(kl, rel=1e-6, abs=1e-9)
        assert v.negative_elbo_nats == pytest.approx(reconstruction + kl, rel=1e-6)
        assert v.mutual_information_nats == pytest.approx(codes.bracket.lower.nats, rel=1e-6)
        assert v.mutual_information_upper_nats == pytest.approx(codes.bracket.upper.nats, rel=1e-6)
        assert v.mpd_mean_nats == pytest.approx(codes.mpd_mean, rel=1e-6)
        assert v.information_per_dimension_nats == pytest.approx(codes.information_per_dimension.tolist(), rel=1e-5)


def test_the_memory_budget_is_kept():
    vae, x = model(), images(200)
    peaks = {}
    for budget in (1_000_000, 2_000_000, 2**30):
        with LiveBytes() as live:
            validate(vae, x, SAMPLES, seed=7, memory_budget=budget)
        peaks[budget] = live.peak
        assert live.peak < budget
    assert peaks[2**30] > 4_000_000  # all images at once: the budgets were not idle


def test_images_pass_once_and_modes_come_back():
    vae, x, seen = model().train(), images(37), []
    vae.encoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    before = torch.get_rng_state()
    validate(vae, x, SAMPLES, seed=7)
    assert sum(seen) == len(x) + 8  # and a trial of eight
    assert vae.training
    assert all(p.grad is None for p in vae.parameters())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("rows", "at_once"), [(10, 4), (9, 3), (3, 5), (1, 1)])
def test_pieces_of_one_size(rows, at_once):
    x, sizes = torch.arange(2 * rows).reshape(2, rows), []

    def twice(of: slice) -> torch.Tensor:
        sizes.append(len(range(rows)[of]))
        return 2 * x[:, of]

    assert torch.equal(in_pieces(twice, rows, at_once, axis=1, alike=True), 2 * x)
    assert set(sizes) == {min(rows, at_once)}


def test_pieces_of_one_size_shrink_if_memory_runs_out():
    x = torch.arange(11)

    def short(of: slice) -> torch.Tensor:
        if of.stop - of.start > 3 and of.start:
            raise MemoryError
        return x[of]

    assert torch.equal(in_pieces(short, 11, 5, alike=True), x)


def test_the_averaged_copy_runs_in_the_precision_of_training(tmp_path):
    """And what was measured of it does not depend on interruptions."""
    experiment = tiny(training__precision="bfloat16")
    whole = trained(tmp_path / "whole", experiment)
    assert results(interrupted(tmp_path / "run", experiment, 4).path) == results(whole.path)
    exact = trained(tmp_path / "exact", tiny())
    course = Course.begin(whole, digits(), print)
    assert hasattr(course.learner.averaged.decoder.get_submodule("network").forward, "__wrapped__")
    assert whole.history[-1]["negative_elbo_nats"] != exact.history[-1]["negative_elbo_nats"]


COMPILED = """
import copy, math, torch
from mpdvae import VAE
from mpdvae.models.acceleration import compile_networks, is_compiled
from mpdvae.models.decoders import pixelcnn_decoder
from mpdvae.models.encoders import mlp_encoder
from mpdvae.models.priors import StandardNormal
from mpdvae.training.validation import validate

vae = VAE(mlp_encoder((1, 8, 8), 4, ()), pixelcnn_decoder((1, 8, 8), 4, 4, (5, 3), 2), StandardNormal((4,)))
x, plain = (torch.rand(300, 1, 8, 8) < 0.3).float(), copy.deepcopy(vae)
assert compile_networks(vae, fixed_sizes=True) and is_compiled(vae) and not is_compiled(plain)
compiled = [torch._dynamo.utils.counters["stats"]["unique_graphs"]]
for budget in (2**20, 2**20):
    ours, theirs = validate(vae, x, 3, 0, budget), validate(plain, x, 3, 0)
    assert math.isclose(ours.negative_elbo_nats, theirs.negative_elbo_nats, rel_tol=1e-5)
    assert math.isclose(ours.mpd_mean_nats, theirs.mpd_mean_nats, rel_tol=1e-3)
    compiled.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
assert compiled[2] == compiled[1], compiled
print("equal")
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_networks_give_the_same_and_are_compiled_once(tmp_path):
    """In a process of its own: the checks of shapes that run under pytest cannot be compiled."""
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout == "equal\n", done.stderr
