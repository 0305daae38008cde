"""Models trained with the authors' released code of MAE, as models of this package.

The released code describes a model by a JSON configuration and saves a state dict. Both map to this package without loss: the
configuration to an `Experiment` (`released_config`), each released layer to one of ours (`released_layers`).

`import_run` makes a run folder of the two files that the released code leaves behind. Its weights are a pickle, of which
nothing but tensors is ever read.

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
"""Bytes of weights; the largest released model has 200 million."""


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
    vae.load_state_dict(renamed(experiment, vae, state_dict))
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
