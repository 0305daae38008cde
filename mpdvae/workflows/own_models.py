"""Trains models that users assemble in Python, with everything that recipes have: `fit`.

    def my_vae(image_shape, latent_dim):
        return mpdvae.VAE(encoder, decoder, prior)

    vae = mpdvae.fit(my_vae, images, {"diversity_weight": 1.0}, out="runs/mine", epochs=20)

The folder `out` is a run folder: training resumes in it to the byte, and `mpdvae evaluate`, `diagnose`, `report`, `encode`
and `sample` take it. The model is a part of the user's (`mpdvae.experiments.own_parts`), whose kind is in experiment.json;
on the command line, `--parts FILE` names the file that defines its function under `@mpdvae.part("model")`. A model that was
given ready-made is a kind that is named by a hash of its weights, which are where training starts; it can be loaded again
in processes only that call `fit` with the same model.
"""

import copy
import hashlib
import math
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast, no_type_check

import numpy as np
import torch
from pydantic import ValidationError

from mpdvae.data import Splits, steps_per_epoch
from mpdvae.data.given_dataset import holds_pictures, is_dataset, refuse_unnumbered
from mpdvae.data.given_lists import holds_items, listed_column
from mpdvae.data.own import from_dataset, images_of_array, own_path, split_own, titled
from mpdvae.distributions.own_laws import values_within
from mpdvae.distributions.pixel_values import PixelValues
from mpdvae.distributions.support import in_words as support_in_words
from mpdvae.errors import InputError
from mpdvae.experiments.data_config import PREPARING, Data
from mpdvae.experiments.evaluation_config import Evaluation
from mpdvae.experiments.experiment import Experiment, in_words
from mpdvae.experiments.fields import Config, ImageShape
from mpdvae.experiments.objective_config import ObjectiveConfig
from mpdvae.experiments.objective_in_python import configuration
from mpdvae.experiments.own_parts import kind_of, part
from mpdvae.experiments.plain_functions import kind_named, of_shapes, takes
from mpdvae.experiments.presets import enough_epochs, patience_of, short_training
from mpdvae.models.lazy import lazy_weights, materialise
from mpdvae.objectives.terms import Objective, Term
from mpdvae.runs.model_folder import load
from mpdvae.runs.observer import owned_by_first
from mpdvae.runs.run_folder import Run
from mpdvae.seeding import seeded
from mpdvae.system.devices import AUTO, device_for
from mpdvae.vae import VAE
from mpdvae.workflows.job import check_fit, complete, load_data, made_on, on_device, train_only
from mpdvae.workflows.part_trial import check_decoder, check_prior
from mpdvae.workflows.precision_choice import decided, noted
from mpdvae.workflows.progress_display import Watcher
from mpdvae.workflows.python_names import FIT, naming_arguments

ANY_LEVELS = {"binarisation": "levels", "evaluation_draws": 1}
"""A valid protocol, for reading images whose protocol is not known yet."""
DEFAULTS = {"batch_size": 64, "learning_rate": 2e-3}


