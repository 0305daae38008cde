"""Skip connections: every layer of a decoder sees z, whatever the layers before make of it."""

import pytest
import torch
from constructors import DECODERS, binary_images, shaken
from torch import nn

pytestmark = pytest.mark.usefixtures("float64")

SHAPE, LATENT = (1, 8, 8), 3
SKIP = {"mlp-skip": 3, "convnet-skip": 3, "resnet-skip": 3, "pixelcnn-z-everywhere": 5}
"""Decoders, and their layers with the first."""
PLAIN = {"mlp": 2, "convnet-2": 3, "resnet-3": 4, "pixelcnn-skips": 6}


def layers_of(decoder: nn.Module) -> nn.ModuleList:
    """Where z is added, in the order of the layers."""
    return decoder.body.told if hasattr(decoder, "body") else decoder.network.told


def first_of(decoder: nn.Module) -> nn.Module:
    """What z reaches in a decoder without skip connections."""
    if hasattr(decoder, "network"):
        return decoder.network.first
    return decoder.body.stages[0] if hasattr(decoder.body, "stages") else decoder.body[0]


def depends_on_code(decoder: nn.Module) -> bool:
    z, x = torch.randn(5, LATENT), binary_images(1, *SHAPE)
    return decoder(z).log_prob(x).std().item() > 1e-9


def forget(module: nn.Module) -> None:
    """The module's output is zero from now on."""
    module.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))


@pytest.mark.parametrize("name", PLAIN)
def test_without_skip_connections_the_first_layer_is_the_only_one_to_see_the_code(name):
    decoder = shaken(DECODERS[name].build(SHAPE, LATENT))
    assert depends_on_code(decoder)
    forget(first_of(decoder))
    assert not depends_on_code(decoder)


@pytest.mark.parametrize(("name", "layers"), SKIP.items())
def test_every_later_layer_sees_the_code_by_itself(name, layers):
    """With z cut off everywhere but at one layer, the image still depends on it."""
    for kept in range(layers - 1):
        decoder = shaken(DECODERS[name].build(SHAPE, LATENT))
        told = layers_of(decoder)
        assert len(told) == layers - 1
        forget(first_of(decoder))
        for index, layer in enumerate(told):
            if index != kept:
                forget(layer)
        assert depends_on_code(decoder)
        forget(told[kept])
        assert not depends_on_code(decoder)
