"""The run folder: everything about one run, in files that can be read without this package.

    experiment.json     the complete configuration          manifest.json    versions, data hash, machine, times, command
    history.jsonl       one line per evaluation point       checkpoints/     step-N.safetensors + step-N.json
    model/              model.safetensors (averaged weights) + experiment.json + README.md
    density.json  density.csv  diagnostics.json  information.json  code_use.json  representation.json  codes.json
    density-train.json  ...    the same of another split    partial/         parts of an unfinished measurement
    figures/

Files appear whole or not at all: written aside, flushed to disk, renamed. A checkpoint's JSON holds the checksum of its
tensors and is written last, so an interrupted write leaves the previous checkpoint in force. Times are in the manifest
only: history and weights are the same bytes however often a run was interrupted. Nothing here is a pickle.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpdvae.errors import InputError, RunError
from mpdvae.experiment import Experiment, ImageShape, from_json
from mpdvae.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

    from mpdvae.vae import VAE

MODEL_FORMAT = "1"
METADATA = "mpdvae"
"""What the weights say about themselves, as JSON, in the head of their file."""
CHECKPOINTS_KEPT = 2


def write_atomically(path: Path, content: bytes | str) -> None:
    """`content` in `path`, whole or not at all: written aside, flushed to disk, renamed."""
    data = content.encode() if isinstance(content, str) else content
    check_folder(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def check_folder(folder: Path) -> None:
    """Raises `InputError` where a file stands in the way of `folder`."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise InputError(f"{folder}: cannot be a folder, {path} is a file; choose another --out.")


def write_json(path: Path, content: Any) -> None:
    """`content` as indented JSON, atomically; numbers must be finite."""
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON in `path`. Raises `InputError` where it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is {path.parent} the folder of a run?") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}).") from None


