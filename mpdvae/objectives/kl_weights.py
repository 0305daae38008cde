r"""Weights of a term over the course of training: functions of the step, and weights that adapt to what is measured.

*Schedules* depend on the step alone: constant (1: the ELBO; else the beta-VAE of Higgins et al. 2017), KL annealing (Bowman
et al. 2016, https://arxiv.org/abs/1511.06349), cyclical annealing (Fu et al. 2019, https://arxiv.org/abs/1903.10145).

*Adaptive weights* also carry a state, which each step moves by the batch means of KL and R = -E_q log p(x|z), in nats. The
state is plain numbers that a checkpoint keeps, so that a resumed run ends with the same bytes.

- `SoftFreeBits`: R + g KL with 0 < g <= 1. g grows by `change` where KL exceeds the target by more than `tolerance` of it,
  and shrinks by as much where KL is below the target (Chen et al., "Variational Lossy Autoencoder", ICLR 2017, appendix C,
  https://arxiv.org/abs/1611.02731: 10 % and 5 %). Unlike free bits, the KL keeps a gradient at every value.
- `GECO`: minimise KL subject to R <= goal. The Lagrangian KL + l (R - goal) is divided by l here, which leaves the
  minimiser where it is: R + KL / l. The multiplier l rises while the constraint is violated and falls after: log l moves by
  rate * (moving average of R - goal) (Rezende & Viola, "Taming VAEs", 2018, https://arxiv.org/abs/1810.00597).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mpdvae.errors import InputError
from mpdvae.vae import check_samples

Schedule = Callable[[int], float]
"""From the step (from 0) to a weight."""

LEAST_SOFT_WEIGHT = 1e-4
"""Below this g does not fall: it would take as many steps to come back."""
LARGEST_LOG_MULTIPLIER = math.log(1e4)


@dataclass(frozen=True)
class Constant:
    """A weight that stays the same (1: the ELBO; another value: beta-VAE)."""

    value: float = 1.0

    def __call__(self, step: int) -> float:
        return self.value


@dataclass(frozen=True)
class Linear:
    """From `start` to 1 in `warm_up_steps` steps, then 1 (KL annealing)."""

    warm_up_steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        check_samples(self.warm_up_steps, "warm_up_steps")

    def __call__(self, step: int) -> float:
        return min(1.0, self.start + (1 - self.start) * step / self.warm_up_steps)


@dataclass(frozen=True)
class Cyclical:
    """`cycles` times, over `total_steps`: from 0 to 1 in the first `rising_fraction` of the cycle, then 1; 1 afterwards."""

    total_steps: int
    cycles: int = 4
    rising_fraction: float = 0.5

    def __post_init__(self) -> None:
        check_samples(self.total_steps, "total_steps")
        check_samples(self.cycles, "cycles")
        if not 0 < self.rising_fraction <= 1:
            raise InputError(f"rising_fraction: expected a number in (0, 1], got {self.rising_fraction}.")

    def __call__(self, step: int) -> float:
        if step >= self.total_steps:
            return 1.0
        position = (step * self.cycles / self.total_steps) % 1.0
        return min(1.0, position / self.rising_fraction)


@runtime_checkable
class AdaptiveWeight(Protocol):
    """A weight with a state that follows what is measured."""

    state: dict[str, float]
    """All that changes: a checkpoint holds it."""

    def __call__(self, step: int) -> float: ...

    def adapt(self, kl_nats: float, reconstruction_nats: float) -> None:
        """Moves the state by the batch means of one step."""
        ...


class SoftFreeBits:
    """The factor g of the KL, which keeps it near a target.

    Arguments:
        target_nats: of the batch mean of the total KL, > 0.
        change: relative change of g in one step.
        tolerance: how far above the target, relative to it, the KL may be before g grows.
    """

    def __init__(self, target_nats: float, change: float = 0.1, tolerance: float = 0.05) -> None:
        if not (target_nats > 0 and change > 0 and tolerance >= 0):
            raise InputError(
                "soft free bits: expected target_nats > 0, change > 0 and tolerance >= 0, got "
                f"{target_nats}, {change} and {tolerance}."
            )
        self.target_nats, self.change, self.tolerance = target_nats, change, tolerance
        self.state = {"weight": 1.0}

    def __call__(self, step: int) -> float:
        return min(1.0, max(LEAST_SOFT_WEIGHT, self.state["weight"]))  # a checkpoint may hold anything

    def adapt(self, kl_nats: float, reconstruction_nats: float) -> None:
        weight = self.state["weight"]
        if kl_nats > self.target_nats * (1 + self.tolerance):
            self.state["weight"] = min(1.0, weight * (1 + self.change))
        elif kl_nats < self.target_nats:
            self.state["weight"] = max(LEAST_SOFT_WEIGHT, weight * (1 - self.change))


class GECO:
    """1 / l, with l the multiplier of the constraint R <= goal.

    Arguments:
        goal_nats: of the batch mean of R.
        rate: of log l, for each nat of (averaged) violation and step, > 0.
        smoothing: decay of the moving average of R - goal, in [0, 1).
    """

    def __init__(self, goal_nats: float, rate: float = 1e-3, smoothing: float = 0.9) -> None:
        if not (rate > 0 and 0 <= smoothing < 1):
            raise InputError(f"GECO: expected rate > 0 and smoothing in [0, 1), got {rate} and {smoothing}.")
        self.goal_nats, self.rate, self.smoothing = goal_nats, rate, smoothing
        self.state = {"log_multiplier": 0.0, "violation_nats": 0.0, "adapted": 0.0}

    @property
    def multiplier(self) -> float:
        """l."""
        return math.exp(_within(self.state["log_multiplier"]))

    def __call__(self, step: int) -> float:
        return 1 / self.multiplier

    def adapt(self, kl_nats: float, reconstruction_nats: float) -> None:
        violation = reconstruction_nats - self.goal_nats
        if self.state["adapted"]:
            violation = self.smoothing * self.state["violation_nats"] + (1 - self.smoothing) * violation
        moved = self.state["log_multiplier"] + self.rate * violation
        self.state = {"log_multiplier": _within(moved), "violation_nats": violation, "adapted": 1.0}


def _within(log_multiplier: float) -> float:
    """As far as training lets it go: a checkpoint may hold anything."""
    return max(-LARGEST_LOG_MULTIPLIER, min(LARGEST_LOG_MULTIPLIER, log_multiplier))
