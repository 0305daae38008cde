"""Exports encoders, and decoders with independent pixels, as ONNX graphs that run without torch and without this package.

    part       input                                    outputs
    encoder    images [batch channel height width]      mean, log_variance of q(z|x), [batch latent...]
    decoder    codes [batch latent...]                  probabilities that a pixel is white, [batch channel height width];
                                                        for colour images, log_weights, means, log_scales and coefficients
                                                        of each pixel's mixture (`mpdvae.distributions.logistic_mixture`)

A graph of a conditional model has more inputs, for what the model is told of each image (`mpdvae.data.conditions`):

    labels        int64 [batch]               number of its class: 0, 1, ...
    covariates    float32 [batch covariate]   in the units of training

Images are then given without the condition, and a decoder's outputs are those of the images alone. The graph checks neither:
it computes something for covariates far from those of training, too.

The batch axis is dynamic. Weight normalisation is folded into the weights, which are constants. Before a graph is written,
onnxruntime runs it on inputs and a batch size other than those of the trace, and its outputs are compared with the model's.
The graph's metadata, under `mpdvae`, describes the graph and holds the configuration of its model; `class_names`, if classes
have names, are in the order of their numbers.

A graph has no loops and no gradients, so autoregressive pixels and refined posteriors cannot be exported; priors are not
exported.

ONNX: https://onnx.ai/onnx/intro; torch's exporter: https://docs.pytorch.org/docs/stable/onnx.html.
"""

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent
from torch.nn.utils import parametrize

from mpdvae.data.conditions import Condition, known_from
from mpdvae.distributions.categorical import CategoricalPixels
from mpdvae.distributions.continuous_bernoulli import ContinuousBernoulliPixels
from mpdvae.distributions.discretised_logistic import DiscretisedLogistic
from mpdvae.distributions.gaussian import GaussianPixels
from mpdvae.distributions.logistic_mixture import DiscretisedLogisticMixture
from mpdvae.errors import InputError, RunError, refuse_unknown
from mpdvae.experiments.experiment import Origin
from mpdvae.models.conditional import WIDTH, ConditionalDecoder, ConditionalEncoder
from mpdvae.models.decoders import IndependentDecoder
from mpdvae.models.encoders import GaussianEncoder
from mpdvae.models.semi_amortised import SemiAmortised
from mpdvae.runs.model_folder import METADATA, NAMES
from mpdvae.seeding import seeded
from mpdvae.system.atomic_files import write_atomically
from mpdvae.version import __version__

if TYPE_CHECKING:
    from mpdvae.vae import VAE

PARTS = ["encoder", "decoder"]
TOLERANCE = 1e-4
"""Largest difference allowed between model and graph: absolute for values up to 1 in size, relative for larger ones."""