class Run:
    """One run folder.

    Arguments:
        path: an existing run folder. Raises `InputError` where there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no such folder; give the folder that `mpdvae train ... --out` made.")
        if not (self.path / "experiment.json").is_file():
            raise InputError(f"{self.path}: not a run folder (it has no experiment.json).")
        self.experiment = _read_experiment(self.path)

    @classmethod
    def create(cls, path: Path, experiment: Experiment) -> "Run":
        """A new folder for `experiment`, or the existing one if it holds the very same experiment.

        Raises `InputError` for a folder that holds something else; nothing in it is touched.
        """
        path = Path(path)
        cls.check_free(path, experiment)
        if not (path / "experiment.json").exists():
            write_atomically(path / "experiment.json", experiment.to_json())
        return cls(path)

    @classmethod
    def check_free(cls, path: Path, experiment: Experiment) -> None:
        """Raises `InputError` unless `path` is new, empty, or the folder of this very experiment. Writes nothing."""
        check_folder(path)
        if (path / "experiment.json").exists():
            differing = differing_fields(cls(path).experiment, experiment)
            if differing:
                raise InputError(
                    f"{path}: already holds another run (it differs in {', '.join(differing)}); "
                    "choose another --out, or delete that folder."
                )
        elif path.is_dir() and any(path.iterdir()):
            raise InputError(f"{path}: is not empty and not a run; choose another --out.")

    # -- manifest ------------------------------------------------------------------------------------------------------

    @property
    def manifest(self) -> dict[str, Any]:
        path = self.path / "manifest.json"
        return read_json(path) if path.exists() else {}

    def note(self, **entries: Any) -> None:
        """Adds or replaces entries of the manifest."""
        write_json(self.path / "manifest.json", {**self.manifest, **entries})

    def note_progress(self, content: dict[str, Any]) -> None:
        """Says how far the run is, for whoever looks on."""
        write_atomically(self.path / "progress.json", json.dumps(content))

    @property
    def status(self) -> str:
        """`new`, `training`, `trained` or `finished` (trained and evaluated)."""
        return self.manifest.get("status", "new")

    # -- history -------------------------------------------------------------------------------------------------------

    @property
    def history(self) -> list[dict[str, Any]]:
        """One entry per evaluation point, in order of steps. Raises `InputError` for a line that is broken."""
        path = self.path / "history.jsonl"
        entries = []
        for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else [], 1):
            try:
                entries.append(json.loads(line))
            except ValueError:
                raise InputError(
                    f"{path}: line {number} is damaged (not JSON); delete {self.path} to train this run again."
                ) from None
        return entries

    def write_history(self, entries: list[dict[str, Any]]) -> None:
        lines = (json.dumps(entry, allow_nan=False) + "\n" for entry in entries)
        write_atomically(self.path / "history.jsonl", "".join(lines))

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def save_checkpoint(self, step: int, tensors: Mapping[str, "Tensor"], state: dict[str, Any]) -> None:
        """The state after `step` updates; older checkpoints than the last two are removed."""
        from safetensors.torch import save

        folder = self.path / "checkpoints"
        data = save(dict(tensors))
        write_atomically(folder / f"step-{step:08d}.safetensors", data)
        of = {
            "step": step,
            "sha256": hashlib.sha256(data).hexdigest(),
            "experiment": self.experiment.model_dump(mode="json"),
        }
        write_json(folder / f"step-{step:08d}.json", of | state)
        for old in sorted(folder.glob("step-*.json"))[:-CHECKPOINTS_KEPT]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)

    def load_checkpoint(self) -> tuple[dict[str, "Tensor"], dict[str, Any]] | None:
        """Tensors and state of the newest checkpoint that is whole; None if there is no checkpoint.

        Raises `RunError` if there are checkpoints and all are damaged, `InputError` for one of another experiment.
        """
        from safetensors.torch import load

        states = sorted((self.path / "checkpoints").glob("step-*.json"), reverse=True)
        for path in states:
            tensors = path.with_suffix(".safetensors")
            data = tensors.read_bytes() if tensors.exists() else b""
            try:
                state = json.loads(path.read_bytes())
                whole = hashlib.sha256(data).hexdigest() == state["sha256"]
            except (ValueError, KeyError, TypeError):
                continue  # not what was written here
            if whole:
                self._check_checkpoint(path, state)
                return load(data), state
        if states:
            raise RunError(
                f"{self.path / 'checkpoints'}: every checkpoint is damaged (checksums differ); "
                "delete that folder to train this run from the beginning."
            )
        return None

    def _check_checkpoint(self, path: Path, state: dict[str, Any]) -> None:
        of = from_json(json.dumps(state["experiment"]), str(path))
        if differing := differing_fields(of, self.experiment):
            raise InputError(
                f"{path}: belongs to another experiment than experiment.json (it differs in {', '.join(differing)}); "
                f"put {self.path / 'experiment.json'} back as it was, or choose another --out."
            )

    # -- model ---------------------------------------------------------------------------------------------------------

    def save_model(self, vae: "VAE", image_shape: ImageShape) -> None:
        save_model(self.path / "model", vae, self.experiment, image_shape)


def differing_fields(one: Experiment, other: Experiment) -> list[str]:
    """Dotted names of the fields in which two experiments differ."""

    def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for name, value in tree.items():
            flat |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        return flat

    a, b = leaves(one.model_dump()), leaves(other.model_dump())
    missing = object()
    return sorted(name for name in a.keys() | b.keys() if a.get(name, missing) != b.get(name, missing))


def save_model(folder: Path, vae: "VAE", experiment: Experiment, image_shape: ImageShape) -> None:
    """`vae` as a folder of safetensors, JSON and a model card, from which `load` rebuilds it."""
    from safetensors.torch import save

    tensors = {name: tensor.contiguous() for name, tensor in vae.state_dict().items()}
    about = {"format": MODEL_FORMAT, "image_shape": list(image_shape), "version": __version__}
    write_atomically(folder / "experiment.json", experiment.to_json())
    write_atomically(folder / "README.md", _model_card(experiment, image_shape))
    # One entry: safetensors writes several in an order that changes from process to process.
    write_atomically(folder / "model.safetensors", save(tensors, {METADATA: json.dumps(about)}))


def model_experiment(path: Path | str) -> Experiment:
    """The experiment behind the model in a run folder or model folder. Raises `InputError` where there is none."""
    folder = Path(path)
    return _read_experiment(folder / "model" if (folder / "model").is_dir() else folder)


def load(path: Path | str) -> "VAE":
    """The trained model in a run folder or model folder: averaged weights, eval mode.

    Raises `InputError` where there is no model, or its files do not fit together.
    """
    from safetensors import SafetensorError, safe_open

    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of a run or of a model.")
    folder = folder / "model" if (folder / "model").is_dir() else folder
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise InputError(f"{folder}: has no model.safetensors; has the run reached its first evaluation point?")
    experiment = _read_experiment(folder)
    try:
        with safe_open(weights, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise InputError(f"{weights}: not a readable safetensors file ({error}).") from None
    vae = experiment.build(_image_shape(metadata, weights))
    try:
        vae.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(
            f"{weights}: does not fit experiment.json beside it: {str(error).splitlines()[1].strip()}"
        ) from None
    return vae.eval()


def _image_shape(metadata: dict[str, str], weights: Path) -> ImageShape:
    try:
        about = json.loads(metadata[METADATA])
        format, (channel, height, width) = about["format"], about["image_shape"]
    except (KeyError, ValueError, TypeError):
        raise InputError(f"{weights}: does not say what it is a model of; was it written by mpdvae?") from None
    if format != MODEL_FORMAT:
        raise InputError(f"{weights}: expected model format {MODEL_FORMAT}, got {format}.")
    return channel, height, width


def _read_experiment(folder: Path) -> Experiment:
    path = folder / "experiment.json"
    if not path.is_file():
        raise InputError(f"{path}: no such file; it belongs beside what mpdvae wrote to {folder}.")
    return from_json(path.read_bytes(), str(path))


def _model_card(experiment: Experiment, image_shape: ImageShape) -> str:
    return f"""# {experiment.name}

A variational autoencoder of `mpdvae` {__version__}: {experiment.encoder.kind} encoder, {experiment.decoder.kind} decoder,
{experiment.prior.kind} prior, {experiment.latent_dim} latent dimensions, images {image_shape} (channel, height, width).

{experiment.reproduces}

Trained on {experiment.data.dataset} ({experiment.data.binarisation} binarisation), seed {experiment.seed}. Weights are
averaged over the last steps of training; `experiment.json` is the complete configuration.

```python
import mpdvae

vae = mpdvae.load(".")
images = vae.sample(16)     # [16, {", ".join(map(str, image_shape))}]
```
"""
