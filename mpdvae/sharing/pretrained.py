"""Models that are passed on: as a folder, and through the Hugging Face hub.

    mpdvae.load("runs/digits")          a folder of a run or of a model, which wins where both exist
    mpdvae.load("owner/name@v1")        a model on the hub, at a branch, tag or commit; kept in the hub's cache
    vae.save_pretrained("folder")       model.safetensors, experiment.json, README.md
    vae.push_to_hub("owner/name")       the same, uploaded

Nothing is a pickle, and no more than these three files is ever downloaded. Without a connection, or with HF_HUB_OFFLINE=1, a
model comes from the cache. The hub's client (extra `hub`) is imported on demand; it finds tokens by itself.
"""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mpdvae.errors import InputError, RunError
from mpdvae.experiments.experiment import Experiment, Origin, with_changes
from mpdvae.runs import model_folder
from mpdvae.runs.model_card import Results, model_card
from mpdvae.system.atomic_files import read_json
from mpdvae.version import __version__

if TYPE_CHECKING:
    from mpdvae.vae import VAE

FILES = ["model.safetensors", "experiment.json", "README.md"]
RESULTS = ("density", "diagnostics", "representation", "manifest")
_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def load(source: str | Path) -> "VAE":
    """The trained model in a folder of a run or of a model, or on the hub: averaged weights, eval mode.

    Arguments:
        source: a folder, or `owner/name[@revision]`; a `Path` is always a folder.

    Raises:
        InputError: where there is no such model, or its files do not fit together.
        RunError: where the hub cannot be reached, and its cache has no such model.
    """
    match = _ID.fullmatch(str(source))
    if isinstance(source, Path) or match is None or Path(source).exists():
        return model_folder.load(source)
    return model_folder.load(_downloaded(match["repo"], match["revision"]))


def save_pretrained(
    vae: "VAE", folder: str | Path, *, results: str | Path | None = None, licence: str | None = None, source: str = "."
) -> None:
    """Writes the model into `folder`, from which `load` reads it.

    Arguments:
        vae: made by `load` or `Experiment.build`.
        folder: new or existing; only the three files are written.
        results: a run folder, whose measured numbers go into the card; default: the run that the model was loaded from.
        licence: of the weights, as the hub calls it: apache-2.0, cc-by-4.0, ...
        source: how `mpdvae.load` will be called, for the card.

    Raises:
        InputError: for a model that was put together by hand, whose configuration nobody knows.
    """
    origin = _origin(vae)
    measured = _of_run(origin.run if results is None else Path(results))
    if results is not None and measured is None:
        raise InputError(
            f"results: expected the folder of a run that was measured, got {results}; see `mpdvae evaluate`.",
            topic="not-a-run",
        )
    experiment = _without_whereabouts(origin.experiment)
    card = model_card(experiment, origin.image_shape, measured, source, licence)
    model_folder.save_model(Path(folder), vae, experiment, origin.image_shape, card)


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
) -> str:
    """Uploads the model to the hub, into a repository that is made if there is none; returns the address of the commit.

    Arguments:
        vae, results, licence: as in `save_pretrained`.
        repo_id: `owner/name`.
        private: of a new repository; None: as its owner's settings say.
        revision: branch; default: main.
        commit_message: of the upload.
        token: default: that of `hf auth login`, or HF_TOKEN.

    Raises:
        InputError: as `save_pretrained`, and for a name that is none.
        RunError: where the hub refuses or cannot be reached.
    """
    _origin(vae)
    match = _ID.fullmatch(repo_id)
    if match is None or match["revision"]:
        raise InputError(f"repo_id: expected owner/name, got {repo_id!r}; a branch is given as revision.", topic="hub")
    _require_hub("push_to_hub")
    from huggingface_hub import HfApi

    def upload() -> str:
        api = HfApi(token=token, library_name="mpdvae", library_version=__version__)
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo_id, folder_path=folder, allow_patterns=FILES, revision=revision, commit_message=commit_message
        )
        return done.commit_url

    with tempfile.TemporaryDirectory(prefix="mpdvae-") as folder:
        save_pretrained(vae, folder, results=results, licence=licence, source=repo_id)
        return _of_hub(upload, f"{repo_id}:")


def _origin(vae: "VAE") -> Origin:
    if isinstance(vae.origin, Origin):
        return vae.origin
    raise InputError(
        "vae: does not know its configuration, without which nobody could load it; make it by mpdvae.load or "
        "Experiment.build(image_shape), or set vae.origin = mpdvae.experiments.experiment.Origin(experiment, image_shape).",
        topic="hub",
    )


def _without_whereabouts(experiment: Experiment) -> Experiment:
    """`experiment` with the name alone of a folder of own images: its path tells of a machine and of whom it belongs to."""
    path = experiment.data.path
    return experiment if path is None else with_changes(experiment, data__path=path.name)


def _of_run(run: Path | None) -> Results | None:
    """What was measured of a run; None where nothing was."""
    files = {name: run / f"{name}.json" for name in RESULTS} if run is not None else {}
    found = {name: read_json(path) for name, path in files.items() if path.is_file()}
    return Results(**found) if found else None


def _downloaded(repo: str, revision: str | None) -> Path:
    """The folder of the hub's cache with the model's files, fetched if need be."""
    _require_hub(f"{repo}: no such folder here, and a model on the hub")
    from huggingface_hub import snapshot_download

    def download() -> str:
        return snapshot_download(
            repo, revision=revision, allow_patterns=FILES, library_name="mpdvae", library_version=__version__
        )

    name = repo if revision is None else f"{repo}@{revision}"
    return Path(_of_hub(download, f"{name}: no such folder here, and"))


def _require_hub(what: str) -> None:
    """Raises `InputError` where the hub's client is not installed."""
    try:
        import huggingface_hub  # noqa: F401
    except ModuleNotFoundError:
        raise InputError(f"{what} needs the hub's client: pip install 'mpdvae[hub]'.", topic="extras") from None


def _of_hub(call: Callable[[], str], about: str) -> str:
    """What `call` returns; the client's errors as one sentence that begins with `about`."""
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
            f"{about} no such model on the hub, or it is not for you; `hf auth login` signs in.", topic="hub"
        ) from None
    except HFValidationError as error:
        raise InputError(
            f"{about} this is not the name of a model on the hub ({_first_line(error)}).", topic="hub"
        ) from None
    except LocalEntryNotFoundError:
        raise RunError(
            f"{about} the hub cannot be reached (or HF_HUB_OFFLINE is set), and its cache has no such model; connect and "
            "call again.",
            topic="hub",
        ) from None
    except OfflineModeIsEnabled:
        raise RunError(
            f"{about} the hub is not asked while HF_HUB_OFFLINE is set; unset it and call again.", topic="hub"
        ) from None
    except HfHubHTTPError as error:
        raise RunError(f"{about} the hub refused ({_first_line(error)}).", topic="hub") from None
    except (HTTPError, OSError) as error:
        raise RunError(
            f"{about} the hub cannot be reached ({_first_line(error)}); connect and call again.", topic="hub"
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