@no_type_check  # what is given is checked, and told in a sentence
def fit(
    vae: VAE | Callable[..., VAE],
    data: Any,
    objective: Objective | Term | ObjectiveConfig | Mapping[str, Any] | None = None,
    *,
    out: str | Path,
    epochs: int | None = None,
    seed: int = 0,
    latent_dim: int = 32,
    options: Mapping[str, Any] | None = None,
    images: Data | Mapping[str, Any] | None = None,
    evaluation: Evaluation | Mapping[str, Any] | None = None,
    name: str | None = None,
    device: str = AUTO,
    verbose: bool = False,
    **training: Any,
) -> VAE:
    """Trains a model of the user's in a run folder and returns it with averaged weights; a run that was begun there before is
    resumed, a finished one is loaded.

    Arguments:
        vae: a model; or a function that returns one, called with nothing, or with (image_shape, latent_dim). It is called
            under the seed, so that the initial weights are a function of it. A ready-made model starts with its own weights.
        data: name of a data set (`mpdvae data list`), path of a folder of pictures, an .npz archive or an .npy array; images
            in an array: [n height width], [n channel height width] or [n height width channel], bytes or in [0, 1], of which
            a large memory-mapped file stays on disk; such an array and labels, (X, y); a list of pictures of Pillow; a data
            set of torch or Hugging Face, or the list of its items; or what `mpdvae.data.own.from_dataset` and
            `mpdvae.data.load` return.
        objective: terms of the loss, as an `ObjectiveConfig` or its fields: {"diversity_weight": 1.0}; as an `Objective`; or
            a function of (forward) or (forward, step), a term that is added to the ELBO. None: the ELBO. Functions are told
            from each other by name, which is their column in the learning curves.
        out: the run folder.
        epochs: maximum number of epochs; None: as many as make 2,000 steps, but at least 20. Training stops after a fifth of
            them, or ten, without progress, unless `plateau` says otherwise.
        seed: determines the initial weights, the order of the images and the noise.
        latent_dim: passed to the function.
        options: further arguments of the function, by name; recorded.
        images: protocol of the images, as `Data` or its fields: {"binarisation": "static", "evaluation_draws": 1}. None:
            redrawn black and white pixels, levels or intensities, whichever the decoder models.
        evaluation: what to measure after training, as an `Evaluation` or its fields; {} for everything. None: nothing.
        name: name of the model in tables; default: that of the function.
        device: cpu, cuda, ...; auto: a GPU if there is one, for a run that was begun the kind that it was made on.
        verbose: whether to show the progress.
        training: fields of `mpdvae.experiments.training_config.Training`: `batch_size`, `learning_rate`, `precision`, ...

    Raises:
        InputError: if model, data and objective do not fit together, an argument is invalid, or `out` holds another run.
        RunError: if the loss becomes non-finite, or the process was asked to stop; the state is saved.
    """
    with naming_arguments(FIT):
        into, given = _folder(out), _checked(vae)
        objective = configuration(objective)
        _check_fields(options=options, images=images, evaluation=evaluation)
        protocol = {"split_seed": seed} | (images.model_dump() if isinstance(images, Data) else dict(images or {}))
        splits, protocol = _loaded(data, protocol)
        if splits.omission:
            warnings.warn(f"{data}: {splits.omission}", stacklevel=2)
        chosen = "binarisation" in protocol
        wanted = _experiment(data=protocol | {"evaluation_draws": 1}).data.pixel_values if chosen else None
        kind, values = _kind(given, splits.image_shape, latent_dim, seed, wanted)
        if "binarisation" not in protocol and values != "binary":
            protocol |= {"binarisation": values, "evaluation_draws": 1}
        parts = {role: {"kind": kind} for role in ("encoder", "decoder", "prior")}
        parts["encoder"] |= dict(options or {})
        experiment = _experiment(
            name=name or kind,
            model=name or kind,
            seed=seed,
            latent_dim=latent_dim,
            data=protocol,
            objective=objective,
            training=_training(given, epochs, len(splits.train), training),
            evaluation=evaluation or {},
            **parts,
        )
        _check_told(given, experiment)
        splits = on_device(splits, device_for(device, made_on(into), told=verbose))  # before a folder is created
        check_fit(experiment, splits)
        experiment, choice = decided(into, experiment, lambda: splits)
        return _trained(noted(Run.create(into, experiment), choice), splits, evaluation is not None, verbose)


def _trained(run: Run, splits: Splits, measured: bool, verbose: bool) -> VAE:
    finish, command = complete if measured else train_only, "mpdvae.fit"
    if not verbose:
        with owned_by_first(run.path, lambda _: None):
            finish(run, splits, command)
        return load(run.path).to(splits.train.device)
    with Watcher(run.experiment.name) as watcher, owned_by_first(run.path, watcher.say):
        steps, latest = run.experiment.training.steps, (run.history or [None])[-1]
        finish(run, splits, command, watch=watcher.following(run.path.name, steps, latest), warn=watcher.say)
    return load(run.path).to(splits.train.device)


