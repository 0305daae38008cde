r"""Weights that a model cannot compute with are named before anything is computed.

Three kinds, each in a different place:

    stored     a tensor of the file has NaN or infinite values
    effective  a weight that is computed from others does: :math:`w = g v / \lVert v \rVert` with v = 0, :math:`e^g` that
               overflows; or it vanishes, because gains or directions of its layer do
    outputs    weights so large that the model's own distributions have parameters that are not finite

The first needs no torch and no network, only the file; the others are checked where models are loaded. The outputs cost a
forward pass, so they are computed only for weights larger than those of any trained network.
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Origin
from mpdvae.runs.tensor_file import METADATA, read_header
from mpdvae.system.closed_folder import Inside
from mpdvae.system.regular_files import File
from mpdvae.system.untrusted_files import in_short, parse_json

if TYPE_CHECKING:
    import torch

    from mpdvae.vae import VAE

SHADES, NEAREST = 65, 3
"""Number of grey images that are encoded, and of those whose densities are computed."""
USUAL = 20.0
"""Magnitude that weights, and logarithms of gains, of trained networks hardly ever exceed."""
LEAST_LOG_GAIN = -104.0
"""The exponential of anything less is 0 in single precision; the gain of a plain layer, a norm, is never so negative."""
DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
"""Types of safetensors that numpy has, by its names for them."""
LARGEST_WEIGHTS = 1 << 30
"""Bytes of a file of weights that are looked through; the largest model of the paper has 55 million."""
PIECE = 1 << 23
"""Bytes that are looked through at once: a multiple of every number's size."""
GAIN = "parametrizations.weight.original0"
VANISHES = "and the direction beside it give a layer whose weights all vanish"
ADVICE = "take the file from its source again, or train again with a smaller --training.learning-rate"


@dataclass(frozen=True)
class _Stored:
    """What a tensor of a file holds."""

    name: str
    values: int
    not_finite: int
    largest: float


def check_stored(weights: Inside) -> None:
    """Raises `InputError`, naming a tensor, if the file `weights` has values that are not finite, or a normalised weight that
    vanishes. Other faults of the file are left to those who load it; types that numpy does not have are left out."""
    for tensor in _stored(weights):
        if tensor.not_finite:
            told = f"has {tensor.not_finite:,} of {tensor.values:,} values that are not finite numbers"
            _refuse(weights, tensor.name, told)
        if tensor.name.endswith(GAIN) and tensor.values and tensor.largest < LEAST_LOG_GAIN:
            _refuse(weights, tensor.name, VANISHES)


def _stored(weights: Inside) -> Iterator[_Stored]:
    """Yields what the tensors of real numbers in a file hold, until something in it is not as in a safetensors file. Reads it
    in pieces: a file of any size takes no memory."""
    with suppress(InputError, OSError, ValueError, TypeError, KeyError, AttributeError), weights.open() as file:
        header = read_header(file, weights)
        tensors = [
            (*about["data_offsets"], name, about["dtype"]) for name, about in parse_json(header.content[8:]).items()
            if name != METADATA
        ]  # fmt: skip
        end = 0
        for start, stop, name, dtype in sorted(tensors):
            if not end <= start <= stop <= LARGEST_WEIGHTS:  # tensors that overlap could be read for ever
                return
            if dtype in DTYPES:
                file.seek(len(header.content) + start)
                yield _read(file, name, DTYPES[dtype], stop - start)
            end = stop


def _read(file: File, name: str, dtype: str, length: int) -> _Stored:
    """Reads a tensor of so many bytes. Raises `ValueError` if the file ends before."""
    import numpy as np

    values, not_finite, largest = 0, 0, -math.inf
    for start in range(0, length, PIECE):
        part = np.frombuffer(file.read(min(PIECE, length - start)), dtype)
        if part.nbytes < min(PIECE, length - start):
            raise ValueError("the file ends within a tensor")
        finite = np.isfinite(part)
        values, not_finite = values + part.size, not_finite + part.size - int(finite.sum())
        largest = max(largest, float(part.max()))
    return _Stored(name, values, not_finite, largest)


def check_tensors(tensors: "dict[str, torch.Tensor]", weights: Path | Inside) -> None:
    """Raises `InputError`, naming a tensor and `weights`, where they come from, if one has values that are not finite."""
    for name, tensor in sorted(tensors.items()):
        if count := tensor.numel() - int(tensor.isfinite().sum()):
            _refuse(weights, name, f"has {count:,} of {tensor.numel():,} values that are not finite numbers")


