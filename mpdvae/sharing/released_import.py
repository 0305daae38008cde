"""Imports models that were trained with the authors' released code of MAE.

The released code describes a model by a JSON configuration and saves a state dict. Both map to this package without loss:
the configuration to an `Experiment` (`released_config`), each released layer to one of ours (`released_layers`).

`import_run` creates a run folder from these two files. The weights are a pickle, from which only tensors are ever read.

Released code: XuezheMax/mae, branch master (2019), https://github.com/XuezheMax/mae.
"""

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment, ImageShape, with_changes
from mpdvae.runs.checksums import record
from mpdvae.runs.finite_weights import check_model
from mpdvae.runs.run_folder import Run
from mpdvae.sharing.released_config import experiment_of
from mpdvae.sharing.released_layers import renamed
from mpdvae.system.atomic_files import check_folder, read_json
from mpdvae.system.untrusted_files import in_short, read_bytes
from mpdvae.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

    from mpdvae.vae import VAE

LARGEST_STATE = 1 << 32
"""Maximum size of a weights file in bytes; that of the largest released model has 200 million."""


def from_official(config: Mapping[str, Any], state_dict: Mapping[str, "Tensor"]) -> "VAE":
    """Returns the model that the released code describes by `config` and saved as `state_dict`, in eval mode.

    Raises:
        InputError: if the configuration has a type or option that the released code does not have, or tensors are missing,
            surplus or of the wrong shape; nothing is loaded then.
    """
    experiment, image_shape = experiment_of(config)
    return load_released(experiment, image_shape, state_dict)


def load_released(experiment: Experiment, image_shape: ImageShape, state_dict: Mapping[str, "Tensor"]) -> "VAE":
    """Returns the model of `experiment` with the weights in `state_dict`, which has the released names; in eval mode.

    Raises:
        InputError: as in `from_official`.
    """
    vae = experiment.build(image_shape)
    vae.load_state_dict(renamed(experiment, vae, state_dict))
    return vae.eval()


def import_run(config: Path, state: Path, out: Path, command: str, dataset: str | None = None) -> Run:
    """Creates a run folder, like that of a training run, from a released configuration (JSON) and its weights.

    Arguments:
        config: path of the configuration.
        state: path of the weights; see `read_state`.
        out: the run folder: new or empty.
        command: recorded in the manifest.
        dataset: data set that the model was trained on, by its name in `mpdvae data list`; None: mnist, or cifar10 for
            colour images.

    Raises:
        InputError: if a file cannot be read, the two do not fit each other, the model cannot compute with its weights, or
            the folder is not empty; nothing is written then.
    """
    check_folder(out)
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out}: exists and is not empty; choose another --out.", topic="taken")
    released = read_json(config)
    experiment, image_shape = experiment_of(released)
    if dataset is not None:
        experiment = with_changes(experiment, data__dataset=dataset)
    vae = load_released(experiment, image_shape, read_state(state))
    check_model(vae, state)
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
    """Reads named tensors from a file written by `torch.save(model.state_dict(), path)`, or from a .safetensors file.

    No code in the file is ever run.

    Raises:
        InputError: if the file is damaged or holds anything but named tensors.
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
        # torch wraps the reason in advice on how to execute the file's content anyway, which is not passed on.
        harmful = "global" in str(error).lower() or "unsupported" in str(error).lower()
        reason = "holds more than tensors and would execute its own code when loaded" if harmful else "is damaged"
        raise InputError(
            f"{path}: {reason}; expected the output of torch.save(model.state_dict(), ...).", topic="released-code"
        ) from None
    except Exception as error:  # damaged files make torch raise all kinds of errors: OSError, EOFError, KeyError, ...
        reason = in_short(error)
        raise InputError(
            f"{path}: not readable as the output of torch.save(model.state_dict(), ...) ({reason}).",
            topic="released-code",
        ) from None
    if not isinstance(state, dict):
        raise InputError(
            f"{path}: expected a state dict (tensors by name), got a {type(state).__name__}.", topic="released-code"
        )
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise InputError(
                f"{path}: expected a state dict (tensors by name), got a {type(value).__name__} under "
                f"{repr(name)[:100]}; save model.state_dict() alone.",
                topic="released-code",
            )
    return dict(state)


def _refuse_packed(content: "io.BytesIO", path: Path) -> None:
    """Raises `InputError` for an archive with compressed members: torch compresses none, and a few can exhaust memory."""
    import zipfile

    try:
        with zipfile.ZipFile(content) as archive:
            packed = any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, LookupError, OSError, RuntimeError, struct.error):
        packed = False  # not an archive: the older format, or damaged, which torch will report
    content.seek(0)
    if packed:
        raise InputError(
            f"{path}: holds compressed members; expected the output of torch.save(model.state_dict(), ...).",
            topic="released-code",
        )


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
