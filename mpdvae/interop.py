"""Models trained with the authors' released code of MAE, as models of this package.

The released code describes a model by a JSON configuration with a `type` for each part, and saves a state dict. Both map to
this package without loss: the configuration to an `Experiment`, each released layer to one of ours by the tables below, its
tensors `weight_g`, `weight_v` and `bias` to gain, direction and bias. Three things differ:

- masks are buffers there and are made anew here; reversed 2-D flows are causal in turned coordinates here, so their kernels
  are turned by 180 degrees;
- 1x1 layers `nins1.0` and `nins2.0` of its PixelCNN++ are never used; they have no counterpart and are left out;
- names from several devices carry `.module.`, which is dropped.

`import_run` makes a run folder of the two files that the released code leaves behind. Its weights are a pickle, of which
nothing but tensors is ever read.

Released code: XuezheMax/mae, branch master (2019), https://github.com/XuezheMax/mae.
"""

import io
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mpdvae.checksums import record
from mpdvae.errors import InputError, refuse_unknown
from mpdvae.experiment import Data, Experiment, ImageShape, in_words, with_changes
from mpdvae.parts import (
    ColourResNetDecoder,
    ColourResNetEncoder,
    DecoderConfig,
    DenseNetEncoder,
    EncoderConfig,
    FlowPrior,
    MapFlowPrior,
    PixelCNNDecoder,
    PixelCNNPPDecoder,
    PriorConfig,
    ResNetDecoder,
    ResNetEncoder,
    StandardNormalPrior,
)
from mpdvae.reading import in_short, read_bytes
from mpdvae.runs import Run, check_folder, read_json
from mpdvae.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

    from mpdvae.vae import VAE

Pairs = Iterator[tuple[str, str]]
"""(name of the released layer, name of ours)"""

TENSORS = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
    "bias": "bias",
}
LARGEST_STATE = 1 << 32
"""Bytes of weights; the largest released model has 200 million."""
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
"""What each section of a released configuration may say, by its type."""


def from_official(config: Mapping[str, Any], state_dict: Mapping[str, "Tensor"]) -> "VAE":
    """The model that the released code describes by `config` and has saved as `state_dict`, in eval mode.

    Raises:
        InputError: for a type or option that the released code does not have, and for tensors that are missing, surplus or of
            another shape; nothing is loaded then.
    """
    experiment, image_shape = experiment_of(config)
    return load_released(experiment, image_shape, state_dict)


def load_released(experiment: Experiment, image_shape: ImageShape, state_dict: Mapping[str, "Tensor"]) -> "VAE":
    """The model of `experiment` with the weights in `state_dict`, which have released names; in eval mode.

    Raises:
        InputError: as `from_official`.
    """
    vae = experiment.build(image_shape)
    vae.load_state_dict(_renamed(experiment, vae, state_dict))
    return vae.eval()


def import_run(config: Path, state: Path, out: Path, command: str, dataset: str | None = None) -> Run:
    """A run folder, as if trained here, of a released configuration (JSON) and its weights (see `read_state`).

    Arguments:
        command: noted in the manifest.
        dataset: what the model was trained on, by its name in `mpdvae data list`; None: mnist, or cifar10 for colour.

    Raises:
        InputError: where either cannot be read or they do not fit each other, and for a folder that is not empty. Nothing is
            written then.
    """
    check_folder(out)
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out}: exists and is not empty; choose another --out.", topic="taken")
    released = read_json(config)
    experiment, image_shape = experiment_of(released)
    if dataset is not None:
        experiment = with_changes(experiment, data__dataset=dataset)
    vae = load_released(experiment, image_shape, read_state(state))
    run = Run.create(out, experiment)
    run.save_model(vae, image_shape)
    run.write_history([])
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in vae.named_children()}
    run.note(
        version=__version__,
        parameters=parts | {"total": sum(parts.values())},
        seed=experiment.seed,
        command=command,
        imported={"config": str(config), "state": str(state), "sha256": _sha256(state)},
        status="trained",
    )
    record(run)
    return run


