"""Intervals for log p(x): how often they cover the truth, over weights of known mean with light and heavy tails, and over the
models of known_models.py. The normal suite repeats less than the slow one."""

import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from known_models import every_model, known
from torch import Tensor

from mpdvae.measures.density import estimate
from mpdvae.measures.importance_weights import jackknife, log_mean
from mpdvae.measures.weight_intervals import FEWEST, interval, is_closed, lower_bound, of_mean
from mpdvae.seeding import seeded

SIZES = [16, 64, 512]
few_or_many = pytest.mark.parametrize("repeats", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])


def lognormal(spread: float) -> Callable[[int, int], Tensor]:
    return lambda k, n: spread * torch.randn(k, n, dtype=torch.float64) - spread**2 / 2


def pareto(shape: float) -> Callable[[int, int], Tensor]:
    return lambda k, n: -shape * torch.rand(k, n, dtype=torch.float64).log() + math.log1p(-shape)


def gaussian(width: float, dimensions: int) -> Callable[[int, int], Tensor]:
    """The posterior N(0, I) sampled from N(0, width^2 I)."""

    def draw(k: int, n: int) -> Tensor:
        square = torch.randn(k, n, dimensions, dtype=torch.float64).square().sum(-1)
        return square * (1 - width**2) / 2 + dimensions * math.log(width)

    return draw


WEIGHTS = {
    "lognormal 0.2": lognormal(0.2),
    "lognormal 0.5": lognormal(0.5),
    "lognormal 0.8": lognormal(0.8),
    "lognormal 1.2": lognormal(1.2),
    "widened 1.3, 1 dimension": gaussian(1.3, 1),
    "widened 1.2, 8 dimensions": gaussian(1.2, 8),
    "widened 1.1, 32 dimensions": gaussian(1.1, 32),
    "narrowed 0.85, 3 dimensions": gaussian(0.85, 3),
    "narrowed 0.9, 32 dimensions": gaussian(0.9, 32),
    "Pareto 0.3": pareto(0.3),
    "Pareto 0.5": pareto(0.5),
}
"""Log-weights [weights repeats] whose mean weight is 1."""

every_tail = pytest.mark.parametrize("name", WEIGHTS)
every_size = pytest.mark.parametrize("size", SIZES)


@cache
def log_weights(name: str, size: int, repeats: int) -> Tensor:
    with seeded("weights", name, size):
        return WEIGHTS[name](size, repeats)


def margin(repeats: int) -> float:
    """Three standard errors of a coverage of 95 %."""
    return 3 * math.sqrt(0.05 * 0.95 / repeats)


@every_tail
@every_size
@few_or_many
def test_an_interval_covers_as_often_as_it_says(name, size, repeats):
    """93 to 97 %, or more where intervals are open."""
    log_w = log_weights(name, size, repeats)
    found = interval(log_w)
    open_share = found.upper.isinf().double().mean().item()
    covered = ((found.lower <= 0) & (found.upper >= 0)).double().mean().item()
    assert 0.93 - margin(repeats) < covered
    assert covered < 0.97 + margin(repeats) + open_share / 20


@every_size
@few_or_many
def test_heavy_tails_are_open(size, repeats):
    log_w = log_weights("Pareto 0.5", size, repeats)
    heavier = pareto(0.9)
    with seeded("heavier"):
        assert is_closed(heavier(size, repeats)).double().mean() < 0.5
    assert is_closed(log_w).double().mean() < 0.9
    assert is_closed(log_weights("widened 1.2, 8 dimensions", size, repeats)).double().mean() > 0.85


@pytest.mark.parametrize("shape", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("size", [1, 4, 64])
@few_or_many
def test_the_lower_end_of_an_open_interval_holds_for_any_tail(shape, size, repeats):
    with seeded("tail", size):
        log_w = pareto(shape)(size, repeats)
    missed = (lower_bound(log_w) > 0).double().mean()
    assert missed < 0.05 + margin(repeats)


def test_the_lower_end_comes_near_for_light_tails():
    log_w = log_weights("lognormal 0.5", 512, 1_000)
    assert -0.15 < lower_bound(log_w).mean() < 0


def test_equal_weights_have_an_interval_of_one_point():
    found = interval(torch.full((100, 2), -85.0, dtype=torch.float64))
    torch.testing.assert_close(found.lower, torch.full((2,), -85.0, dtype=torch.float64))
    torch.testing.assert_close(found.upper, found.lower)


def test_few_weights_have_open_intervals():
    with seeded("few"):
        log_w = torch.randn(FEWEST - 1, 5, dtype=torch.float64)
    found = interval(log_w)
    assert found.upper.isposinf().all()
    assert (found.lower < log_mean(log_w)).all()
    one = interval(torch.zeros(1, 3, dtype=torch.float64))
    assert (one.lower > -math.log(20) - 2.5).all()


def test_an_interval_moves_with_the_weights_and_holds_impossible_samples():
    log_w = log_weights("lognormal 0.5", 64, 1_000).clone()
    moved, plain = interval(log_w - 1000), interval(log_w)
    torch.testing.assert_close(moved.lower, plain.lower - 1000)
    torch.testing.assert_close(moved.upper, plain.upper - 1000)
    log_w[0] = -math.inf
    assert interval(log_w).lower.isfinite().all()


# -- means over images -------------------------------------------------------------------------------------------------

IMAGES = 16


@pytest.mark.parametrize("name", ["lognormal 0.2", "lognormal 0.5", "widened 1.2, 8 dimensions"])
@every_size
@few_or_many
def test_the_interval_of_a_mean_covers_as_often_as_it_says(name, size, repeats):
    log_w = log_weights(name, size, repeats * IMAGES)
    found, (estimates, _) = interval(log_w), jackknife(log_w)
    groups = zip(estimates.split(IMAGES), found.lower.split(IMAGES), found.upper.split(IMAGES), strict=True)
    ends = torch.tensor([of_mean(*group) for group in groups])
    covered = ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).double().mean().item()
    share_open = ends[:, 1].isinf().double().mean().item()
    assert 0.93 - margin(repeats) < covered < 0.97 + margin(repeats) + share_open / 20


def test_one_open_interval_opens_the_mean():
    zeros = torch.zeros(3, dtype=torch.float64)
    low, high = of_mean(zeros, zeros - 3, torch.tensor([1.0, math.inf, 1.0], dtype=torch.float64))
    assert low.item() == pytest.approx(-math.sqrt(3))
    assert high.isposinf()


# -- models whose likelihood is known ----------------------------------------------------------------------------------


@every_model
@every_size
@pytest.mark.parametrize("proposal", ["encoder", "fitted"])
@pytest.mark.parametrize("repeats", [60, pytest.param(400, marks=pytest.mark.slow)])
def test_intervals_cover_known_likelihoods(name, size, proposal, repeats):
    if repeats < 400 and size == 512:
        pytest.skip("in the slow suite")
    model = known(name)
    x, true = model.x.repeat(repeats, 1, 1, 1), model.log_prob.detach().repeat(repeats)
    e = estimate(model.vae, x, size, proposal=proposal)
    covered = ((e.interval_lower <= true) & (true <= e.interval_upper)).double().mean().item()
    open_share = e.interval_upper.isinf().double().mean().item()
    assert 0.93 - margin(len(x)) < covered < 0.97 + margin(len(x)) + open_share / 20
