r"""Step rules: how a training step updates a VAE, all parts together or the encoder ahead of the decoder.

Collapse can be caused by an encoder that *lags*: the decoder learns to ignore z before q(z|x) has learned to follow the
model's posterior. Lagging inference (He, Spokoyny, Neubig & Berg-Kirkpatrick, ICLR 2019, https://arxiv.org/abs/1901.05534,
algorithm 1) lets the encoder catch up first. While the run is *aggressive*, each step

1. updates only the encoder, on fresh batches, up to `encoder_steps` times; after every `check_every` updates their mean
   loss is compared with that of the `check_every` updates before, and once it is no lower, the encoder has caught up;
2. then updates only decoder and prior, once.

At every evaluation point the mutual information I_q(x; z) of the validation images is measured; once it has failed to rise
`patience` times in total, the encoder no longer lags, and the rest of the run updates all parts together.

A rule's state consists of plain numbers and is saved in checkpoints, so that a resumed run gives bit-identical results.
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
"""Updates only the encoder on the batch with the given number; returns its loss on that batch."""


def trainable(*modules: nn.Module) -> list[nn.Parameter]:
    """Returns the parameters of the modules that are to be trained: all but frozen ones, as of a backbone trained before."""
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


@runtime_checkable
class StepRule(Protocol):
    """What happens around the update of each step."""

    state: dict[str, float]
    """Everything that changes; saved in checkpoints."""

    def catch_up(self, encoder_step: EncoderStep) -> None:
        """Called before a step: updates the encoder as often as the rule requires."""
        ...

    def moving(self, vae: VAE) -> list[nn.Parameter]:
        """Returns the parameters that the step itself updates."""
        ...

    def evaluated(self, vae: VAE, x: Float[Tensor, "n channel height width"]) -> None:
        """Called at an evaluation point: examines the posteriors of the validation images."""
        ...


@dataclass
class Joint:
    """Every step updates encoder, decoder and prior together."""

    state: dict[str, float] = field(default_factory=dict)

    def catch_up(self, encoder_step: EncoderStep) -> None:
        pass

    def moving(self, vae: VAE) -> list[nn.Parameter]:
        return trainable(vae)

    def evaluated(self, vae: VAE, x: Float[Tensor, "n channel height width"]) -> None:
        pass


@dataclass
class Lagging:
    """The encoder catches up before each step of decoder and prior, until the mutual information no longer rises.

    Arguments:
        encoder_steps: maximum number of encoder steps before each step (He et al.: 100).
        check_every: encoder steps between comparisons of the mean loss with that of the steps before (He et al.: 10).
        patience: evaluation points without a rise after which all parts are updated together (He et al.: 5).
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
            return trainable(vae.decoder, vae.prior)
        return trainable(vae)

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
