"""Translates JSON configurations of the released code of MAE to an `Experiment`.

A released configuration has a section for each part, with a `type` and the options of that type (`OPTIONS`); anything else
is rejected. Released code: XuezheMax/mae, branch master (2019), https://github.com/XuezheMax/mae.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mpdvae.errors import InputError, refuse_unknown
from mpdvae.experiments.data_config import Data
from mpdvae.experiments.decoder_config import (
    ColourResNetDecoder,
    DecoderConfig,
    PixelCNNDecoder,
    PixelCNNPPDecoder,
    ResNetDecoder,
)
from mpdvae.experiments.encoder_config import ColourResNetEncoder, DenseNetEncoder, EncoderConfig, ResNetEncoder
from mpdvae.experiments.experiment import Experiment, ImageShape, in_words
from mpdvae.experiments.prior_config import FlowPrior, MapFlowPrior, PriorConfig, StandardNormalPrior

KERNELS = {"small": (7, 7, 7, 5, 5, 3, 3), "large": (7, 7, 7, 7, 7, 5, 5, 5, 5, 3, 3, 3, 3)}
ENCODERS: dict[str, EncoderConfig] = {
    "resnet_binary_28x28": ResNetEncoder(),
    "resnet_color_32x32": ColourResNetEncoder(),
    "densenet_color_32x32": DenseNetEncoder(),
    "densenet_color_64x64": DenseNetEncoder(growths=(15, 16, 16, 16), steps=(3, 3, 3, 3)),
}
IMAGE_SHAPES = {
    "resnet_binary_28x28": (1, 28, 28),
    "resnet_color_32x32": (3, 32, 32),
    "densenet_color_32x32": (3, 32, 32),
    "densenet_color_64x64": (3, 64, 64),
}
DECODERS = (
    "pixelcnn_binary_28x28",
    "resnet_binary_28x28",
    "pixelcnn++_color_32x32",
    "pixelcnn++_color_64x64",
    "resnet_color_32x32",
)
FLOWS = ("af_made", "af2d_made")
OPTIONS = {
    "encoder": {"type", "core", "prior_flow", "posterior_flow", "ngpu"},
    "resnet_binary_28x28": {"type", "nz", "ngpu"},
    "pixelcnn_binary_28x28": {"type", "nz", "mode", "ngpu"},
    "resnet_color_32x32": {"type", "z_channels", "nmix", "ngpu"},
    "densenet_color_32x32": {"type", "z_channels"},
    "densenet_color_64x64": {"type", "z_channels"},
    "pixelcnn++_color_32x32": {"type", "z_channels", "h_channels", "nmix", "dropout", "activation", "ngpu"},
    "pixelcnn++_color_64x64": {"type", "z_channels", "h_channels", "nmix", "dropout", "activation", "ngpu"},
    "af_made": {"type", "input_size", "num_blocks", "num_hiddens", "hidden_size", "bias", "var"},
    "af2d_made": {
        *("type", "in_channels", "height", "width", "num_blocks", "kernel_size", "num_hiddens", "hidden_channels"),
        *("hidden_kernels", "bias", "var"),
    },
}
"""Options allowed in each section of a released configuration, by its type."""


def experiment_of(config: object) -> tuple[Experiment, ImageShape]:
    """Returns the experiment and the image shape that a released configuration describes.

    Raises:
        InputError: if a field cannot be interpreted; names the field.
    """
    if not isinstance(config, Mapping):
        raise InputError(
            "released configuration: expected a JSON object with the sections encoder and decoder.",
            topic="released-code",
        )
    unknown = sorted(config.keys() - {"encoder", "decoder"})
    if unknown:
        refuse_unknown("section of a released configuration", str(unknown[0]), ["encoder", "decoder"])
    encoder, decoder = _section(config, "encoder"), _section(config, "decoder")
    _type(encoder, "encoder", ["gaussian"], "encoder")
    core = _section(encoder, "encoder.core", "core")
    if encoder.get("posterior_flow") is not None:
        raise InputError(
            "encoder.posterior_flow: no released model has one (the released code cannot build it); leave it out.",
            topic="released-code",
        )
    kind = _type(core, "encoder.core", list(ENCODERS))
    image_shape = IMAGE_SHAPES[kind]
    latent_dim = _whole(core, "encoder.core", "nz" if image_shape[0] == 1 else "z_channels")
    try:
        experiment = Experiment(
            name="released",
            model="released",
            scale="paper",
            reproduces="A model trained with the authors' released code.",
            data=Data(
                dataset="mnist" if image_shape[0] == 1 else "cifar10",
                binarisation="dynamic" if image_shape[0] == 1 else "levels",
                evaluation_draws=5 if image_shape[0] == 1 else 1,
            ),
            latent_dim=latent_dim,
            encoder=ENCODERS[kind],
            decoder=_decoder(decoder, image_shape, latent_dim),
            prior=_prior(encoder, latent_dim),
        )
    except ValidationError as error:
        raise InputError(in_words(error)) from None
    return experiment, image_shape


def _decoder(section: Mapping[str, Any], image_shape: ImageShape, latent_dim: int) -> DecoderConfig:
    kind = _type(section, "decoder", list(DECODERS))
    size = "x".join(map(str, image_shape[1:]))
    if not kind.endswith(size) or (image_shape[0] == 1) != ("binary" in kind):
        raise InputError(
            f"decoder.type: {kind} does not fit the encoder's {size} images of {image_shape[0]} channels.",
            topic="released-code",
        )
    _same(section, "decoder", "nz" if image_shape[0] == 1 else "z_channels", latent_dim)
    if kind == "resnet_binary_28x28":
        return ResNetDecoder()
    if kind == "pixelcnn_binary_28x28":
        mode = section.get("mode", "")
        if not isinstance(mode, str) or mode not in KERNELS:
            refuse_unknown("decoder.mode", str(mode), list(KERNELS))
        return PixelCNNDecoder(kernel_sizes=KERNELS[mode])
    components = _whole(section, "decoder", "nmix")
    if kind == "resnet_color_32x32":
        return ColourResNetDecoder(components=components)
    activation = section.get("activation", "elu")
    if activation not in ("elu", "concat_elu"):
        refuse_unknown("decoder.activation", str(activation), ["elu", "concat_elu"])
    large = kind == "pixelcnn++_color_64x64"
    return PixelCNNPPDecoder(
        channels=64 if large else 96,
        levels=4 if large else 3,
        doublings=3 if large else 2,
        blocks=4 if large else 6,
        condition_channels=_whole(section, "decoder", "h_channels"),
        components=components,
        dropout=section.get("dropout", 0.0),
        activation="elu" if activation == "elu" else "concatenated-elu",
    )


def _prior(encoder: Mapping[str, Any], latent_dim: int) -> PriorConfig:
    if encoder.get("prior_flow") is None:
        return StandardNormalPrior()
    where = "encoder.prior_flow"
    flow = _section(encoder, where, "prior_flow")
    kind = _type(flow, where, list(FLOWS))
    if flow.get("bias", True) is not True:
        raise InputError(
            f"{where}.bias: only flows with biases can be imported, got {repr(flow['bias'])[:100]}.",
            topic="released-code",
        )
    blocks, layers = _whole(flow, where, "num_blocks"), _whole({"num_hiddens": 1, **flow}, where, "num_hiddens")
    mean_only = not flow.get("var", True)
    if kind == "af_made":
        _same(flow, where, "input_size", latent_dim)
        hidden = _whole({"hidden_size": 10 * latent_dim} | _given(flow), where, "hidden_size")
        return FlowPrior(blocks=blocks, hidden_features=hidden, hidden_layers=layers, mean_only=mean_only)
    _same(flow, where, "in_channels", latent_dim)
    size = _whole(flow, where, "kernel_size")
    kernels = flow.get("hidden_kernels")
    if kernels not in (None, [size] * layers):
        raise InputError(
            f"{where}.hidden_kernels: expected kernel_size {size} for each of {layers} layers, got {str(kernels)[:100]}.",
            topic="released-code",
        )
    return MapFlowPrior(
        blocks=blocks,
        hidden_channels=_whole({"hidden_channels": 8 * latent_dim} | _given(flow), where, "hidden_channels"),
        hidden_layers=layers - 1,
        kernel_size=size,
        mean_only=mean_only,
    )


def _section(config: Mapping[str, Any], where: str, name: str = "") -> Mapping[str, Any]:
    section = config.get(name or where)
    if not isinstance(section, Mapping):
        raise InputError(
            f"{where}: expected a section of the released configuration, got {repr(section)[:100]}.",
            topic="released-code",
        )
    return section


def _given(section: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that are not null."""
    return {name: value for name, value in section.items() if value is not None}


def _type(section: Mapping[str, Any], where: str, known: list[str], options: str = "") -> str:
    """Returns the type of a section; it must be one of `known`, and the section may have only the options of its type."""
    kind = section.get("type", "")
    if kind not in known:
        refuse_unknown(f"{where}.type", str(kind), known)
    allowed = OPTIONS[options or kind]
    unknown = sorted(section.keys() - allowed)
    if unknown:
        refuse_unknown(f"option of {where}", str(unknown[0]), sorted(allowed))
    return kind


def _whole(section: Mapping[str, Any], where: str, name: str) -> int:
    value = section.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(
            f"{where}.{name}: expected a whole number >= 1, got {repr(value)[:100]}.", topic="released-code"
        )
    return value


def _same(section: Mapping[str, Any], where: str, name: str, latent_dim: int) -> None:
    if _whole(section, where, name) != latent_dim:
        raise InputError(
            f"{where}.{name}: expected {latent_dim} as in encoder.core, got {section[name]}.", topic="released-code"
        )