def check_model(vae: "VAE", weights: Path | Inside) -> None:
    """Raises `InputError`, naming a tensor and the file `weights`, if the model of an experiment cannot compute with its
    weights."""
    import torch

    check_tensors(vae.state_dict(), weights)
    _check_examples(vae, weights)
    with torch.no_grad():
        _check_effective(vae, weights)
        sizes = {name: value.abs().amax().item() for name, value in vae.named_parameters() if value.numel()}
        name = max(sizes, key=lambda name: sizes[name], default="")
        if name and sizes[name] > USUAL and not _computes(vae):
            _refuse(weights, name, f"has values up to {sizes[name]:.3g}, with which the model's outputs are not finite")


def _check_examples(vae: "VAE", weights: Path | Inside) -> None:
    """Raises `InputError` if a conditional model would draw images of a class that it does not have."""
    classes, covariates = vae.condition
    if not classes or not covariates:
        return
    name = "decoder.embedding.examples"
    labels = vae.get_buffer(name)[:, 0]
    if not ((labels >= 0) & (labels < classes) & (labels == labels.round())).all():
        _refuse(weights, name, f"has other classes than 0 to {classes - 1}")


def _check_effective(vae: "VAE", weights: Path | Inside) -> None:
    from torch.nn.utils import parametrize

    for name, layer in vae.named_modules():
        if not parametrize.is_parametrized(layer, "weight"):
            continue
        weight = getattr(layer, "weight")  # noqa: B009 - a property that type checkers do not know
        mask = getattr(layer.get_submodule("parametrizations.weight.0"), "mask", None)
        if not weight.isfinite().all():
            _refuse(weights, f"{name}.parametrizations.weight", "gives a normalised weight that is not finite")
        if not weight.any() and (mask is None or mask.any()):
            _refuse(weights, f"{name}.{GAIN}", VANISHES)


def _computes(vae: "VAE") -> bool:
    """Returns whether the model gives a black image, or else one of the shades with the smallest codes, and codes of its own,
    finite densities. Black is far from all images of a model that was trained on images of low contrast."""
    import torch

    from mpdvae.seeding import seeded

    assert isinstance(vae.origin, Origin)
    lowest, highest = vae.origin.experiment.data.image_range
    training = vae.training
    vae.eval()
    try:
        with seeded("weights that compute"):
            if _gives_density(vae, lowest):
                return True
            sizes = {shade: _size_of_code(vae, shade) for shade in torch.linspace(lowest, highest, SHADES).tolist()}
            nearest = sorted(sizes, key=lambda shade: sizes[shade])[:NEAREST]
            return any(_gives_density(vae, shade) for shade in nearest if math.isfinite(sizes[shade]))
    finally:
        vae.train(training)


def _size_of_code(vae: "VAE", shade: float) -> float:
    """Returns the largest number in the code of an image of one shade; infinity if it has no valid code."""
    try:
        q = vae.encoder(_of_shade(vae, shade))
    except ValueError:  # torch's distributions refuse parameters that are not finite
        return math.inf
    largest = max(float(q.mean.abs().max()), float(q.variance.max()))
    return largest if math.isfinite(largest) else math.inf


def _of_shade(vae: "VAE", shade: float) -> "torch.Tensor":
    """Returns an image of one shade, with what a conditional model is told."""
    import torch

    from mpdvae.data.conditions import with_condition

    assert isinstance(vae.origin, Origin)
    x = torch.full((1, *vae.origin.image_shape), shade, dtype=torch.float32)  # whatever torch's default type is
    if not vae.condition.channels:
        return x
    draw_told = getattr(vae.decoder, "draw_told")  # noqa: B009 - a method that type checkers do not know
    return with_condition(x, draw_told(torch.Size((1,))))


def _gives_density(vae: "VAE", shade: float) -> bool:
    """Returns whether an image of one shade, and codes for it and of the prior, have finite densities."""
    x = _of_shade(vae, shade)
    try:
        q, p = vae.encoder(x), vae.prior()
        for z in (q.mean, q.sample(), p.sample((1,))):
            parts = (q.log_prob(z), p.log_prob(z), vae.decoder(z).log_prob(x))
            if not all(bool(part.isfinite().all()) for part in parts):
                return False
        return True
    except ValueError:  # as above
        return False


def _refuse(weights: Path | Inside, name: str, what: str) -> NoReturn:
    raise InputError(f"{weights}: {in_short(name, 200)} {what}; {ADVICE}.", topic="not-a-number")
