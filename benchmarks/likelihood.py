"""Importance-weighted bounds, their precisions, and the mutual posterior divergence of whole data sets."""

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from benchmarks.plain import plain_bound, plain_divergence, square_kernels
from benchmarks.sampling import initialised
from benchmarks.timing import Curve, Row, apart, pair, pair_apart, peak_bytes, seconds_of, shown, shown_bytes
from mpdvae import VAE, load, mutual_posterior_divergence
from mpdvae.data import evaluation_images
from mpdvae.evaluation.likelihood_precision import bfloat16_decoder, compared
from mpdvae.experiments.recipes import recipe
from mpdvae.measures import density
from mpdvae.models.acceleration import compile_networks
from mpdvae.seeding import seeded
from mpdvae.system.allocator import keep_freed_memory
from mpdvae.workflows.job import load_data

MODEL = "mae-mnist-paper"
PLAIN_SAMPLES, SAMPLES = 256, 2048
PRECISION_IMAGES = 8

estimate = partial(density.estimate, proposal="encoder")
"""With the proposal of the plain bound."""


def bound() -> tuple[list[Row], list[Curve]]:
    vae, x = _model(), _images(1)
    close = _difference(_model(), x)
    rows = []
    for what, compiled, kept in (
        ("uncompiled", False, False),
        ("compiled", True, False),
        ("compiled, both keep freed memory", True, True),
    ):
        if compiled and not compile_networks(_model()):
            continue
        both = pair_apart(partial(_plain_bound, kept), partial(_own_bound, compiled), 5, SAMPLES // PLAIN_SAMPLES)
        plain_rate, rate = (f"{SAMPLES / seconds:.0f} samples/s" for seconds in (both.plain_seconds, both.seconds))
        to_reach = "" if kept else "2.5x"
        check = f"{close}; page faults: {both.faults:,} (plain: {both.plain_faults:,})"
        rows.append(
            Row(f"importance-weighted bound, {what}", plain_rate, rate, round(both.ratio, 2), to_reach, "", check)
        )
    plain_memory = {n: peak_bytes(_memory_of_plain, n) for n in (256, 1024)}
    memory = {n: peak_bytes(_memory_of_ours, 1, n) for n in (256, 1024, 4096)}
    rows.append(
        Row(
            "the same, memory at 1,024 samples, budget 1 GiB",
            shown_bytes(plain_memory[1024]),
            shown_bytes(memory[1024]),
            round(plain_memory[1024] / memory[1024], 1),
            "under the budget",
            f"{shown_bytes(memory[4096])} at 4,096 samples",
        )
    )
    curves = [
        Curve("plain bound, memory", "samples", "MB", {str(n): b / 2**20 for n, b in plain_memory.items()}),
        Curve("our bound, memory", "samples", "MB", {str(n): b / 2**20 for n, b in memory.items()}),
        Curve(
            "our bound, memory, 64 samples",
            "images",
            "MB",
            {str(n): peak_bytes(_memory_of_ours, n, 64) / 2**20 for n in (1, 8, 32)},
        ),
        Curve(
            "our bound",
            "samples",
            "s",
            {str(n): seconds_of(partial(estimate, vae, x, n)) for n in (128, 512, 2048)},
        ),
        Curve("our bound, 16 images, 64 samples", "MB per chunk", "s", apart(_by_piece)),
    ]
    return rows, curves


def precision() -> tuple[list[Row], list[Curve]]:
    """Decoder evaluations per second in float32 uncompiled, the default, and in the other ways of `--precision auto`."""
    rows = []
    for what, model, samples in (
        ("paper network, initialised", partial(initialised, MODEL, (1, 28, 28)), 64),
        ("compact network, trained", partial(load, "mae-mnist"), 256),
    ):
        for compiled in (False, True):
            if compiled and not compile_networks(model()):
                continue
            for precise in ("float32", "bfloat16"):
                if compiled or precise == "bfloat16":
                    rows.append(_precision_row(what, model, samples, precise, compiled))
    return rows, []


def _precision_row(what: str, model: Callable[[], VAE], samples: int, precise: str, compiled: bool) -> Row:
    x = test_digits(PRECISION_IMAGES)
    vae, own = model(), model()
    approximate = bfloat16_decoder(own) if precise == "bfloat16" else None
    if compiled:
        compile_networks(own)
        if approximate is not None:
            compile_networks(approximate)
    plain = partial(estimate, vae, x, samples)
    ours = partial(estimate, own, x, samples, approximate=approximate)
    both, pairs = pair(plain, ours, rounds=5), PRECISION_IMAGES * samples
    e = compared(plain(), ours(), PRECISION_IMAGES, samples)
    check = f"difference per image {e.per_image:.1g} nats (Monte Carlo: {e.per_image_monte_carlo:.2g})"
    return Row(
        f"likelihoods, {what}, {precise}{' compiled' if compiled else ''}",
        f"{pairs / both.plain_seconds:,.0f} evaluations/s",
        f"{pairs / both.seconds:,.0f} evaluations/s",
        round(both.ratio, 2),
        "2x" if compiled and approximate is not None else "",
        check=check,
    )


def divergence() -> tuple[list[Row], list[Curve]]:
    q = _posteriors(1000)
    plain, ours = plain_divergence(q), mutual_posterior_divergence(q)
    error = max(abs(a / b - 1).item() for a, b in zip(plain, (ours.mean, ours.std), strict=True))
    both = pair(partial(plain_divergence, q), partial(mutual_posterior_divergence, q), rounds=5)
    memory = peak_bytes(_memory_of_divergence, 1000, True), peak_bytes(_memory_of_divergence, 60_000, False)
    seconds = {n: _best(partial(mutual_posterior_divergence, _posteriors(n))) for n in (1000, 10_000, 60_000, 600_000)}
    return [
        Row(
            "divergence, all pairs of 1,000 x 32",
            shown(both.plain_seconds),
            shown(both.seconds),
            round(both.ratio, 1),
            "equal within 1e-6",
            f"{shown_bytes(memory[0])} (plain)",
            f"relative difference {error:.0e}",
        ),
        Row("divergence, all pairs of 60,000 x 32", "", shown(seconds[60_000]), None, "1 s", shown_bytes(memory[1])),
    ], [Curve("divergence, 32 dimensions", "posteriors", "s", {str(n): s for n, s in seconds.items()})]


def _plain_bound(keeps_memory: bool) -> Callable[[], Any]:
    """As it is usually written; or, with it, in a process that keeps freed memory, as ours does."""
    if keeps_memory:
        keep_freed_memory()
    return partial(_plain, _model(), _images(1), PLAIN_SAMPLES)


def _own_bound(compiled: bool) -> Callable[[], Any]:
    vae = _model()
    if compiled:
        compile_networks(vae)
    return partial(estimate, vae, _images(1), SAMPLES)


def _by_piece() -> dict[str, float]:
    """Seconds by the size of what goes through the decoder at a time, in MB."""
    vae, x, seconds = _model(), _images(16), {}
    for megabytes in (32, 64, 128, 256, 512):
        with patch("mpdvae.measures.memory_use.CPU_PIECE", megabytes * 2**20):
            seconds[str(megabytes)] = _best(partial(estimate, vae, x, 64))
    return seconds


def _model() -> VAE:
    return initialised(MODEL, (1, 28, 28))


def _images(count: int) -> Tensor:
    with seeded("binary images"):
        return (torch.rand(count, 1, 28, 28) < 0.2).float()


def test_digits(count: int) -> Tensor:
    """Binary test images of MNIST."""
    experiment = recipe(MODEL)
    return evaluation_images(load_data(experiment, None).test, experiment.data.protocol(), "test", 1)[0][:count]


def _plain(vae: VAE, x: Tensor, samples: int) -> Tensor:
    with square_kernels(vae):
        return plain_bound(vae, x, samples)


def _difference(vae: VAE, x: Tensor) -> str:
    """Between bounds from the same noise."""
    with torch.no_grad(), seeded("noise"):
        ours = vae.importance_weighted_bound(x, 64)
    with seeded("noise"):
        plain = _plain(_model(), x, 64)
    return f"relative difference {abs(plain / ours - 1).item():.0e} with the same noise"


def _posteriors(count: int) -> Independent:
    with seeded("posteriors"):
        mean, log_variance = torch.randn(count, 32), torch.randn(count, 32) - 2
    return Independent(Normal(mean, torch.exp(log_variance / 2)), 1)


def _best(function: Callable[[], Any]) -> float:
    return min(seconds_of(function) for _ in range(3))


def _memory_of_plain(samples: int) -> Callable[[], Any]:
    vae, x = _model(), _images(1)
    return partial(_plain, vae, x, samples)


def _memory_of_ours(images: int, samples: int) -> Callable[[], Any]:
    vae, x = _model(), _images(images)
    return partial(estimate, vae, x, samples)


def _memory_of_divergence(count: int, plain: bool) -> Callable[[], Any]:
    return partial(plain_divergence if plain else mutual_posterior_divergence, _posteriors(count))
