"""Networks by one word, small enough for a laptop: what `mpdvae.sklearn` makes of `decoder="pixelcnn"`.

    word               grey images (black and white pixels)      colour images (256 levels; codes are maps)
    convnet            strided convolutions                      residual blocks of the released code
    mlp                fully connected                           -
    pixelcnn           PixelCNN                                  PixelCNN++
    flow               autoregressive flow over vectors          the same over maps
    standard-normal    N(0, I)                                   N(0, I)

Grey networks are those of scale `minutes` (`mpdvae.studies`). A configuration of `mpdvae.parts` in place of a word is taken
as it is.
"""

from collections.abc import Mapping
from typing import Any

from mpdvae.config import Config
from mpdvae.errors import InputError, refuse_unknown
from mpdvae.parts import (
    ColourResNetDecoder,
    ColourResNetEncoder,
    MapFlowPrior,
    MLPDecoder,
    MLPEncoder,
    PixelCNNPPDecoder,
    StandardNormalPrior,
)
from mpdvae.studies import COMPACT_MNIST

GREY: Mapping[str, Mapping[str, Config]] = {
    "encoder": {"convnet": COMPACT_MNIST.encoder, "mlp": MLPEncoder()},
    "decoder": {"pixelcnn": COMPACT_MNIST.autoregressive, "convnet": COMPACT_MNIST.independent, "mlp": MLPDecoder()},
    "prior": {"flow": COMPACT_MNIST.flow, "standard-normal": StandardNormalPrior()},
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


def part(role: str, given: Any, channels: int) -> Config:
    """The configuration of a part: `given` itself, or what the word means for images of so many channels.

    Arguments:
        role: encoder, decoder or prior.
        given: a word of the table above, or a configuration of `mpdvae.parts`.
        channels: of the images, 1 or 3.

    Raises:
        InputError: for an unknown word, and for one that has no form for colour.
    """
    if isinstance(given, Config):
        return given
    if not isinstance(given, str):
        raise InputError(f"{role}: expected a word or a configuration of mpdvae.parts, got {given!r}.")
    words = (GREY if channels == 1 else COLOUR)[role]
    if given in words:
        return words[given]
    if given not in GREY[role]:
        refuse_unknown(role, given, list(words), "A configuration of mpdvae.parts is taken, too.")
    raise InputError(
        f"{role}: {given!r} has no form for colour images; choose {' or '.join(words)}, or give grey images.",
        topic="image-shape",
    )
