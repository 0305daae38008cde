"""Presets that train quickly on a laptop, for `mpdvae.sklearn`: networks by name, and settings for short training runs.

    word               grey images             colour images           colour images with decoder pixelcnn
                       (black and white)       (256 levels)            (256 levels; codes are maps)
    auto (decoder)     pixelcnn, or convnet    convnet                 -
    convnet            strided convolutions    strided convolutions    residual blocks of the released code
    mlp                fully connected         fully connected         -
    pixelcnn           PixelCNN                -                       PixelCNN++
    flow               autoregressive flow over vectors                the same over maps
    standard-normal    N(0, I)                 N(0, I)                 N(0, I)

Grey networks are those of scale `minutes` (`mpdvae.experiments.studies`), with two changes that save time: a PixelCNN of two
layers instead of three, whose smaller receptive field leaves more to the code, and a flow of one block instead of two. A
configuration of `mpdvae.experiments` can be given instead of a word and is used as is.

Grey images are made black and white, as in the paper, if at least half of their pixels are nearly that (`FEWEST_EXTREME`):
digits and drawings. With "auto", others, such as photographs, keep their 256 levels, like colour images: drawn in black and
white they would be noise.

The usual decoder of images of levels has independent pixels: its code has to hold all that pixels have in common, so that it
is good after few steps (`python -m benchmarks estimator` compares it with principal components). A PixelCNN reaches a better
likelihood in fewer steps, but leaves less to a code that is a vector.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mpdvae.distributions.pixel_values import MODELLED, PixelDistribution, PixelValues
from mpdvae.errors import InputError, refuse_unknown
from mpdvae.experiments.decoder_config import ColourResNetDecoder, MLPDecoder, PixelCNNDecoder, PixelCNNPPDecoder
from mpdvae.experiments.encoder_config import ColourResNetEncoder, MLPEncoder
from mpdvae.experiments.fields import Config
from mpdvae.experiments.prior_config import MapFlowPrior, StandardNormalPrior
from mpdvae.experiments.studies import COMPACT_MNIST

QUICK_PIXELCNN = PixelCNNDecoder(channels=16, kernel_sizes=(5, 3), condition_channels=2)
QUICK_FLOW = COMPACT_MNIST.flow.model_copy(update={"blocks": 1})
GREY: Mapping[str, Mapping[str, Config]] = {
    "encoder": {"convnet": COMPACT_MNIST.encoder, "mlp": MLPEncoder()},
    "decoder": {"pixelcnn": QUICK_PIXELCNN, "convnet": COMPACT_MNIST.independent, "mlp": MLPDecoder()},
    "prior": {"flow": QUICK_FLOW, "standard-normal": StandardNormalPrior()},
}
COLOUR: Mapping[str, Mapping[str, Config]] = {
    **GREY,
    "decoder": {word: decoder for word, decoder in GREY["decoder"].items() if word != "pixelcnn"},
}
COLOUR_MAPS: Mapping[str, Mapping[str, Config]] = {
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

AUTO = "auto"
"""Instead of a word or a number: what suits the images."""
NEARLY, FEWEST_EXTREME = 0.1, 0.5
"""A pixel within a tenth of black or white is nearly that. Of the pixels of MNIST 0.91 are, of 8x8 digits 0.65, of CIFAR-10
in grey 0.10, of Frey faces 0.001."""
LEVELS: PixelDistribution = "discretised-logistic"
AVERAGED_SHARE = 0.1
"""Maximum window of weight averaging, as a fraction of the steps: in a short run a longer average would lag behind."""
STEPS_BETWEEN_EVALUATIONS = 50
"""Minimum, provided that it leaves ten evaluation points: each costs about as much as ten steps."""
LAST_RATE = 0.1
"""Learning rate at the last step as a fraction of the first: plays the role that halving at plateaus has in long runs."""
FEWEST_EPOCHS, ENOUGH_STEPS = 20, 2_000
"""A run of a preset: so many epochs, or more if few images make short ones. Codes of few images hardly improve after that."""
FEWEST_PATIENT, PATIENT_SHARE = 10, 0.2
"""Epochs without progress after which such a run stops: so many, or this share of it if that is more."""
INITIAL_IMAGES = 100
"""Images for the data-dependent initialisation: means over 100 images and all their pixels are accurate enough."""


def enough_epochs(epoch_steps: int) -> int:
    """Returns the number of epochs of a run that is long enough for good codes."""
    return max(FEWEST_EPOCHS, math.ceil(ENOUGH_STEPS / epoch_steps))


def patience_of(epochs: int) -> int:
    """Returns the number of epochs without progress after which such a run stops."""
    return max(FEWEST_PATIENT, math.ceil(PATIENT_SHARE * epochs))


def short_training(epochs: int, epoch_steps: int, patience: int | None) -> dict[str, Any]:
    """Returns fields of `Training` for a run of a few epochs.

    Arguments:
        epochs: maximum number of epochs.
        epoch_steps: steps per epoch.
        patience: epochs without progress after which training stops, rounded up to evaluation points, at least two; None:
            no early stopping.
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


def are_drawings(levels: UInt8[np.ndarray, "n channel height width"]) -> bool:
    """Returns whether grey images are nearly black and white, so that little is lost if they are made so."""
    extreme = (levels <= NEARLY * 255) | (levels >= (1 - NEARLY) * 255)
    return bool(extreme.mean() >= FEWEST_EXTREME)


def parts(given: Mapping[str, Any], channels: int, drawings: bool = True) -> dict[str, Config]:
    """Returns the configurations of encoder, decoder and prior for images with `channels` channels.

    Arguments:
        given: of each role a word of the table above, or a configuration of `mpdvae.experiments`.
        channels: channels of the images, 1 or 3.
        drawings: whether grey images are nearly black and white.

    Raises:
        InputError: for an unknown word, or one without a preset for such images.
    """
    usual: Any = "convnet"
    if channels == 1:
        usual = "pixelcnn" if drawings else GREY["decoder"]["convnet"].model_copy(update={"pixels": LEVELS})
    words = GREY if channels == 1 else COLOUR
    decoder = usual if isinstance(given["decoder"], str) and given["decoder"] == AUTO else given["decoder"]
    if channels != 1 and (decoder == "pixelcnn" or getattr(decoder, "codes", None) == "maps"):
        words = COLOUR_MAPS
    return {role: _part(role, decoder if role == "decoder" else given[role], words[role]) for role in words}


def _part(role: str, given: Any, words: Mapping[str, Config]) -> Config:
    if isinstance(given, Config):
        return given
    if not isinstance(given, str):
        raise InputError(f"{role}: expected a word or a configuration of mpdvae.experiments, got {given!r}.")
    if given in words:
        return words[given]
    if given not in GREY[role]:
        known = [AUTO, *words] if role == "decoder" else list(words)
        refuse_unknown(role, given, known, "A configuration of mpdvae.experiments is also accepted.")
    raise InputError(
        f"{role}: {given!r} has no preset for colour images with codes that are maps; choose {' or '.join(words)}, or "
        'decoder "convnet".',
        topic="image-shape",
    )


def values_for(decoder: Config, channels: int, levels: int = 256) -> PixelValues:
    """Returns the values that pixels of images with so many channels are given: grey ones are made black and white, those of
    colour, and of other numbers of levels than 256, stay levels, unless the decoder has chosen a distribution of other
    values."""
    usual: PixelValues = "binary" if channels == 1 and levels == 256 else "levels"
    pixels = getattr(decoder, "pixels", None)
    return usual if pixels is None or usual in MODELLED[pixels] else MODELLED[pixels][0]
