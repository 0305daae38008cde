"""A model as a folder of files that can be read without this package.

    model.safetensors   the weights; its header records the format, the image shape, the names of classes and the
                        version that wrote it
    experiment.json     the configuration from which the network is rebuilt          README.md   the model card

A run folder contains one as `model/`; `mpdvae.sharing` writes others. A model folder contains no pickles. The shapes of the
weights are compared with the configuration before memory is allocated for either.

A model folder may come from a stranger: no link in it is followed, except those of the hub's cache to its own blobs, which
the hub's client made.
"""

import json
import math
import os
import re
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment, ImageShape, Origin, origin_of, recorded
from mpdvae.runs.finite_weights import check_model
from mpdvae.runs.model_card import model_card
from mpdvae.runs.own_code import answers, check_answers, check_term_answers, term_answers
from mpdvae.runs.recorded_names import checked_names
from mpdvae.runs.tensor_file import Header, apart, read_header, read_tensors
from mpdvae.system.atomic_files import write_atomically
from mpdvae.system.closed_folder import Inside
from mpdvae.system.untrusted_files import LARGEST_JSON, in_short, parse_json, read_bytes
from mpdvae.version import __version__

if TYPE_CHECKING:
    from mpdvae.vae import VAE

MODEL_FORMAT = "1"
"""Format of a model folder. It changes when older versions would misread the folder; `load` still reads earlier formats."""
METADATA = "mpdvae"
"""Key of the model's metadata, as JSON, in the header of the weights file."""
NAMES = "class_names"
"""Key in that metadata, absent from models of earlier versions."""
BLOB = re.compile(r"\.\./\.\./blobs/([0-9a-f]{40,64})")
"""Links of the hub's cache, from snapshots/REVISION/ (https://huggingface.co/docs/huggingface_hub/guides/manage-cache)."""
LARGEST_SIDE = 4_096
"""Maximum number of channels, height or width of a model's images."""


def save_model(
    folder: Inside,
    vae: "VAE",
    experiment: Experiment,
    image_shape: ImageShape,
    card: str | None = None,
    class_names: tuple[str, ...] | None = None,
) -> None:
    """Writes `vae` as a folder of safetensors, JSON and a model card, from which `load` rebuilds it. `class_names` are as in
    `Origin`."""
    from safetensors.torch import save

    tensors = apart(vae.state_dict())
    about: dict[str, Any] = {"format": MODEL_FORMAT, "image_shape": list(image_shape), "version": __version__}
    if experiment.own_parts:
        about["answers"] = answers(vae, experiment, image_shape)._asdict()
    if experiment.objective.own_terms and all(part.make for part in experiment.objective.own_terms):
        about["terms"] = term_answers(vae, experiment, image_shape)._asdict()
    about |= {} if class_names is None else {NAMES: list(class_names)}
    write_atomically(folder / "experiment.json", experiment.to_json())
    write_atomically(folder / "README.md", card or model_card(experiment, image_shape, class_names=class_names or ()))
    # One entry: safetensors writes several entries in an order that varies between processes.
    write_atomically(folder / "model.safetensors", save(tensors, {METADATA: json.dumps(about)}))


def model_experiment(path: Path | str) -> Experiment:
    """Returns the experiment of the model in a run folder or model folder. Raises `InputError` if there is none."""
    return read_experiment(_model_in(Inside(Path(path))))


def load(path: Path | str) -> "VAE":
    """Returns the trained model in a run folder or model folder, with averaged weights and in eval mode.

    Raises `InputError` if there is no model, if its files do not match, or if it cannot compute with its weights.
    """
    run = Path(path)
    if not run.is_dir():
        raise InputError(f"{run}: no such folder; give the folder of a run or of a model.", topic="not-a-run")
    folder = _model_in(Inside(run))
    weights = _file(folder, "model.safetensors")
    if not weights.is_file():
        raise InputError(
            f"{folder}: has no model.safetensors; has the run reached its first evaluation point?", topic="not-a-run"
        )
    experiment = read_experiment(folder)
    try:
        with weights.open() as file:
            header = read_header(file, weights)
            image_shape, class_names = _described(header.metadata, weights)
            _check_shapes(experiment, image_shape, header, weights)
            tensors = read_tensors(file, header, weights)
    except OSError as error:
        raise InputError(f"{weights}: cannot be read ({in_short(error)}).", topic="damaged") from None
    vae = experiment.build(image_shape)
    try:
        vae.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(
            f"{weights}: does not fit experiment.json beside it: {in_short(str(error).splitlines()[1].strip())}",
            topic="damaged",
        ) from None
    check_model(vae, weights)
    if experiment.own_parts:
        given = parse_json(header.metadata[METADATA]).get("answers")
        check_answers(given, vae.eval(), experiment, image_shape, weights)
    vae.origin = Origin(experiment, image_shape, run if folder.parts else None, class_names)
    return vae.eval()


