"""Trained models that come with the package, addressed by name: `mpdvae.load("mae-mnist")`.

    mpdvae/sharing/trained/NAME/
        model.safetensors  experiment.json  README.md    a model folder like any other
        results.json                                     the measured results behind the numbers of the card
        images.png  images.json                          images to explore it with (`mpdvae.evaluation.example_images`)

A folder takes precedence over a name: `mae-mnist` is the folder of this name if the working directory has one. Anything
with a path separator, such as `./mae-mnist`, and a `Path` are always folders. No file is read before a model is requested.
`mpdvae.workflows.packing` writes these folders.
"""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from mpdvae.errors import InputError
from mpdvae.report.schema import DataOrigin, Density, Diagnostics, Part, Scores, Whole, read
from mpdvae.runs.model_card import Results
from mpdvae.runs.model_folder import model_experiment
from mpdvae.system.closed_folder import Inside

FOLDER = Path(__file__).parent / "trained"
RESULTS = "results.json"
NAME = re.compile(r"\w[\w.-]*")
"""Words that may be the name of a model; everything else is a path."""
ADVICE = "reinstall mpdvae"


class MeasuredDensity(Density):
    """density.json, with the size of the split."""

    images_of_split: Whole


class Provenance(Part):
    """What is recorded of the run's manifest; the rest is about the machine."""

    data: DataOrigin


class Record(Part):
    """results.json: what was measured of the weights in the folder, without the commands that did it."""

    licence: str | None = None
    """Licence of the weights, by the hub's name for it."""
    density: MeasuredDensity
    diagnostics: Diagnostics
    representation: Scores
    manifest: Provenance


def trained_models() -> list[str]:
    """Returns the names of the trained models that come with the package, in alphabetical order."""
    return sorted(path.parent.name for path in FOLDER.glob("*/model.safetensors"))


def folder_of(name: str) -> Path:
    """Returns the folder of the model `name`. Raises `InputError`, with similar names, if there is none.

    Some installers put links to their cache in the place of a package's files: then it is the folder there, since no link in
    a model folder is followed.
    """
    if name not in trained_models():
        _refuse(name)
    weights = FOLDER / name / "model.safetensors"
    return weights.resolve().parent if weights.is_symlink() else weights.parent


def located(source: str) -> Path:
    """Returns the folder that `source` denotes: an existing folder, a model that comes with the package, or a path.

    Raises:
        InputError: if `source` is a single word that is neither a folder nor the name of a model.
    """
    path = Path(source)
    return path if path.is_dir() or NAME.fullmatch(source) is None else folder_of(source)


def recorded(folder: Path) -> Results | None:
    """Returns the recorded results of the model in `folder`; None if it has none. Raises `InputError` if they are damaged."""
    path = Inside(folder) / RESULTS
    if not path.is_file():
        return None
    record = read(Record, path, ADVICE).model_dump()
    return Results(record["density"], record["diagnostics"], record["representation"], record["manifest"])


def described(name: str) -> dict[str, str]:
    """Returns what a list shows about the model `name`: data, likelihood, rate, how they were measured, size and licence."""
    folder = folder_of(name)
    data = model_experiment(folder).data
    record = read(Record, folder / RESULTS, ADVICE)
    density = record.density
    measured = f"{density.images:,} of {density.images_of_split:,} {density.split} images"
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {
        "name": name,
        "data": f"{data.dataset}, {data.binarisation}",
        "NLL (s.e.), nats": _with_error(density.nll_nats.mean, density.nll_nats.standard_error),
        "KL (s.e.), nats": _with_error(density.kl_nats.mean, density.kl_nats.standard_error),
        "measured on": f"{measured}, {density.samples:,} samples",
        "bytes": f"{size:,}",
        "licence": record.licence or "not stated",
    }


def _with_error(mean: float | None, error: float | None) -> str:
    if mean is None:
        return "?"
    return f"{mean:,.2f}" if error is None else f"{mean:,.2f} ({error:.2f})"


def _refuse(name: str) -> NoReturn:
    known = trained_models()
    near = get_close_matches(name[:200], known, n=3, cutoff=0.4)
    advice = f"did you mean {' or '.join(near)}?" if near else "give one of these names, or a folder."
    raise InputError(
        f"{name[:200]}: expected the folder of a run or of a model, or a model that comes with the package "
        f"({', '.join(known)}); {advice}",
        topic="not-a-run",
    )
