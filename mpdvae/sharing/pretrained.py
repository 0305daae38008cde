"""Loads and shares trained models: as folders, and through the Hugging Face hub.

    mpdvae.load("runs/digits")          loads from a run folder or model folder; a folder takes precedence over the others
    mpdvae.load("mae-mnist")            loads a model that comes with the package (`mpdvae.sharing.shipped`)
    mpdvae.load("owner/name@v1")        loads from the hub, at a branch, tag or commit; kept in the hub's cache
    vae.save_pretrained("folder")       writes model.safetensors, experiment.json, README.md and config.json
    vae.push_to_hub("owner/name")       uploads the same files

Nothing is a pickle, and only these files are ever downloaded. A model consists of the first three; the hub counts the
downloads of the fourth, a summary that nothing here reads (https://huggingface.co/docs/hub/models-download-stats). Without
a connection, or with HF_HUB_OFFLINE=1, models come from the cache. The hub's client (extra `hub`) is imported on demand; it
finds tokens on its own.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpdvae.errors import InputError, RunError
from mpdvae.experiments.experiment import Experiment, origin_of, with_changes
from mpdvae.experiments.fields import ImageShape
from mpdvae.runs import model_folder
from mpdvae.runs.model_card import Results, model_card
from mpdvae.runs.records import Manifest, MeasuredCodes, MeasuredDensity, MeasuredScores, check
from mpdvae.sharing import shipped
from mpdvae.system.atomic_files import read_json, write_atomically
from mpdvae.system.closed_folder import Inside
from mpdvae.version import __version__

if TYPE_CHECKING:
    from mpdvae.vae import VAE

FILES = ["model.safetensors", "experiment.json", "README.md"]
CONFIG = "config.json"
RESULTS = {
    "density": MeasuredDensity,
    "diagnostics": MeasuredCodes,
    "representation": MeasuredScores,
    "manifest": Manifest,
}
"""The files of a run that a card is made from."""
OTHER_ARGUMENTS = {
    "device_map": "models are loaded on the CPU, so use .to('cuda')",
    "device": "models are loaded on the CPU, so use .to('cuda')",
    "map_location": "models are loaded on the CPU, so use .to('cuda')",
    "torch_dtype": "models are loaded in float32, so use .to(torch.bfloat16)",
    "dtype": "models are loaded in float32, so use .to(torch.bfloat16)",
}
"""Arguments of other libraries, and what does it here."""
_ID = re.compile(r"(?P<repo>(?!\.{1,2}/)[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def load(
    source: str | bytes | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    **others: Any,
) -> "VAE":
    """Loads a trained model, with averaged weights and in eval mode, from a folder, the package or the hub.

    Arguments:
        source: the folder of a run or of a model, the name of a model that comes with the package (`mpdvae models` lists
            them), or `owner/name[@revision]` on the hub. An existing folder takes precedence; a `Path` is always a folder.
        revision: branch, tag or commit on the hub; default: that of `source`, or else main.
        token: access token of the hub; default: the token saved by `hf auth login`, or HF_TOKEN.
        cache_dir: folder that keeps models from the hub; default: the hub's cache. Of no effect on other models.
        others: none are taken; those of other libraries are answered with what does it here.

    Raises:
        InputError: if the model does not exist (a wrong name is answered with similar ones), its files do not fit together,
            or a revision is given of a model that is not on the hub.
        RunError: if the hub cannot be reached and its cache does not hold the model.
    """
    _refuse_others(others)
    if not isinstance(source, str | bytes | os.PathLike):
        raise InputError(f"source: expected a folder or a name, got a {type(source).__name__}.", topic="not-a-run")
    name = os.fsdecode(source)
    match = None if isinstance(source, os.PathLike) or Path(name).exists() else _ID.fullmatch(name)
    if match is not None:
        return model_folder.load(_downloaded(match["repo"], _one(name, match["revision"], revision), token, cache_dir))
    if revision is not None:
        raise InputError(f"revision: only models on the hub have one, but {name} is none; leave it out.", topic="hub")
    return model_folder.load(source) if isinstance(source, Path) else _of_folder(shipped.located(name))


def save_pretrained(
    vae: "VAE",
    folder: str | Path,
    *,
    results: str | Path | None = None,
    licence: str | None = None,
    source: str = ".",
    license: str | None = None,
) -> None:
    """Writes the model to `folder`, from which `load` reads it.

    Arguments:
        vae: model returned by `load` or `Experiment.build`.
        folder: new or existing; only the model's files are written.
        results: run folder whose measured results go into the model card; default: the run that the model was loaded from.
        licence: licence of the weights by the hub's name for it: apache-2.0, cc-by-4.0, ...
        source: the argument of `mpdvae.load` that the card shows.
        license: the same as `licence`, as the hub spells it.

    Raises:
        InputError: if the model was assembled by hand, so that its configuration is unknown.
    """
    licence = _one("licence", licence, license)
    origin = origin_of(vae)
    measured = _of_run(origin.run if results is None else Path(results))
    if results is not None and measured is None:
        raise InputError(
            f"results: expected the folder of an evaluated run, got {results}; see `mpdvae evaluate`.",
            topic="not-a-run",
        )
    experiment = _without_whereabouts(origin.experiment)
    card = model_card(experiment, origin.image_shape, measured, source, licence, vae.class_names)
    into = Inside(Path(os.fsdecode(folder)))
    model_folder.save_model(into, vae, experiment, origin.image_shape, card, origin.class_names)
    write_atomically(into / CONFIG, _summary(experiment, origin.image_shape))


def push_to_hub(
    vae: "VAE",
    repo_id: str,
    *,
    results: str | Path | None = None,
    licence: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload a model of mpdvae",
    token: str | None = None,
    license: str | None = None,
) -> str:
    """Uploads the model to the hub, creating the repository if it does not exist, and returns the URL of the commit.

    Arguments:
        vae: as in `save_pretrained`.
        repo_id: `owner/name`.
        results: as in `save_pretrained`.
        licence: as in `save_pretrained`.
        private: whether a new repository is private; None: as set by its owner.
        revision: branch to upload to; default: main.
        commit_message: message of the commit.
        token: access token; default: the token saved by `hf auth login`, or HF_TOKEN.
        license: as in `save_pretrained`.

    Raises:
        InputError: as in `save_pretrained`, and if `repo_id` is invalid.
        RunError: if the hub refuses the upload or cannot be reached.
    """
    origin_of(vae)
    licence = _one("licence", licence, license)
    match = _ID.fullmatch(repo_id)
    if match is None or match["revision"]:
        raise InputError(f"repo_id: expected owner/name, got {repo_id!r}; pass a branch as revision.", topic="hub")
    _require_hub("push_to_hub")
    from huggingface_hub import HfApi

    def upload() -> str:
        api = HfApi(token=token, library_name="mpdvae", library_version=__version__)
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            allow_patterns=[*FILES, CONFIG],
            revision=revision,
            commit_message=commit_message,
        )
        return done.commit_url

    with tempfile.TemporaryDirectory(prefix="mpdvae-") as folder:
        save_pretrained(vae, folder, results=results, licence=licence, source=repo_id)
        return _of_hub(upload, f"{repo_id}:")


def _refuse_others(others: dict[str, Any]) -> None:
    """Raises `InputError` for the first argument that `load` does not have."""
    for name, value in others.items():
        advice = OTHER_ARGUMENTS.get(name, "expected revision, token or cache_dir, so leave it out")
        raise InputError(f"{name}: there is no such argument, got {value!r}; {advice}.", topic="options")


def _of_folder(folder: Path) -> "VAE":
    """Returns the model in `folder`; one with recorded results remembers its folder, so that its next card has them."""
    vae = model_folder.load(folder)
    if (Inside(folder) / shipped.RESULTS).is_file():
        vae.origin = replace(origin_of(vae), run=folder)
    return vae


def _one(name: str, one: str | None, other: str | None) -> str | None:
    """Returns the value that was given in one of two ways. Raises `InputError` if both are given and differ."""
    if None not in (one, other) and one != other:
        raise InputError(f"{name}: expected one value, got both {one!r} and {other!r}; give it once.", topic="hub")
    return other if one is None else one


def _summary(experiment: Experiment, image_shape: ImageShape) -> str:
    """Returns config.json."""
    e = experiment
    about = {
        "library_name": "mpdvae",
        "library_version": __version__,
        "model_format": model_folder.MODEL_FORMAT,
        "architectures": ["VAE"],
        "encoder": e.encoder.kind,
        "decoder": e.decoder.kind,
        "prior": e.prior.kind,
        "latent_dim": e.latent_dim,
        "image_shape": list(image_shape),
        "pixel_values": e.data.pixel_values,
    }
    return json.dumps(about, indent=2) + "\n"


def _without_whereabouts(experiment: Experiment) -> Experiment:
    """Returns `experiment` with the path of own images cut down to its last part: the full path could reveal details of the
    machine and its owner."""
    path = experiment.data.path
    return experiment if path is None else with_changes(experiment, data__path=path.name)


def _of_run(run: Path | None) -> Results | None:
    """Returns the measured results of a run or of a model that comes with the package, or None if there are none."""
    if run is not None and (results := shipped.recorded(run)) is not None:
        return results
    files = {name: Inside(run) / f"{name}.json" for name in RESULTS} if run is not None else {}
    advice = f"`mpdvae evaluate {run}` recreates it"
    found = {
        name: check(RESULTS[name], read_json(path), str(path), advice) for name, path in files.items() if path.is_file()
    }
    return Results(**found) if found else None


def _downloaded(repo: str, revision: str | None, token: str | None, cache_dir: str | Path | None) -> Path:
    """Returns the folder of the hub's cache that holds the model's files, after downloading them if needed."""
    _require_hub(f"{repo}: no such folder here, and loading from the hub")
    from huggingface_hub import snapshot_download

    def download() -> str:
        return snapshot_download(
            repo,
            revision=revision,
            allow_patterns=[*FILES, CONFIG],
            token=token,
            cache_dir=cache_dir,
            library_name="mpdvae",
            library_version=__version__,
        )

    name = repo if revision is None else f"{repo}@{revision}"
    return Path(_of_hub(download, f"{name}: no such folder here, and"))


def _require_hub(what: str) -> None:
    """Raises `InputError` unless the hub's client is installed."""
    try:
        import huggingface_hub  # noqa: F401
    except ModuleNotFoundError:
        raise InputError(f"{what} needs the hub's client: pip install 'mpdvae[hub]'.", topic="extras") from None