def _folder(out: Any) -> Path:
    if not isinstance(out, str | bytes | os.PathLike) or not out:
        raise InputError(
            f"out: expected the path of a run folder, such as 'runs/mine', got {out!r}.", topic="not-a-run"
        )
    return own_path(os.fsdecode(out))


def _check_fields(**given: Any) -> None:
    """Raises `InputError` for an argument that is neither None nor fields by name."""
    for name, fields in given.items():
        if not isinstance(fields, Mapping | None) and not (name != "options" and isinstance(fields, Config)):
            raise InputError(
                f"{name}: expected a dictionary of fields, or None, got {fields!r}; give {{'field': value}}.",
                topic="options",
            )


def _checked(vae: Any) -> VAE | Callable[..., VAE]:
    if not callable(vae):
        raise InputError(
            f"vae: expected an mpdvae.VAE or a function that returns one, got a {type(vae).__name__}.",
            topic="own-parts",
        )
    if isinstance(vae, VAE) and (lazy := lazy_weights(vae)):  # such a model cannot even be copied
        raise InputError(
            f"vae: expected a model whose layers have their sizes, got a lazy layer, {lazy[0]}; pass images through the "
            "model before, vae(x), or give a function that returns the model.",
            topic="own-parts",
        )
    return cast("VAE | Callable[..., VAE]", vae)


def _check_told(vae: VAE | Callable[..., VAE], experiment: Experiment) -> None:
    """Raises `InputError` for a model that is to be told something of the images, but whose parts have one size."""
    condition, ready = experiment.data.condition, isinstance(vae, VAE)
    if condition.channels and (ready or not takes(vae, 2)):
        raise InputError(
            f"vae: expected a function of (image_shape, latent_dim) for a model that is told {condition.in_words}, since its "
            f"parts are wider, got {'a ready-made model' if ready else 'one of nothing'}; give such a function, or leave the "
            "condition out.",
            topic="conditional",
        )


def _loaded(data: Any, protocol: dict[str, Any]) -> tuple[Splits, dict[str, Any]]:
    """Returns the data, and the protocol with their name or path."""
    data = os.fsdecode(data) if isinstance(data, bytes) else data
    if isinstance(data, memoryview):
        data = np.asarray(data)
    if isinstance(data, torch.Tensor) and data.layout != torch.strided:
        data = data.to_dense()
    if isinstance(data, str | os.PathLike):
        is_path = isinstance(data, os.PathLike) or os.path.exists(os.path.expanduser(data))
        protocol = protocol | ({"dataset": "own", "path": os.fsdecode(data)} if is_path else {"dataset": data})
        return load_data(_experiment(data=protocol | ANY_LEVELS)), protocol
    if isinstance(data, Splits):
        return data, _protocol_of(data, protocol)
    protocol = protocol | {"dataset": "own"}
    told = _experiment(data=protocol | ANY_LEVELS).data
    title, preparation = "own images", told.preparation()
    data = listed_column(data)
    if not hasattr(data, "__array__"):
        refuse_unnumbered(data, "data")
    if is_dataset(data) or holds_pictures(data) or holds_items(data):
        options = {"validation_size": told.validation_size, "split_seed": told.split_seed}
        return from_dataset(data, title, preparation=preparation, where="data", **options), protocol
    parts = {"all": images_of_array(data, "data", preparation)}
    return split_own(parts, "data", titled(title, preparation), told.validation_size, told.split_seed), protocol


def _protocol_of(data: Splits, protocol: dict[str, Any]) -> dict[str, Any]:
    """Returns the protocol with what was done to the data. Raises `InputError` if it asks for something else."""
    if done := [name for name in (*PREPARING, "validation_size") if name in protocol]:
        raise InputError(
            f"images: {done[0]} is for data that are not split yet, got {data.title}, which are prepared and split; leave it "
            "out, or give it to the function that made them, such as mpdvae.data.own.from_dataset.",
            topic="own-data",
        )
    known: dict[str, Any] = {"dataset": data.name}
    if data.split_seed is not None:
        known |= {"split_seed": data.split_seed, "validation_size": len(data.validation)}
    prepared = data.preparation
    if data.name == "own":
        known |= {"fit": prepared.fit, "colours": prepared.colours, "background": prepared.background}
        known |= {} if prepared.size is None else {"resize": "x".join(map(str, prepared.size))}
    if prepared.bits == 16 and "levels" not in protocol:
        known |= {"binarisation": "levels", "evaluation_draws": 1, "levels": 65_536}
    return protocol | known