def check_terms(path: Path, vae: "VAE") -> None:
    """Raises `InputError` if code of the user's that computes terms of the loss is not known here, or has changed since the
    model `vae` was saved in the run folder `path`."""
    origin = origin_of(vae)
    terms = origin.experiment.objective.own_terms
    for part in terms:
        part.build()
    if terms:
        weights = _file(_model_in(Inside(path)), "model.safetensors")
        with weights.open() as file:
            about = parse_json(read_header(file, weights).metadata[METADATA])
        check_term_answers(about.get("terms"), vae, origin.experiment, origin.image_shape, weights)


def _model_in(folder: Inside) -> Inside:
    """Returns the model folder of a run, or the model folder itself."""
    return folder / "model" if (folder / "model").is_dir() else folder


def _file(folder: Inside, name: str) -> Inside:
    """Returns the file `name` of a model; in the hub's cache, the blob that it is a link to."""
    snapshot = folder.root.resolve()
    if folder.parts or snapshot.parent.name != "snapshots" or not (snapshot / name).is_symlink():
        return folder / name
    blob = BLOB.fullmatch(os.readlink(snapshot / name).replace(os.sep, "/"))
    return Inside(snapshot.parent.parent) / "blobs" / blob[1] if blob else folder / name


def _check_shapes(experiment: Experiment, image_shape: ImageShape, header: Header, weights: Inside) -> None:
    """Raises `InputError` unless the shapes in the header of a file are those of the network of `experiment`, before memory
    is allocated for either.

    Parts that users write are built in full, since their code may compute with numbers, which tensors on the device "meta"
    do not have."""
    import torch

    with nullcontext() if experiment.own_parts else torch.device("meta"):
        expected = {name: list(tensor.shape) for name, tensor in experiment.build(image_shape).state_dict().items()}
    found = header.shapes
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise InputError(
                f"{weights}: does not fit experiment.json beside it: for {in_short(name, 100)} the file has "
                f"{_form(found.get(name))}, the configuration {_form(expected.get(name))}; take both from the same model."
            )


def _form(shape: list[int] | None) -> str:
    return "none" if shape is None else f"{math.prod(shape):,} numbers {in_short(shape, 60)}"


def _described(metadata: dict[str, str], weights: Inside) -> tuple[ImageShape, tuple[str, ...] | None]:
    """Returns the shape of the images and the names of their classes, which may not be recorded."""
    try:
        about = parse_json(metadata[METADATA])
        format, (channel, height, width) = about["format"], about["image_shape"]
    except (KeyError, ValueError, TypeError):
        raise InputError(
            f"{weights}: has no valid model metadata in its header; was it written by mpdvae?", topic="damaged"
        ) from None
    if format != MODEL_FORMAT:
        writer = in_short(about.get("version", "?"), 20)
        raise InputError(
            f"{weights}: is of model format {in_short(format, 20)}, written by mpdvae {writer}, but mpdvae {__version__} "
            f"reads format {MODEL_FORMAT} only: pip install --upgrade mpdvae.",
            topic="newer-format",
        )
    for length in (channel, height, width):
        if type(length) is not int or not 1 <= length <= LARGEST_SIDE:
            raise InputError(
                f"{weights}: expected channels, height and width from 1 to {LARGEST_SIDE}, got {str(length)[:20]!r}."
            )
    try:
        names = None if about.get(NAMES) is None else checked_names(about[NAMES])
    except ValueError as error:
        raise InputError(f"{weights}: {NAMES}: {in_short(error)}.", topic="damaged") from None
    return (channel, height, width), names


def read_experiment(folder: Inside) -> Experiment:
    path = _file(folder, "experiment.json")
    if not path.is_file():
        raise InputError(f"{path}: no such file; put it back beside the other files that mpdvae wrote to {folder}.")
    return recorded(read_bytes(path, LARGEST_JSON), str(path))
