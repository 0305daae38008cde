"""Configuration of the training loop: optimiser, schedule, evaluation points, step rule, and recovery from non-finite steps.

The defaults are those of the released code of MAE for binary images.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mpdvae.experiments.fields import AtLeastTwo, Config, Count, Fraction, GrownConfig

if TYPE_CHECKING:
    from mpdvae.objectives.step_rules import StepRule


class JointInference(Config):
    """Every step updates encoder, decoder and prior together."""

    kind: Literal["joint"] = "joint"

    def build(self) -> "StepRule":
        from mpdvae.objectives.step_rules import Joint

        return Joint()


class LaggingInference(Config):
    """The encoder catches up before each step of decoder and prior, until the mutual information no longer rises."""

    kind: Literal["lagging"] = "lagging"
    encoder_steps: Count = 100
    """Maximum number of encoder steps before each step."""
    check_every: Count = 10
    """Encoder steps between checks of their mean loss: the encoder continues until it no longer falls."""
    patience: Count = 5
    """Evaluation points without a rise of the mutual information after which all parts are updated together."""

    def build(self) -> "StepRule":
        from mpdvae.objectives.step_rules import Lagging

        return Lagging(self.encoder_steps, self.check_every, self.patience)


class Plateau(Config):
    """Halve the learning rate when validation stops improving, as in the released code: at the first evaluation without
    progress after `patience` of them, with a fresh optimiser; the `limit`-th time, training stops."""

    fresh_optimizer: bool = True
    """Reset the optimiser's moments, as the released code does."""
    patience: Count = 20
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    limit: Count = 3


class Recovery(Config):
    """Handling of a non-finite loss or gradient: the step is skipped; after several in a row the run rolls back to its last
    checkpoint with a smaller learning rate; after too many rollbacks it stops."""

    skipped_in_a_row: Count = 5
    """Consecutive skipped steps that trigger a rollback."""
    learning_rate_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Factor on the learning rate at each rollback."""
    rollbacks: Annotated[int, Field(ge=0)] = 2
    """Maximum number of rollbacks."""


class Training(GrownConfig):
    """Settings of the training loop; defaults are those of the released code for binary images."""

    later = frozenset({"images_at_once"})

    steps: Count = 580_000
    """Maximum number of updates (paper: 1,000 epochs of 580)."""
    batch_size: AtLeastTwo = 100
    images_at_once: Count | None = None
    """Images that pass through the networks at once, for batches that are too large for the memory: the gradient is still
    that of the whole batch, with all its pairs, and a step takes about a third longer. None: the whole batch."""
    optimizer: Literal["adam", "adamax"] = "adam"
    learning_rate: Annotated[float, Field(gt=0, le=1e6)] = 1e-3
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    decay_per_step: Fraction = 0.999998
    plateau: Plateau | None = Plateau()
    least_learning_rate_fraction: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Training stops below this fraction of the initial learning rate."""
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay per step of the averaged weights, which are used for validation, sampling and results."""
    averaging_warm_up: bool = False
    """Let the average forget early weights faster: decay min(averaging, (1 + k) / (10 + k)) at step k. For short runs, in
    which a fixed decay of 0.999 (the released code) is far behind."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 5.0
    """Maximum global norm of the gradient."""
    compile: bool = False
    """Compile networks with torch: pays off after a few thousand steps; needs a C++ compiler, or Triton on a GPU."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Precision of the networks during training. auto: before a run starts, times training steps in both precisions, each
    uncompiled and (in long runs) compiled, and chooses the fastest whose loss agrees; sets compile, too."""
    initial_images: AtLeastTwo = 500
    """Images for the data-dependent initialisation; with fewer than 16 the weights stay as they were drawn."""
    evaluate_every: Count = 580
    """Steps between evaluation points (validation, checkpoint), the unit of plateau.patience."""
    validation_images: AtLeastTwo | None = None
    """Validation images per evaluation point; None: all images with all draws."""
    validation_samples: Count = 5
    """Draws of z per validation image."""
    inference: Annotated[JointInference | LaggingInference, Field(discriminator="kind")] = JointInference()
    recovery: Recovery = Recovery()
