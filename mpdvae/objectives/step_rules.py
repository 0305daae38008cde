r"""How a training step moves the two sides of a VAE: both together, or the encoder ahead of the decoder.

Collapse can come from an encoder that *lags*: the decoder learns to do without z before q(z|x) has learned to follow the
model's posterior. Lagging inference (He, Spokoyny, Neubig & Berg-Kirkpatrick, ICLR 2019, https://arxiv.org/abs/1901.05534,
algorithm 1) lets the encoder catch up first. While the run is *aggressive*, each step

1. moves the encoder alone, on fresh batches, up to `encoder_steps` times; after every `check_every` of them the mean loss
is compared with that of those before, and the first time that it is no lower the encoder has caught up; 2. then moves
decoder and prior alone, once.

At every evaluation point the mutual information I_q(x; z) of the validation images is measured; when it has not risen
`patience` times in all, the encoder no longer lags, and the rest of the run moves both together.

A rule's state is plain numbers that a checkpoint keeps, so that a resumed run ends with the same bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from mpdvae.errors import InputError
from mpdvae.measures.code_diagnostics import mutual_information
from mpdvae.measures.representation import posteriors
from mpdvae.vae import VAE

EncoderStep = Callable[[int], float]
"""Moves the encoder alone on the batch of that number; returns the loss that it had there."""


@runtime_checkable
class StepRule(Protocol):
    """What surrounds the update of each step."""

    state: dict[str, float]
    """All that changes: a checkpoint holds it."""

    def catch_up(self, encoder_step: EncoderStep) -> None:
        """Before a step: moves the encoder as often as the rule says."""
        ...

    def moving(self, vae: VAE) -> list[nn.Parameter]:
        """What the step itself moves."""
        ...

    def evaluated(self, vae: VAE, x: Float[Tensor, "n channel height width"]) -> None:
        """At an evaluation point: looks at the posteriors of the validation images."""
        ...


@dataclass
class Joint:
    """Every step moves encoder, decoder and prior together."""

    state: dict[str, float] = field(default_factory=dict)

    def catch_up(self, encoder_step: EncoderStep) -> None:
        pass

    def moving(self, vae: VAE) -> list[nn.Parameter]:
        return list(vae.parameters())

    def evaluated(self, vae: VAE, x: Float[Tensor, "n channel height width"]) -> None:
        pass


@dataclass
class Lagging:
    """The encoder catches up before each step of decoder and prior, until the mutual information no longer rises.

    Arguments:
        encoder_steps: at the most before each step (He et al.: 100).
        check_every: encoder steps whose losses are compared with those before (He et al.: 10).
        patience: evaluation points without a rise, after which both move together (He et al.: 5).
    """

    encoder_steps: int = 100
    check_every: int = 10
    patience: int = 5
    state: dict[str, float] = field(
        default_factory=lambda: {"aggressive": 1.0, "best_mutual_information_nats": 0.0, "without_rise": 0.0}
    )

    def __post_init__(self) -> None:
        if min(self.encoder_steps, self.check_every, self.patience) < 1:
            raise InputError(
                "lagging inference: expected encoder_steps, check_every and patience >= 1, got "
                f"{self.encoder_steps}, {self.check_every} and {self.patience}."
            )

    def catch_up(self, encoder_step: EncoderStep) -> None:
        if not self.state["aggressive"]:
            return
        before, losses = float("inf"), []
        for number in range(self.encoder_steps):
            losses.append(encoder_step(number))
            if len(losses) == self.check_every:
                mean = sum(losses) / len(losses)
                if mean >= before:
                    return
                before, losses = mean, []

    def moving(self, vae: VAE) -> list[nn.Parameter]:
        if self.state["aggressive"]:
            return [*vae.decoder.parameters(), *vae.prior.parameters()]
        return list(vae.parameters())

    def evaluated(self, vae: VAE, x: Float[Tensor, "n channel height width"]) -> None:
        if not self.state["aggressive"]:
            return
        information, _ = mutual_information(posteriors(vae, x))
        if information > self.state["best_mutual_information_nats"]:
            self.state["best_mutual_information_nats"] = information
        else:
            self.state["without_rise"] += 1
        if self.state["without_rise"] >= self.patience:
            self.state["aggressive"] = 0.0
