"""Weights over the course of training: schedules by hand, and weights that steer what is measured."""

import math

import pytest

from mpdvae.errors import InputError
from mpdvae.objectives.kl_weights import (
    GECO,
    LEAST_SOFT_WEIGHT,
    AdaptiveWeight,
    Constant,
    Cyclical,
    Linear,
    SoftFreeBits,
)


@pytest.mark.parametrize(
    ("schedule", "weights"),
    [
        (Constant(), {0: 1, 10**6: 1}),
        (Constant(0.2), {0: 0.2, 10**6: 0.2}),
        (Linear(10), {0: 0, 1: 0.1, 5: 0.5, 9: 0.9, 10: 1, 11: 1, 1000: 1}),
        (Linear(10, start=0.5), {0: 0.5, 5: 0.75, 10: 1, 11: 1}),
        (Linear(1), {0: 0, 1: 1}),
        (Cyclical(100), {0: 0, 5: 0.4, 12: 0.96, 13: 1, 24: 1, 25: 0, 30: 0.4, 50: 0, 99: 1, 100: 1, 150: 1}),
        (Cyclical(30, cycles=3, rising_fraction=1.0), {0: 0, 1: 0.1, 9: 0.9, 10: 0, 19: 0.9, 20: 0, 29: 0.9, 30: 1}),
        (Cyclical(10, cycles=1, rising_fraction=0.2), {0: 0, 1: 0.5, 2: 1, 9: 1, 10: 1}),
    ],
    ids=repr,
)
def test_schedules(schedule, weights):
    assert {step: schedule(step) for step in weights} == pytest.approx(weights)


# Weights that adapt


def test_soft_free_bits_by_hand():
    """Above 1.05 times the target g grows by a tenth, below the target it shrinks by a tenth, between it stays."""
    weight, seen = SoftFreeBits(10.0), []
    for kl in (9.0, 5.0, 10.2, 10.5, 10.6, 20.0, 20.0):
        weight.adapt(kl, 100.0)
        seen.append(weight(0))
    assert seen == pytest.approx([0.9, 0.81, 0.81, 0.81, 0.891, 0.9801, 1.0])


def test_soft_free_bits_stay_between_their_bounds():
    weight = SoftFreeBits(1.0)
    for _ in range(200):
        weight.adapt(0.0, 0.0)
    assert weight(0) == LEAST_SOFT_WEIGHT
    for _ in range(200):
        weight.adapt(2.0, 0.0)
    assert weight(0) == 1.0


def test_soft_free_bits_keep_a_kl_near_their_target():
    """Of a made-up KL that answers to its weight as 2 / g does."""
    weight = SoftFreeBits(8.0)
    for step in range(100):
        weight.adapt(2 / weight(step), 0.0)
    assert 0.9 * 8 <= 2 / weight(0) <= 1.1 * 1.05 * 8


def test_the_multiplier_rises_while_the_goal_is_not_reached_and_falls_after():
    weight = GECO(50.0, rate=0.01, smoothing=0.0)
    multipliers = [weight.multiplier]
    for reconstruction in (60.0, 55.0, 50.0, 45.0, 40.0):
        weight.adapt(3.0, reconstruction)
        multipliers.append(weight.multiplier)
    assert multipliers == pytest.approx([1, math.exp(0.1), math.exp(0.15), math.exp(0.15), math.exp(0.1), 1])
    assert weight(0) == pytest.approx(1 / weight.multiplier)


def test_the_violation_is_a_moving_average_that_starts_at_the_first():
    weight = GECO(0.0, rate=0.1, smoothing=0.8)
    weight.adapt(0.0, 1.0)
    assert weight.state["violation_nats"] == 1.0
    weight.adapt(0.0, 2.0)
    assert weight.state["violation_nats"] == pytest.approx(0.8 * 1 + 0.2 * 2)
    assert weight.multiplier == pytest.approx(math.exp(0.1 + 0.12))


def test_the_multiplier_is_bounded():
    weight = GECO(0.0, rate=1.0)
    for reconstruction, bound in ((1e3, 1e4), (-1e5, 1e-4)):
        weight.adapt(0.0, reconstruction)
        assert weight.multiplier == pytest.approx(bound)


@pytest.mark.parametrize("number", [1e3, 1e308, -1e308])
@pytest.mark.parametrize("build", [lambda: SoftFreeBits(5.0), lambda: GECO(5.0)])
def test_a_state_that_training_cannot_reach_gives_a_weight_that_it_can(build, number):
    """A checkpoint from a stranger may hold any number."""
    weight = build()
    weight.state = dict.fromkeys(weight.state, number)
    for _ in range(3):
        assert 1e-4 * (1 - 1e-9) <= weight(0) <= 1e4 * (1 + 1e-9)
        weight.adapt(1.0, 2.0)
        assert all(map(math.isfinite, weight.state.values()))


@pytest.mark.parametrize("build", [lambda: SoftFreeBits(5.0), lambda: GECO(5.0)])
def test_the_state_is_all_that_changes(build):
    one, other = build(), build()
    assert isinstance(one, AdaptiveWeight)
    for k in range(5):
        one.adapt(float(k), 2.0 * k)
    other.state = dict(one.state)
    one.adapt(9.0, 9.0)
    other.adapt(9.0, 9.0)
    assert other.state == one.state
    assert other(0) == one(0) != build()(0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Linear(0), "warm_up_steps: expected a number >= 1, got 0"),
        (lambda: Cyclical(0), "total_steps: expected a number >= 1, got 0"),
        (lambda: Cyclical(10, cycles=0), "cycles: expected a number >= 1, got 0"),
        (lambda: Cyclical(10, rising_fraction=0.0), "rising_fraction: expected a number in"),
        (lambda: Cyclical(10, rising_fraction=1.5), "rising_fraction: expected a number in"),
        (lambda: SoftFreeBits(0.0), "soft free bits: expected target_nats > 0"),
        (lambda: SoftFreeBits(1.0, change=0.0), "soft free bits: .* change > 0"),
        (lambda: SoftFreeBits(1.0, tolerance=-0.1), "soft free bits: .* tolerance >= 0"),
        (lambda: GECO(1.0, rate=0.0), "GECO: expected rate > 0"),
        (lambda: GECO(1.0, smoothing=1.0), r"GECO: .* smoothing in \[0, 1\)"),
    ],
)
def test_impossible_weights_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()