def read_state(path: Path) -> "dict[str, Tensor]":
    """Tensors by name from a file that `torch.save(model.state_dict(), path)` wrote, or from a .safetensors file.

    Raises:
        InputError: for a file that is damaged or holds anything but tensors by name. No code in it is ever run.
    """
    import pickle
    import warnings

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise InputError(
            f"{path}: no such file; expected a state dict saved by torch.save, or a .safetensors file.",
            topic="released-code",
        )
    if path.suffix == ".safetensors":
        try:
            return load(read_bytes(path, LARGEST_STATE))
        except SafetensorError as error:
            raise InputError(
                f"{path}: not a readable safetensors file ({in_short(error)}).", topic="released-code"
            ) from None
    content = io.BytesIO(read_bytes(path, LARGEST_STATE))
    _refuse_packed(content, path)
    try:
        with warnings.catch_warnings(action="ignore"):
            state = torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch wraps the reason in advice on how to run whatever is in the file, which is not passed on.
        harmful = "global" in str(error).lower() or "unsupported" in str(error).lower()
        reason = "holds more than tensors, and would run code of its own when read" if harmful else "is damaged"
        raise InputError(
            f"{path}: {reason}; expected what torch.save(model.state_dict(), ...) writes.", topic="released-code"
        ) from None
    except Exception as error:  # whatever a damaged file makes torch stumble over: OSError, EOFError, KeyError, ...
        reason = in_short(error)
        raise InputError(
            f"{path}: not readable as what torch.save(model.state_dict(), ...) writes ({reason}).",
            topic="released-code",
        ) from None
    if not isinstance(state, dict):
        raise InputError(
            f"{path}: expected a state dict, tensors by name, got a {type(state).__name__}.", topic="released-code"
        )
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise InputError(
                f"{path}: expected a state dict, tensors by name, got a {type(value).__name__} under "
                f"{repr(name)[:100]}; save model.state_dict() alone.",
                topic="released-code",
            )
    return dict(state)


def _refuse_packed(content: "io.BytesIO", path: Path) -> None:
    """Raises `InputError` for an archive with packed members: torch packs none, and a few of them can fill any memory."""
    import zipfile

    try:
        with zipfile.ZipFile(content) as archive:
            packed = any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, LookupError, OSError, RuntimeError, struct.error):
        packed = False  # no archive: the old form, or damaged, as torch will say
    content.seek(0)
    if packed:
        raise InputError(
            f"{path}: holds packed members; expected what torch.save(model.state_dict(), ...) writes.",
            topic="released-code",
        )


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def experiment_of(config: object) -> tuple[Experiment, ImageShape]:
    """The experiment, and the image shape, that a released configuration describes.

    Raises:
        InputError: names the field that cannot be understood.
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
            "encoder.posterior_flow: no released model has one (it cannot be built there); leave it out.",
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
    """Without what is null."""
    return {name: value for name, value in section.items() if value is not None}


def _type(section: Mapping[str, Any], where: str, known: list[str], options: str = "") -> str:
    """The type of a section, which is one of those `known` and has no options but those of its type."""
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


def _renamed(experiment: Experiment, vae: "VAE", released: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """The released tensors under our names; refuses any that is missing, surplus or of another shape."""
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
        extra = f"{len(surplus)} are not of this model (first: {surplus[0]})" if surplus else ""
        raise InputError(
            f"state dict: {'; '.join(filter(None, [lacking, extra]))}; is it of this configuration?",
            topic="released-code",
        )
    renamed = {}
    for name, own in expected.items():
        tensor = given[name]
        if not tensor.is_floating_point() or tensor.is_sparse:
            raise InputError(
                f"state dict: {name} holds {tensor.dtype} ({tensor.layout}), expected dense real numbers.",
                topic="released-code",
            )
        if tensor.shape != ours[own].shape:
            raise InputError(
                f"state dict: {name} has shape {tuple(tensor.shape)}, expected {tuple(ours[own].shape)}; "
                "is it of this configuration?",
                topic="released-code",
            )
        turned = ".bwd." in name and tensor.ndim == 4 and name.endswith("weight_v")
        renamed[own] = tensor.flip(-2, -1) if turned else tensor
    return renamed


_DEAD = ("decoder.core.core.nins1.0.", "decoder.core.core.nins2.0.")


def released_layers(experiment: Experiment) -> Pairs:
    """Every layer of the released model that `experiment` describes, with the name of ours."""
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
    # Released: blocks of one size in one module, then a convolution and its ELU; the head is convolution, ELU, convolution.
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
        # A pass counts its layers through: gated blocks, and one change of size between levels; the way up starts at 1.
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