def _kind(
    vae: VAE | Callable[..., VAE], image_shape: ImageShape, latent_dim: int, seed: int, wanted: PixelValues | None
) -> tuple[str, PixelValues]:
    """Returns the kind of the model, which it becomes if it is none, and the values of the pixels that it models: those
    `wanted`, if its distribution is one of them too."""
    known = kind_of(vae)
    if known is not None and wanted in (None, known[1]):
        return known
    function = _uniform(vae)
    with seeded(seed, "weights"):
        made = function(image_shape, latent_dim)
    if not isinstance(made, VAE):
        raise InputError(f"vae: expected a function that returns an mpdvae.VAE, got a {type(made).__name__}.")
    with seeded(seed, "weights"):
        materialise(made, image_shape)
    check_prior(made)
    check_decoder(made, image_shape)
    form = made.latent_shape
    codes, halvings = ("maps", round(math.log2(image_shape[1] / form[1]))) if len(form) == 3 else ("vectors", 0)
    kind = kind_named(f"given_{_hash(made)}" if isinstance(vae, VAE) else getattr(vae, "__name__", ""))
    kind = kind if known is None else known[0]
    values = _values(made, image_shape, wanted)
    part("model", name=kind, codes=codes, halvings=halvings, pixel_values=values)(function)
    known = kind_of(function)
    assert known is not None
    return known


def _uniform(vae: VAE | Callable[..., VAE]) -> Callable[..., Any]:
    """Returns `vae` as a function of (image_shape, latent_dim)."""
    if not isinstance(vae, VAE):
        return of_shapes(vae)

    def given(image_shape: ImageShape, latent_dim: int) -> VAE:
        return copy.deepcopy(vae)

    return given


@torch.no_grad()
def _values(vae: VAE, image_shape: ImageShape, wanted: PixelValues | None) -> PixelValues:
    """Returns the values of the pixels that a model has a distribution of: those `wanted` if it has one of them, black and
    white if it does not say what it has. Raises `InputError` for a distribution of other values."""
    try:
        support = vae.decoder(vae.prior().sample((1,))).support
    except (NotImplementedError, AttributeError):
        return wanted or "binary"
    found = values_within(support, image_shape)
    if not found:
        raise InputError(
            f"vae: expected a decoder of pixels that are 0 or 1, levels from -1 to 1, or intensities from 0 to 1, got "
            f"a distribution of {support_in_words(support)}; return a distribution whose log_prob takes one of these and "
            "maps them to its own, as in docs/likelihoods.md.",
            topic="own-parts",
        )
    return wanted if wanted in found else found[0]


def _hash(vae: VAE) -> str:
    """Returns a name for the weights of a model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(vae.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


def _training(vae: VAE | Callable[..., VAE], epochs: int | None, images: int, given: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of `Training`: those given, and for the others what suits a run of so many epochs."""
    if epochs is not None and (not isinstance(epochs, int) or epochs < 1):
        raise InputError(f"epochs: expected a whole number from 1, got {epochs!r}.", topic="options")
    told = _experiment(training=DEFAULTS | given).training
    batch_size = min(told.batch_size, images)
    # A ready-made model keeps its weights: fewer images than these change none (`Training.initial_images`).
    kept = {"initial_images": 2} if isinstance(vae, VAE) else {}
    epoch_steps = steps_per_epoch(images, batch_size)
    epochs = epochs or enough_epochs(epoch_steps)
    suited = short_training(epochs, epoch_steps, patience_of(epochs))
    return suited | DEFAULTS | kept | given | {"batch_size": batch_size}


def _experiment(**fields: Any) -> Experiment:
    try:
        return Experiment.model_validate(fields)
    except ValidationError as error:
        raise InputError(in_words(error), topic="options") from None