class _Moments(nn.Module):
    """Maps images to the mean and log variance of their posteriors."""

    outputs = ("mean", "log_variance")

    def __init__(self, encoder: GaussianEncoder | ConditionalEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, x: Tensor, labels: Tensor | None = None, covariates: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return _within(self.encoder).moments(_with_features(self.encoder, x, labels, covariates))


_READINGS: dict[type[Distribution], dict[str, Callable[[Any], Tensor]]] = {
    Bernoulli: {"probabilities": lambda p: p.probs},
    DiscretisedLogistic: {"means": lambda p: p.location, "log_scales": lambda p: p.log_scale},
    DiscretisedLogisticMixture: {
        "log_weights": lambda p: p.log_weights,
        "means": lambda p: p.means,
        "log_scales": lambda p: p.log_scales,
        "coefficients": lambda p: p.coefficients,
    },
    CategoricalPixels: {"logits": lambda p: p.logits},
    GaussianPixels: {"means": lambda p: p.mean, "log_sigma": lambda p: p.log_sigma},
    ContinuousBernoulliPixels: {"logits": lambda p: p.logits},
}
"""The outputs of a decoder's graph, for each distribution of its pixels: the parameters that define it."""


class _Pixels(nn.Module):
    """Maps codes to the parameters of each pixel's distribution."""

    def __init__(
        self,
        decoder: IndependentDecoder | ConditionalDecoder,
        readings: Mapping[str, Callable[[Any], Tensor]],
    ) -> None:
        super().__init__()
        self.decoder, self.outputs, self.readings = decoder, tuple(readings), tuple(readings.values())

    def forward(self, z: Tensor, labels: Tensor | None = None, covariates: Tensor | None = None) -> tuple[Tensor, ...]:
        decoder = _within(self.decoder)
        p = _unwrapped(decoder.law_now(decoder.body(_with_features(self.decoder, z, labels, covariates))))
        return tuple(read(p) for read in self.readings)


def _within(part: Any) -> Any:
    """Returns the encoder or decoder within a conditional one; another one itself."""
    if isinstance(part, ConditionalEncoder):
        return part.encoder
    return part.decoder if isinstance(part, ConditionalDecoder) else part


def _with_features(part: Any, given: Tensor, labels: Tensor | None = None, covariates: Tensor | None = None) -> Tensor:
    """Returns images or codes as `_within(part)` takes them."""
    told = [] if labels is None else [labels.to(given.dtype)[:, None]]
    told += [] if covariates is None else [covariates]
    return part.with_features(given, torch.cat(told, 1)) if told else given


def _unwrapped(p: Distribution) -> Distribution:
    """A distribution of independent pixels, without torch's wrapper that makes images of them."""
    return p.base_dist if type(p) is Independent else p


@dataclass(frozen=True)
class _Graph:
    """A module to trace, and two batches of its inputs by name: one for tracing, one for checking."""

    module: _Moments | _Pixels
    traced: dict[str, Tensor]
    checked: dict[str, Tensor]


def export(vae: "VAE", path: str | Path, part: str = "encoder") -> None:
    """Writes a part of the model to an ONNX file.

    Arguments:
        vae: the model; it is not modified.
        path: path of the file; an existing file is replaced.
        part: "encoder", or "decoder" if its pixels are independent.

    Raises:
        InputError: if no graph can represent the part (the message says why), or the packages of the extra `export` are not
            installed.
        RunError: if the graph's outputs differ from the model's; nothing is written then.
    """
    if part not in PARTS:
        refuse_unknown("part", part, PARTS)
    graph = _encoder_graph(vae) if part == "encoder" else _decoder_graph(vae)
    _require_onnx()
    with _quietly():
        program = torch.onnx.export(
            graph.module,
            kwargs=graph.traced,
            input_names=list(graph.traced),
            dynamic_shapes={name: {0: torch.export.Dim.DYNAMIC} for name in graph.traced},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props[METADATA] = json.dumps(_about(vae, part))
    _name_outputs(program.model.graph, graph.module.outputs)
    for value in program.model.graph.inputs:
        value.doc_string = _described(str(value.name), vae.condition)
    content = program.model_proto.SerializeToString()
    _check(content, graph)
    write_atomically(Path(path), content)


def _encoder_graph(vae: "VAE") -> _Graph:
    if isinstance(vae.encoder, SemiAmortised):
        raise InputError(
            "part: this encoder refines posteriors by gradient steps through the decoder, and a graph has no gradients; "
            "train with encoder.refinement-steps 0.",
            topic="onnx",
        )
    within = _within(vae.encoder)
    if not isinstance(within, GaussianEncoder):
        raise InputError(
            f"part: expected an encoder of mpdvae.models.encoders, got {type(within).__name__}.", topic="onnx"
        )
    channel, height, width = within.image_shape
    shape = (channel - (0 if within is vae.encoder else WIDTH), height, width)
    return _Graph(_Moments(_plain(vae.encoder)).eval(), *(_batch("x", shape, count, vae) for count in (2, 3)))


def _decoder_graph(vae: "VAE") -> _Graph:
    if not isinstance(_within(vae.decoder), IndependentDecoder):
        raise InputError(
            "part: each pixel of this decoder depends on those before it, so decoding needs a loop, which a graph cannot "
            "hold; export the encoder, or train a decoder with independent pixels.",
            topic="onnx",
        )
    batches = [_batch("z", vae.latent_shape, count, vae) for count in (2, 3)]
    codes, *told = batches[0].items()
    with torch.no_grad():
        p = _unwrapped(_within(vae.decoder)(_with_features(vae.decoder, codes[1], **dict(told))))
    readings = dict(_READINGS[type(p)])
    if isinstance(p, DiscretisedLogisticMixture) and p.event_shape[0] == 1:
        del readings["coefficients"]  # a grey pixel has none
    return _Graph(_Pixels(_plain(vae.decoder), readings).eval(), *batches)


def _batch(name: str, shape: tuple[int, ...], count: int, vae: "VAE") -> dict[str, Tensor]:
    """Returns inputs for tracing and checking, by name, that depend on `count` and the model alone: values in 0..1 and, for a
    conditional model, what it is told of so many images."""
    with seeded("export", count):
        given = torch.rand(count, *shape).to(next(vae.parameters()))
        if not vae.condition.channels:
            return {name: given}
        known = known_from(cast(ConditionalDecoder, vae.decoder).draw_told(torch.Size((count,))), vae.condition)
    return {name: given} | {told: numbers for told, numbers in known._asdict().items() if numbers is not None}


def _plain(part: Any) -> Any:
    """Returns a copy with weight normalisation folded into plain weights."""
    part = copy.deepcopy(part)
    for layer in part.modules():
        if parametrize.is_parametrized(layer, "weight"):
            # Not parametrize.remove_parametrizations: it changes the class, which a copy shares with its original.
            weight = layer.weight.detach()
            layer.__class__ = parametrize.type_before_parametrizations(layer)
            del layer.parametrizations
            layer.weight = nn.Parameter(weight)
    return part.requires_grad_(False)


def _name_outputs(graph: Any, names: tuple[str, ...]) -> None:
    """Gives the outputs of an onnx_ir graph their names, which torch's exporter would give even if a value within has one."""
    for value in [*graph.initializers.values(), *(value for node in graph for value in node.outputs)]:
        value.name = f"{value.name}_within" if value.name in names else value.name
    for value, name in zip(graph.outputs, names, strict=True):
        value.name = name


@contextmanager
def _quietly() -> Iterator[None]:
    """Silences the messages of torch's exporter about its own internals: unneeded packages, functions that will change."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _about(vae: "VAE", part: str) -> dict[str, Any]:
    about: dict[str, Any] = {"version": __version__, "part": part}
    if isinstance(vae.origin, Origin):
        experiment = vae.origin.experiment
        about["image_range"] = list(experiment.data.image_range)
        about["experiment"] = experiment.model_dump(mode="json")
        about |= {NAMES: list(vae.origin.class_names)} if vae.classes and vae.origin.class_names else {}
    return about


def _described(name: str, condition: Condition) -> str:
    """Returns what an input is, in words, for whoever opens the graph."""
    return {
        "labels": f"class of each image, from 0 to {condition.classes - 1}",
        "covariates": f"{condition.covariates} covariates of each image, in the units of training",
        "x": "images, in the range of values that the metadata name",
    }.get(name, "codes")


def _check(content: bytes, graph: _Graph) -> None:
    """Raises `RunError` unless onnxruntime computes the model's outputs from the graph."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(None, {name: numbers.cpu().numpy() for name, numbers in graph.checked.items()})
    with torch.no_grad():
        expected = graph.module(**graph.checked)
    for name, ours, theirs in zip(graph.module.outputs, _as_tuple(expected), found, strict=True):
        ours = ours.cpu()
        difference = ((torch.from_numpy(theirs) - ours).abs() / ours.abs().clamp_min(1)).max().item()
        if not difference <= TOLERANCE:
            raise RunError(
                f"{name}: the graph's values differ from the model's by {difference:.2g}; nothing was written.",
                topic="onnx",
            )


def _as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"export needs {error.name}: pip install 'mpdvae[export]'.", topic="extras") from None