def _of_hub(call: Callable[[], str], about: str) -> str:
    """Returns the result of `call`; turns errors of the hub's client into one sentence that begins with `about`."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return call()
    except RevisionNotFoundError:
        raise InputError(f"{about} the hub has this model, but no such branch, tag or commit.", topic="hub") from None
    except RepositoryNotFoundError:
        raise InputError(
            f"{about} no such model on the hub, or you have no access to it; sign in with `hf auth login`.", topic="hub"
        ) from None
    except HFValidationError as error:
        raise InputError(
            f"{about} this is not a valid name of a model on the hub ({_first_line(error)}).", topic="hub"
        ) from None
    except LocalEntryNotFoundError:
        raise RunError(
            f"{about} the hub cannot be reached (or HF_HUB_OFFLINE is set), and its cache does not hold this model; "
            "connect and try again.",
            topic="hub",
        ) from None
    except OfflineModeIsEnabled:
        raise RunError(
            f"{about} the hub is not contacted while HF_HUB_OFFLINE is set; unset it and try again.", topic="hub"
        ) from None
    except HfHubHTTPError as error:
        raise RunError(f"{about} the hub refused the request ({_first_line(error)}).", topic="hub") from None
    except (HTTPError, OSError) as error:
        raise RunError(
            f"{about} the hub cannot be reached ({_first_line(error)}); connect and try again.", topic="hub"
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
