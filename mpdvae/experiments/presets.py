"""What a laptop trains soon: networks by one word, and the training of a short run, for `mpdvae.sklearn`.

    word               grey images (black and white pixels)      colour images (256 levels; codes are maps)
    convnet            strided convolutions                      residual blocks of the released code
    mlp                fully connected                           -
    pixelcnn           PixelCNN                                  PixelCNN++
    flow               autoregressive flow over vectors          the same over maps
    standard-normal    N(0, I)                                   N(0, I)

Grey networks are those of scale `minutes` (`mpdvae.experiments.scales`), but for a PixelCNN of two layers in place of
three, which sees less, so that more comes through the code, and a flow of one block in place of two: both take less time. A
configuration of `mpdvae.experiments.model_config` in place of a word is taken as it is.
"""

import math
from collections.abc import Mapping
from typing import Any

from mpdvae.errors import InputError, refuse_unknown
from mpdvae.experiments.fields import Config
from mpdvae.experiments.model_config import (
    ColourResNetDecoder,
    ColourResNetEncoder,
    MapFlowPrior,
    MLPDecoder,
    MLPEncoder,
    PixelCNNDecoder,
    PixelCNNPPDecoder,
    StandardNormalPrior,
)
from mpdvae.experiments.scales import COMPACT_MNIST

QUICK_PIXELCNN = PixelCNNDecoder(channels=16, kernel_sizes=(5, 3), condition_channels=2)
QUICK_FLOW = COMPACT_MNIST.flow.model_copy(update={"blocks": 1})
GREY: Mapping[str, Mapping[str, Config]] = {
    "encoder": {"convnet": COMPACT_MNIST.encoder, "mlp": MLPEncoder()},
    "decoder": {"pixelcnn": QUICK_PIXELCNN, "convnet": COMPACT_MNIST.independent, "mlp": MLPDecoder()},
    "prior": {"flow": QUICK_FLOW, "standard-normal": StandardNormalPrior()},
}
COLOUR: Mapping[str, Mapping[str, Config]] = {
    "encoder": {"convnet": ColourResNetEncoder(channels=16, blocks=(1, 1, 1))},
    "decoder": {
        "pixelcnn": PixelCNNPPDecoder(channels=16, levels=2, blocks=1, condition_channels=8, components=5, dropout=0.0),
        "convnet": ColourResNetDecoder(channels=16, blocks=(1, 1, 1), components=5),
    },
    "prior": {
        "flow": MapFlowPrior(blocks=1, hidden_channels=32, hidden_layers=1),
        "standard-normal": StandardNormalPrior(),
    },
}

AVERAGED_SHARE = 0.1
"""Of the steps, over which weights are averaged at the most: in a short run a longer average would lag behind."""
STEPS_BETWEEN_EVALUATIONS = 50
"""At the least, where that leaves ten evaluation points: each costs as much as some ten steps."""
LAST_RATE = 0.1
"""Of the first learning rate, at the last step: a short run gains by it what a long one gains by halving at plateaus."""
INITIAL_IMAGES = 100
"""Of the data-dependent initialisation: means over 100 images and all their pixels are exact enough."""


def short_training(epochs: int, epoch_steps: int, patience: int | None) -> dict[str, Any]:
    """Fields of `Training` for a run of few epochs.

    Arguments:
        epochs: at the most.
        epoch_steps: steps of one.
        patience: epochs without progress after which it stops, rounded up to evaluation points, two at least; None: never.
    """
    steps = epochs * epoch_steps
    apart = max(1, min(math.ceil(STEPS_BETWEEN_EVALUATIONS / epoch_steps), epochs // 10))
    still = None if patience is None else max(1, math.ceil(patience / apart) - 1)
    return COMPACT_MNIST.training.model_dump() | {
        "steps": steps,
        "evaluate_every": apart * epoch_steps,
        "plateau": None if still is None else {"patience": still, "limit": 1},
        "decay_per_step": LAST_RATE ** (1 / max(steps, 1)),
        "averaging": min(COMPACT_MNIST.training.averaging, max(0.0, 1 - 1 / max(AVERAGED_SHARE * steps, 1))),
        "initial_images": INITIAL_IMAGES,
    }


def part(role: str, given: Any, channels: int) -> Config:
    """The configuration of a part: `given` itself, or what the word means for images of so many channels.

    Arguments:
        role: encoder, decoder or prior.
        given: a word of the table above, or a configuration of `mpdvae.experiments.model_config`.
        channels: of the images, 1 or 3.

    Raises:
        InputError: for an unknown word, and for one that has no form for colour.
    """
    if isinstance(given, Config):
        return given
    if not isinstance(given, str):
        raise InputError(
            f"{role}: expected a word or a configuration of mpdvae.experiments.model_config, got {given!r}."
        )
    words = (GREY if channels == 1 else COLOUR)[role]
    if given in words:
        return words[given]
    if given not in GREY[role]:
        refuse_unknown(role, given, list(words), "A configuration of mpdvae.experiments.model_config is taken, too.")
    raise InputError(
        f"{role}: {given!r} has no form for colour images; choose {' or '.join(words)}, or give grey images.",
        topic="image-shape",
    )
