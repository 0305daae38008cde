"""Packs a finished run as a trained model that comes with the package: `python -m mpdvae.workflows.packing RUN NAME`.

The files are described in `mpdvae.sharing.shipped`. The weights are the very bytes that the run's evaluation measured: a run
whose files, data or configuration differ from what its manifest records is refused. With `float16`, the weights are rounded
first and everything is measured again from the rounded ones, so that the card's numbers are always those of the weights
beside it.

The images are test images if the licence of the data set allows passing them on, otherwise images drawn from the model.
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mpdvae.data import ENTRIES, Splits, evaluation_images
from mpdvae.data.conditions import NOTHING, known_from
from mpdvae.errors import InputError
from mpdvae.evaluation import example_images
from mpdvae.evaluation.example_images import Examples
from mpdvae.evaluation.representation_baselines import unscored_because
from mpdvae.experiments.recipes import all_recipes
from mpdvae.measures import density
from mpdvae.measures.random_subsets import random_subset
from mpdvae.report.per_image import LARGEST_CSV
from mpdvae.report.schema import Density, Diagnostics, Part, Scores, read
from mpdvae.runs.checksums import LARGEST_FILE
from mpdvae.runs.model_card import CLASSIFIERS, Results, model_card
from mpdvae.runs.model_folder import load
from mpdvae.runs.run_folder import Run
from mpdvae.runs.tensor_file import read_header, read_tensors
from mpdvae.sharing import shipped
from mpdvae.system.atomic_files import read_json, write_atomically, write_json
from mpdvae.system.closed_folder import Inside
from mpdvae.system.untrusted_text import tell
from mpdvae.workflows.job import data_of
from mpdvae.workflows.verification import copy, measure_aside, measurements, verify

if TYPE_CHECKING:
    from mpdvae.vae import VAE

TEST_IMAGES, DRAWN_IMAGES, CHECKED_IMAGES = 500, 64, 8
"""Number of test images; of images drawn from the model instead; of those whose log p(x) is measured."""
LARGEST_SHEET = 2**19
"""Maximum number of values in all test images."""
PROVENANCE = ("version", "torch", "data", "parameters", "training_seconds")
"""Entries of the manifest that are recorded; the others are about the machine."""


def pack(
    folder: Path,
    name: str,
    *,
    licence: str | None = None,
    float16: bool = False,
    into: Path = shipped.FOLDER,
    data_root: Path | None = None,
) -> Path:
    """Writes the model of a run to a folder from which `mpdvae.load(name)` reads it, and returns that folder.

    Arguments:
        folder: folder of a finished run; it is only read.
        name: name of the model: small letters, digits and dashes; an existing model of this name is replaced.
        licence: licence of the weights by the hub's name for it: apache-2.0, ...
        float16: whether the weights are rounded to float16; everything is then measured again.
        into: folder of all models.
        data_root: folder of the data; None: the default one.

    Raises:
        InputError: if the name is not valid, or the run is not finished, was changed, was measured in bfloat16, or is about
            own images.
    """
    _check_name(name)
    run = Run(folder)
    if run.status != "finished":
        raise InputError(f"{folder}: not finished ({run.status}); run `mpdvae resume {folder}`.", topic="not-finished")
    if run.experiment.data.path is not None:
        raise InputError(f"{folder}: trained on own images, whose path it records; pack a model of a public data set.")
    if faults := verify(folder, quick=True, data_root=data_root).faults:
        raise InputError(
            f"{folder}: differs from its manifest ({', '.join(faults)}); run `mpdvae evaluate {folder}`.",
            topic="differs",
        )
    if any(arguments.get("precision") == "bfloat16" for arguments in measurements(folder)):
        raise InputError(
            f"{folder}: its likelihoods were measured in bfloat16; run `mpdvae evaluate {folder} --precision float32`.",
            topic="differs",
        )
    manifest, data = run.manifest, data_of(run, data_root)
    with _rounded(run, data) if float16 else _as_it_is(run) as measured:
        return _write(measured, into / name, data, manifest, licence)


def _check_name(name: str) -> None:
    if shipped.NAME.fullmatch(name) is None or not name.replace("-", "").isalnum() or name != name.lower():
        raise InputError(f"name: expected small letters, digits and dashes, got {name!r}.")
    if name in all_recipes():
        raise InputError(f"name: {name} is a recipe, which a model may not be called; leave out its scale.")


@contextmanager
def _as_it_is(run: Run) -> Iterator[Run]:
    yield run


@contextmanager
def _rounded(run: Run, data: Splits) -> Iterator[Run]:
    """Yields a temporary copy of a run whose weights are rounded to float16, with results measured from these."""
    from safetensors.torch import save

    with TemporaryDirectory(prefix="mpdvae-pack-") as aside:
        rounded, again = Path(aside) / "copy", Path(aside) / "run"
        for path in [
            run.folder / "experiment.json",
            *run.folder.files("density*.json"),
            *(run.folder / "model").files(),
        ]:
            copy(path, Inside(rounded, path.parts))
        weights = Inside(rounded) / "model" / "model.safetensors"
        with weights.open() as file:
            header = read_header(file, weights)
            tensors = {name: tensor.half() for name, tensor in read_tensors(file, header, weights).items()}
        write_atomically(weights, save(tensors, header.metadata))
        measure_aside(Run(rounded), again, data, say=tell)
        yield Run(again)


def _write(run: Run, folder: Path, data: Splits, manifest: dict[str, Any], licence: str | None) -> Path:
    experiment, record = run.experiment, _record(run.folder, data, manifest, licence)
    for name in ("model.safetensors", "experiment.json"):
        write_atomically(Inside(folder) / name, (run.folder / "model" / name).read_bytes(LARGEST_FILE))
    write_json(Inside(folder) / shipped.RESULTS, record)
    results = shipped.recorded(folder)
    assert results is not None
    examples = _test_images(run, data) if _may_be_passed_on(data.name) else _drawn_images(load(run.path), results)
    example_images.write(Inside(folder), examples, experiment.data)
    card = model_card(experiment, data.image_shape, results, folder.name, licence, data.class_names)
    about = _about_images(examples, data)
    write_atomically(Inside(folder) / "README.md", f"{card}\n{about}\n")
    return folder


def _record(folder: Inside, data: Splits, manifest: dict[str, Any], licence: str | None) -> dict[str, Any]:
    """Returns the content of results.json, without the commands, which may contain paths. Images without labels have no
    scores. Raises `InputError` if a result is missing."""
    results: dict[str, dict[str, Any]] = {"representation": {}}
    kinds: dict[str, type[Part]] = {"density": Density, "diagnostics": Diagnostics}
    for file, kind in (kinds if unscored_because(data, data.test) else kinds | {"representation": Scores}).items():
        path = folder / f"{file}.json"
        read(kind, path, f"`mpdvae evaluate {folder}` recreates it")
        results[file] = {key: value for key, value in read_json(path).items() if key != "command"}
    scores = results["representation"]
    results["representation"] = {key: scores[key] for key in CLASSIFIERS if key in scores}
    return {"licence": licence, **results, "manifest": {key: manifest[key] for key in PROVENANCE if key in manifest}}


def _may_be_passed_on(dataset: str) -> bool:
    """Returns whether the data set has a licence; those of own images and of some public sets are not known."""
    licences = {entry.name: entry.licence for entry in ENTRIES}
    return not licences.get(dataset, "none").startswith("none")


def _test_images(run: Run, data: Splits) -> Examples:
    """Returns random test images, those of a random subset whose likelihood was measured first, with their likelihoods."""
    count = min(TEST_IMAGES, LARGEST_SHEET // data.test.pixels[0].numel(), len(data.test))
    chosen = random_subset(count, len(data.test))
    x, _ = evaluation_images(data.test, run.experiment.data.protocol(), "test", draws=1)
    lines = (run.folder / "density.csv").read_bytes(LARGEST_CSV).decode().splitlines()
    log_prob = {int(row["image"]): float(row["log_prob_nats"]) for row in csv.DictReader(lines) if row["draw"] == "0"}
    indices: list[int] = chosen.tolist()
    return Examples(
        x=x[chosen],
        indices=indices,
        known=data.test.known.take(chosen),
        log_prob_nats=[log_prob[i] for i in takewhile(log_prob.__contains__, indices)],
        drawn=False,
    )


def _drawn_images(vae: "VAE", results: Results) -> Examples:
    """Returns images drawn from the model; the likelihoods of some are measured as those of test images were."""
    from mpdvae.seeding import seeded

    with seeded(0, "sample"):
        x = vae.sample(DRAWN_IMAGES)
    measured = density.estimate(
        vae,
        x[:CHECKED_IMAGES],
        results.density["samples"],
        tolerance=results.density.get("tolerance_nats"),
        proposal=results.density.get("proposal", "encoder"),
    )
    return Examples(
        x=x,
        indices=list(range(DRAWN_IMAGES)),
        known=NOTHING if (told := vae.told_of(x)) is None else known_from(told, vae.condition),
        log_prob_nats=measured.log_prob.tolist(),
        drawn=True,
    )


def _about_images(examples: Examples, data: Splits) -> str:
    count, measured = len(examples.x), len(examples.log_prob_nats)
    if examples.drawn:
        which, terms = f"{count} images drawn from the model", "the data may not be passed on"
    else:
        licence = {entry.name: entry.licence for entry in ENTRIES}[data.name].rstrip(".")
        which, terms = f"{count} random test images, as the model sees them", f"licence: {licence}"
    apart = "" if data.image_shape[0] in (1, 3) else ", the channels of each side by side, in grey"
    labels = "" if examples.known.labels is None else ", their labels"
    return (
        f"## Images\n\n`images.png` holds {which}{apart} ({terms}); `images.json` their positions in the split{labels} and "
        f"the measured log p(x) of the first {measured}, which can be computed again from the weights and these two files."
    )


def main() -> None:
    """Packs a run; the options are the arguments of `pack`."""
    import tyro
    from tyro.conf import Positional

    def command(
        run: Positional[Path], name: Positional[str], licence: str = "apache-2.0", float16: bool = False
    ) -> None:
        """Pack a finished run as a model that comes with the package.

        Args:
            run: Folder of the run.
            name: Name of the model.
            licence: Licence of the weights.
            float16: Round the weights to float16 and measure everything again.
        """
        folder = pack(run, name, licence=licence, float16=float16)
        tell(f"{folder}: {sum(path.stat().st_size for path in folder.iterdir()):,} bytes")

    tyro.cli(command, prog="python -m mpdvae.workflows.packing")


if __name__ == "__main__":
    main()
