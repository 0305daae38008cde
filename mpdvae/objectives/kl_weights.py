r"""Weights of a term during training: schedules that depend on the step, and weights that adapt to measured quantities.

*Schedules* depend only on the step: constant (1: the ELBO; otherwise the beta-VAE of Higgins et al. 2017), KL annealing
(Bowman et al. 2016, https://arxiv.org/abs/1511.06349), cyclical annealing (Fu et al. 2019,
https://arxiv.org/abs/1903.10145).

*Adaptive weights* also have a state, which each step updates from the batch means of KL and R = -E_q log p(x|z), in nats.
The state consists of plain numbers and is saved in checkpoints, so that a resumed run gives bit-identical results.

- `SoftFreeBits`: R + g KL with 0 < g <= 1. g grows by the fraction `change` if the KL exceeds the target by more than the
  fraction `tolerance`, and shrinks by the same fraction if the KL is below the target (Chen et al., "Variational Lossy
  Autoencoder", ICLR 2017, appendix C, https://arxiv.org/abs/1611.02731: 10 % and 5 %). Unlike with free bits, the KL has a
  gradient at every value.
- `GECO`: minimise KL subject to R <= goal. The Lagrangian KL + l (R - goal) is divided by l here, which does not change the
  minimiser: R + KL / l. The multiplier l increases while the constraint is violated and decreases otherwise: log l changes
  by rate * (moving average of R - goal) (Rezende & Viola, "Taming VAEs", 2018, https://arxiv.org/abs/1810.00597).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mpdvae.errors import InputError
from mpdvae.vae import check_samples

Schedule = Callable[[int], float]
"""A function from the step (counted from 0) to a weight."""

LEAST_SOFT_WEIGHT = 1e-4
"""Lower limit of g: the further it falls, the more steps it takes to recover."""
LARGEST_LOG_MULTIPLIER = math.log(1e4)


@dataclass(frozen=True)
class Constant:
    """A constant weight (1: the ELBO; any other value: beta-VAE)."""

    value: float = 1.0

    def __call__(self, step: int) -> float:
        return self.value


@dataclass(frozen=True)
class Linear:
    """KL annealing: rises linearly from `start` to 1 in `warm_up_steps` steps, then stays at 1."""

    warm_up_steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        check_samples(self.warm_up_steps, "warm_up_steps")

    def __call__(self, step: int) -> float:
        return min(1.0, self.start + (1 - self.start) * step / self.warm_up_steps)


@dataclass(frozen=True)
class Cyclical:
    """Cyclical annealing: `cycles` cycles over `total_steps`, each rising from 0 to 1 in its first `rising_fraction` and
    then staying at 1; 1 after the last cycle."""

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
    """A weight with a state that follows measured quantities."""

    state: dict[str, float]
    """Everything that changes; saved in checkpoints."""

    def __call__(self, step: int) -> float: ...

    def adapt(self, kl_nats: float, reconstruction_nats: float) -> None:
        """Updates the state from the batch means of one step."""
        ...


class SoftFreeBits:
    """The factor g of the KL, which keeps the KL near a target.

    Arguments:
        target_nats: target of the batch mean of the total KL, > 0.
        change: relative change of g per step.
        tolerance: relative excess of the KL over the target above which g grows.
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
        return min(1.0, max(LEAST_SOFT_WEIGHT, self.state["weight"]))  # a checkpoint may contain any value

    def adapt(self, kl_nats: float, reconstruction_nats: float) -> None:
        weight = self.state["weight"]
        if kl_nats > self.target_nats * (1 + self.tolerance):
            self.state["weight"] = min(1.0, weight * (1 + self.change))
        elif kl_nats < self.target_nats:
            self.state["weight"] = max(LEAST_SOFT_WEIGHT, weight * (1 - self.change))


class GECO:
    """The weight 1 / l, with l the multiplier of the constraint R <= goal.

    Arguments:
        goal_nats: goal of the batch mean of R.
        rate: change of log l per step and nat of (averaged) violation, > 0.
        smoothing: decay of the moving average of R - goal, in [0, 1).
    """

    def __init__(self, goal_nats: float, rate: float = 1e-3, smoothing: float = 0.9) -> None:
        if not (rate > 0 and 0 <= smoothing < 1):
            raise InputError(f"GECO: expected rate > 0 and smoothing in [0, 1), got {rate} and {smoothing}.")
        self.goal_nats, self.rate, self.smoothing = goal_nats, rate, smoothing
        self.state = {"log_multiplier": 0.0, "violation_nats": 0.0, "adapted": 0.0}

    @property
    def multiplier(self) -> float:
        """The multiplier l."""
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
    """Clamps to the range that training allows: a checkpoint may contain any value."""
    return max(-LARGEST_LOG_MULTIPLIER, min(LARGEST_LOG_MULTIPLIER, log_multiplier))
