"""Maps layer names of the released code of MAE to those of this package.

A released layer has tensors `weight_g`, `weight_v` and `bias`: its gain, direction and bias. Three things differ:

- masks are buffers in the released code and are recomputed here; reversed 2-D flows are causal in rotated coordinates here,
  so their kernels are rotated by 180 degrees;
- the 1x1 layers `nins1.0` and `nins2.0` of the released PixelCNN++ are never used; they have no counterpart and are left
  out;
- parameter names of models trained on several devices contain `.module.`, which is removed.

Released code: XuezheMax/mae, branch master (2019), https://github.com/XuezheMax/mae.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mpdvae.errors import InputError
from mpdvae.experiments.decoder_config import (
    ColourResNetDecoder,
    DecoderConfig,
    PixelCNNDecoder,
    PixelCNNPPDecoder,
    ResNetDecoder,
)
from mpdvae.experiments.encoder_config import ColourResNetEncoder, DenseNetEncoder, EncoderConfig, ResNetEncoder
from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.prior_config import FlowPrior, MapFlowPrior, PriorConfig

if TYPE_CHECKING:
    from torch import Tensor

    from mpdvae.vae import VAE

Pairs = Iterator[tuple[str, str]]
"""Pairs of (name of the released layer, name of ours)."""

TENSORS = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
    "bias": "bias",
}


def renamed(experiment: Experiment, vae: "VAE", released: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Returns the released tensors under our names.

    Raises:
        InputError: if a tensor is missing, surplus, of the wrong shape, or not dense and floating-point.
    """
    given = {name.replace(".module.", "."): tensor for name, tensor in released.items()}
    ours = vae.state_dict()
    unused = {name for name in given if name.endswith(".mask") or name.startswith(_DEAD)}
    expected = {
        f"{layer}.{tensor}": f"{own}.{own_tensor}"
        for layer, own in released_layers(experiment)
        for tensor, own_tensor in TENSORS.items()
    }
    missing, surplus = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys() - unused)
    if missing or surplus:
        lacking = f"{len(missing)} tensors are missing (first: {missing[0]})" if missing else ""
        extra = f"{len(surplus)} do not belong to this model (first: {surplus[0]})" if surplus else ""
        raise InputError(
            f"state dict: {'; '.join(filter(None, [lacking, extra]))}; check that it belongs to this configuration.",
            topic="released-code",
        )
    by_our_name = {}
    for name, own in expected.items():
        tensor = given[name]
        if not tensor.is_floating_point() or tensor.is_sparse:
            raise InputError(
                f"state dict: {name} holds {tensor.dtype} ({tensor.layout}), expected a dense floating-point tensor.",
                topic="released-code",
            )
        if tensor.shape != ours[own].shape:
            raise InputError(
                f"state dict: {name} has shape {tuple(tensor.shape)}, expected {tuple(ours[own].shape)}; "
                "check that it belongs to this configuration.",
                topic="released-code",
            )
        turned = ".bwd." in name and tensor.ndim == 4 and name.endswith("weight_v")
        by_our_name[own] = tensor.flip(-2, -1) if turned else tensor
    return by_our_name


_DEAD = ("decoder.core.core.nins1.0.", "decoder.core.core.nins2.0.")


def released_layers(experiment: Experiment) -> Pairs:
    """Yields the name of every layer of the released model that `experiment` describes, with that of ours."""
    yield from _encoder_layers(experiment.encoder)
    yield from _prior_layers(experiment.prior)
    yield from _decoder_layers(experiment.decoder)


def _encoder_layers(encoder: EncoderConfig) -> Pairs:
    if isinstance(encoder, ResNetEncoder):
        for i in range(3):
            yield from _block(f"encoder.core.main.0.main.{i}", f"encoder.body.{i}", "conv", shortcut=True)
        yield "encoder.core.main.1.conv", "encoder.body.3"
        yield "encoder.core.linear.linear", "encoder.body.6"
        return
    # Released code: blocks of one size in one module, then a convolution and its ELU; the head is conv, ELU, conv.
    ours = released = 0
    if isinstance(encoder, DenseNetEncoder):
        for steps in encoder.steps:
            for step in range(steps):
                for layer in (0, 2):
                    block = f"encoder.core.main.{released}.main.block{step}.main.{layer}.conv"
                    yield block, f"encoder.body.{ours}.steps.{step}.{layer}"
            yield f"encoder.core.main.{released + 1}.conv", f"encoder.body.{ours + 1}"
            ours, released = ours + 3, released + 3
    elif isinstance(encoder, ColourResNetEncoder):
        for level, count in enumerate(encoder.blocks):
            for i in range(count):
                block = f"encoder.core.main.{released}.main.{i}"
                yield from _block(block, f"encoder.body.{ours + i}", "conv", shortcut=level == 0 and i == 0)
            yield f"encoder.core.main.{released + 1}.conv", f"encoder.body.{ours + count}"
            ours, released = ours + count + 2, released + 3
    yield f"encoder.core.main.{released}.conv", f"encoder.body.{ours}"


