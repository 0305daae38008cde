"""Configuration of the KL's weight and how it changes; the theory is in `mpdvae.objectives.kl_weights`.

Each kind gives the number of steps of its schedule and has a `build` method; torch is imported only there.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mpdvae.experiments.fields import Config, Count, Fraction, Rate, Weight

if TYPE_CHECKING:
    from mpdvae.objectives.kl_weights import AdaptiveWeight, Schedule


class ConstantWeight(Config):
    """Constant weight of the KL: 1 is the ELBO, any other value a beta-VAE."""

    kind: Literal["constant"] = "constant"
    value: Weight = 1.0

    @property
    def steps(self) -> int:
        return 0

    def build(self) -> "Schedule":
        from mpdvae.objectives.kl_weights import Constant

        return Constant(self.value)


class LinearWeight(Config):
    """KL annealing: rises from `start` to 1 in `warm_up_steps`."""

    kind: Literal["linear"] = "linear"
    warm_up_steps: Count
    start: Annotated[float, Field(ge=0, le=1)] = 0.0

    @property
    def steps(self) -> int:
        return self.warm_up_steps

    def build(self) -> "Schedule":
        from mpdvae.objectives.kl_weights import Linear

        return Linear(self.warm_up_steps, self.start)


class CyclicalWeight(Config):
    """Cyclical KL annealing over `total_steps`."""

    kind: Literal["cyclical"] = "cyclical"
    total_steps: Count
    cycles: Count = 4
    rising_fraction: Fraction = 0.5

    @property
    def steps(self) -> int:
        return self.total_steps

    def build(self) -> "Schedule":
        from mpdvae.objectives.kl_weights import Cyclical

        return Cyclical(self.total_steps, self.cycles, self.rising_fraction)


class SoftFreeBitsWeight(Config):
    """Weight of at most 1 that keeps the KL near a target: shrinks while the KL is below, grows while it is above."""

    kind: Literal["soft-free-bits"] = "soft-free-bits"
    target_nats: Annotated[float, Field(gt=0)]
    """Target of the batch mean of the total KL."""
    change: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Relative change of the weight per step."""
    tolerance: Weight = 0.05
    """Relative excess of the KL over the target above which the weight grows."""

    @property
    def steps(self) -> int:
        return 0

    def build(self) -> "AdaptiveWeight":
        from mpdvae.objectives.kl_weights import SoftFreeBits

        return SoftFreeBits(self.target_nats, self.change, self.tolerance)


class GECOWeight(Config):
    """GECO: smallest KL for which the reconstruction meets a goal; the weight falls until it does, then rises."""

    kind: Literal["geco"] = "geco"
    goal_nats: float
    """Goal of the batch mean of -log p(x|z)."""
    rate: Annotated[float, Field(gt=0)] = 1e-3
    """Change of the log multiplier per step and nat of violation."""
    smoothing: Rate = 0.9
    """Decay of the moving average of the violation."""

    @property
    def steps(self) -> int:
        return 0

    def build(self) -> "AdaptiveWeight":
        from mpdvae.objectives.kl_weights import GECO

        return GECO(self.goal_nats, self.rate, self.smoothing)


KLWeightConfig = ConstantWeight | LinearWeight | CyclicalWeight | SoftFreeBitsWeight | GECOWeight
ADAPTIVE = ("soft-free-bits", "geco")