def _prior_layers(prior: PriorConfig) -> Pairs:
    if not isinstance(prior, FlowPrior | MapFlowPrior):
        return
    networks = {"mu": "mean"} if prior.mean_only else {"mu": "mean", "logvar": "log_variance"}
    for block in range(prior.blocks):
        for order, step in (("bwd", 2 * block), ("fwd", 2 * block + 1)):
            for network, own in networks.items():
                released, ours = (
                    f"encoder.prior_flow.blocks.{block}.{order}.{network}",
                    f"prior.flow.steps.{step}.{own}",
                )
                yield f"{released}.direct_connect", f"{ours}.direct"
                if isinstance(prior, FlowPrior):
                    yield f"{released}.input_layer", f"{ours}.layers.0"
                    for i in range(prior.hidden_layers - 1):
                        yield f"{released}.hidden_layers.{i}", f"{ours}.layers.{i + 1}"
                    yield f"{released}.output_layer", f"{ours}.layers.{prior.hidden_layers}"
                else:
                    yield f"{released}.top_layer", f"{ours}.first"
                    for i in range(prior.hidden_layers):
                        yield f"{released}.hidden_layers.{i}", f"{ours}.hidden.{i}"
                    yield f"{released}.output_layer", f"{ours}.last"


def _decoder_layers(decoder: DecoderConfig) -> Pairs:
    if isinstance(decoder, ResNetDecoder):
        yield "decoder.core.0.deconv", "decoder.body.1"
        for i in range(3):
            yield from _block(f"decoder.core.2.main.{i}", f"decoder.body.{3 + i}", "deconv", shortcut=True)
    elif isinstance(decoder, ColourResNetDecoder):
        ours = 0
        for level, count in enumerate(decoder.blocks):
            yield f"decoder.core.{3 * level}.deconv", f"decoder.body.{ours}"
            for i in range(count):
                yield from _block(
                    f"decoder.core.{3 * level + 2}.main.{i}", f"decoder.body.{ours + 2 + i}", "deconv", False
                )
            ours += 2 + count
        yield f"decoder.core.{3 * len(decoder.blocks)}.conv", f"decoder.body.{ours}"
    elif isinstance(decoder, PixelCNNDecoder):
        yield from _pixelcnn_layers(len(decoder.kernel_sizes))
    elif isinstance(decoder, PixelCNNPPDecoder):
        yield from _pixelcnnpp_layers(decoder.levels, decoder.blocks, decoder.doublings)


def _block(released: str, ours: str, kind: str, shortcut: bool) -> Pairs:
    yield f"{released}.{kind}1.{kind}", f"{ours}.first"
    yield f"{released}.{kind}2.{kind}", f"{ours}.second"
    if shortcut:
        yield f"{released}.downsample.{kind}", f"{ours}.shortcut"


def _pixelcnn_layers(layers: int) -> Pairs:
    yield "decoder.z_transform.0.linear", "decoder.to_maps.0"
    yield "decoder.core.0.main.0.main.0", "decoder.network.first"
    chains = [(f"main.{i + 1}", f"blocks.{i}") for i in range(layers - 1)]
    chains += [(f"direct_connects.{i}", f"skips.{i}") for i in range(layers - 2)]
    for released, ours in chains:
        yield f"decoder.core.0.{released}.main.0.conv", f"decoder.network.{ours}.narrow"
        yield f"decoder.core.0.{released}.main.2", f"decoder.network.{ours}.causal"
        yield f"decoder.core.0.{released}.main.4.conv", f"decoder.network.{ours}.widen"
    yield "decoder.core.1.conv", "decoder.network.widen"
    yield "decoder.core.3.conv", "decoder.network.logits"


_GATED = {
    "h_conv1": "h_first",
    "h_conv2": "h_second",
    "down_conv1": "down_first",
    "down_conv2": "down_second",
    "down_conv3": "down_third",
    "down_right_conv1": "right_first",
    "down_right_conv2": "right_second",
    "down_right_conv3": "right_third",
    "nin": "nin",
}


def _pixelcnnpp_layers(levels: int, blocks: int, doublings: int) -> Pairs:
    core, net = "decoder.core.core", "decoder.network"
    for doubling in range(doublings):
        yield f"decoder.core.z_transform.level{doubling}.deconv", f"decoder.to_maps.{2 * doubling}"
    yield "decoder.core.z_transform.h_level.conv", f"decoder.to_maps.{2 * doublings}"
    for released, ours in (("down_conv1", "above"), ("down_conv2", "above_row"), ("down_right_conv", "left")):
        yield f"{core}.up_layers.0.{released}.conv", f"{net}.start.{ours}"
    for level in range(levels):
        # Each pass numbers its layers consecutively: gated blocks, one resizing between levels; the way up starts at 1.
        first = level * (blocks + 1)
        for block in range(blocks):
            for released, ours in _GATED.items():
                yield f"{core}.up_layers.{first + block + 1}.{released}.conv", f"{net}.up.{level}.{block}.{ours}"
                yield f"{core}.down_layers.{first + block}.{released}.conv", f"{net}.down.{level}.{block}.{ours}"
        if level:
            yield f"{core}.up_layers.{first}.down_conv.conv", f"{net}.halvings.{level - 1}.down"
            yield f"{core}.up_layers.{first}.down_right_conv.conv", f"{net}.halvings.{level - 1}.right"
            yield f"{core}.up_hs.{first}.conv.conv", f"{net}.h_halvings.{level - 1}"
            yield f"{core}.down_layers.{first - 1}.down_deconv.deconv", f"{net}.doublings.{level - 1}.down"
            yield f"{core}.down_layers.{first - 1}.down_right_deconv.deconv", f"{net}.doublings.{level - 1}.right"
            yield f"{core}.down_hs.{first - 1}.deconv.deconv", f"{net}.h_doublings.{level - 1}"
    for layer in range(1, levels * (blocks + 1) - 1):
        yield f"{core}.nins1.{layer}.nin.conv", f"{net}.merges.{layer - 1}.down"
        yield f"{core}.nins2.{layer}.nin.conv", f"{net}.merges.{layer - 1}.right"
    yield "decoder.core.output.1.conv", f"{net}.widen"
    yield "decoder.core.output.3.conv", f"{net}.parameters_of_pixels"
