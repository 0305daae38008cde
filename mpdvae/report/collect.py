"""Groups run folders into comparable runs.

    study      all finished runs with the same setting: data set, protocol, scale, and how they were measured
    variant    runs of a study that differ only in their seed: one column of a table
    run        one folder

Numbers measured under different protocols are not comparable (on MNIST, dynamic versus static binarisation makes a
difference of about two nats). Therefore a study never contains two settings, and no table or chart spans several studies.
Unfinished runs are listed, and their numbers are not used.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpdvae.errors import InputError, why
from mpdvae.report.explored import Explored, read_explored
from mpdvae.report.per_image import PerImage, read_per_image
from mpdvae.report.schema import (
    Codes,
    CodeUse,
    Density,
    Diagnostics,
    Disentanglement,
    Experiment,
    HistoryPoint,
    Information,
    Manifest,
    P,
    Representation,
    parse,
    read,
    read_object,
    read_text,
)
from mpdvae.runs.finite_weights import check_stored
from mpdvae.runs.run_folder import FAILURE_LOG
from mpdvae.system.closed_folder import Inside

ORDER = ["mae", "vlae", "vae-pixelcnn", "vae", "mae-no-smoothness", "mae-no-diversity"]
"""Models of the matrix, in display order; others follow by name. MAE, which the report is about, comes first."""

DATASETS = ["mnist", "static-mnist", "omniglot", "omniglot-burda", "omniglot-burda-lying", "cifar10"]
"""Data sets of the papers, in display order; others follow by name."""
SCALES = ["smoke", "minutes", "hours", "days", "paper"]
PICTURES = ["reconstructions", "samples", "interpolations"]
LABELS_ONLY = {"name", "seed", "reproduces"}
"""Fields of a configuration in which runs of one variant may differ."""


@dataclass(frozen=True)
class Setting:
    """The settings that must agree for two numbers to appear in one table."""

    dataset: str
    protocol: str
    scale: str
    split: str
    images: int
    samples: int
    diagnosed_images: int
    representation: str
    """The amount of data on which the representation was measured, as JSON."""
    data_hash: str
    tolerance_nats: float | None = None
    proposal: str = "encoder"

    @property
    def measured(self) -> str:
        """Description of how the likelihood was measured."""
        words = f"{self.split} split, {self.images:,} images, {self.samples:,} importance samples each"
        if self.proposal != "encoder":
            words += f" from a {self.proposal} proposal"
        return words if self.tolerance_nats is None else f"{words} or an error of {self.tolerance_nats:g} nats"

    @property
    def title(self) -> str:
        return f"{self.dataset}, scale {self.scale}"


@dataclass(frozen=True)
class Run:
    """A finished run: the content of its folder."""

    folder: Path
    name: str
    model: str
    seed: int
    setting: Setting
    configuration: Mapping[str, Any]
    manifest: Manifest
    history: tuple[HistoryPoint, ...]
    density: Density
    diagnostics: Diagnostics
    information: Information | None
    code_use: CodeUse | None
    representation: Representation | None
    disentanglement: Disentanglement | None
    codes: Codes | None
    explored: Explored | None
    pictures: Mapping[str, Inside]
    per_image: PerImage | None
    """Likelihoods by image; None in runs of early versions."""


@dataclass(frozen=True)
class Unfinished:
    """A run that cannot be included in the report yet."""

    folder: Path
    name: str
    model: str
    seed: int
    status: str
    failure: str = ""
    """The end of its failure.log, if there is one."""

    @property
    def in_words(self) -> str:
        return f"{self.status}, failed: {self.failure}" if self.failure else self.status


@dataclass(frozen=True)
class Variant:
    """Runs that differ only in their seed, by ascending seed."""

    label: str
    model: str
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]


@dataclass(frozen=True)
class Study:
    """All runs that are comparable with each other."""

    setting: Setting
    variants: tuple[Variant, ...]

    @property
    def runs(self) -> list[Run]:
        return [run for variant in self.variants for run in variant.runs]

    def of_model(self, model: str) -> list[Variant]:
        return [variant for variant in self.variants if variant.model == model]


@dataclass(frozen=True)
class Collection:
    studies: tuple[Study, ...]
    unfinished: tuple[Unfinished, ...]

    @property
    def runs(self) -> list[Run]:
        return [run for study in self.studies for run in study.runs]


def collect(folders: Sequence[Path]) -> Collection:
    """Reads, validates and groups run folders.

    Raises:
        InputError: if no folder is given, a folder is not a run, a file of a finished run is missing or broken, its weights
            are not finite, or two folders have the same configuration and seed.
    """
    unique = list({folder.resolve(): folder for folder in folders}.values())
    if not unique:
        raise InputError(
            "no run folder was given: name at least one, for example `mpdvae report runs/* --out report.html`.",
            topic="not-a-run",
        )
    read_runs = [read_run(folder) for folder in unique]
    by_setting: dict[Setting, list[Run]] = defaultdict(list)
    for run in read_runs:
        if isinstance(run, Run):
            by_setting[run.setting].append(run)
    studies = [Study(setting, tuple(_variants(runs))) for setting, runs in by_setting.items()]
    studies.sort(
        key=lambda study: (
            *_rank(study.setting.dataset, DATASETS),
            *_rank(study.setting.scale, SCALES),
            study.setting.protocol,
            study.setting.measured,
        )
    )
    return Collection(tuple(studies), tuple(run for run in read_runs if isinstance(run, Unfinished)))


def finished(runs: Path) -> list[Path]:
    """Returns the folders of finished runs in `runs`, which need not exist; others are left out."""
    folders = sorted(path.parent for path in runs.glob("*/manifest.json"))
    advice = "leave it out"
    return [f for f in folders if read(Manifest, Inside(f) / "manifest.json", advice).status == "finished"]


def read_run(folder: Path) -> Run | Unfinished:
    """Reads one run folder. Raises `InputError`, naming the file and what to do, if a file is missing or broken."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give run folders written by `mpdvae train`.", topic="not-a-run")
    not_a_run = f"is {folder} a run folder? Leave it out, or train it again into an empty folder"
    files = Inside(folder)
    experiment = read(Experiment, files / "experiment.json", not_a_run)
    failure = _failure(files / FAILURE_LOG, not_a_run)
    if failure and not (files / "manifest.json").exists():
        return Unfinished(folder, experiment.name, experiment.model, experiment.seed, "new", failure)
    manifest = read(Manifest, files / "manifest.json", not_a_run)
    if manifest.status != "finished":
        return Unfinished(folder, experiment.name, experiment.model, experiment.seed, manifest.status, failure)
    configuration = read_object(files / "experiment.json", not_a_run)
    again = f"run `mpdvae evaluate {folder}` to create it, or leave this run out"
    if (weights := files / "model" / "model.safetensors").is_file():
        check_stored(weights)
    density = read(Density, files / "density.json", again)
    diagnostics = read(Diagnostics, files / "diagnostics.json", again)
    return Run(
        folder=folder,
        name=experiment.name,
        model=experiment.model,
        seed=experiment.seed,
        setting=_setting(experiment, manifest, density, diagnostics, configuration),
        configuration=configuration,
        manifest=manifest,
        history=_history(files / "history.jsonl", not_a_run),
        density=density,
        diagnostics=diagnostics,
        information=_optional(Information, files / "information.json", again),
        code_use=_optional(CodeUse, files / "code_use.json", again),
        representation=_optional(Representation, files / "representation.json", again),
        disentanglement=_optional(Disentanglement, files / "disentanglement.json", again),
        codes=_codes(files / "codes.json", again),
        explored=read_explored(files, again),
        pictures={name: path for name in PICTURES if (path := files / "figures" / f"{name}.png").is_file()},
        per_image=read_per_image(files / "density.csv", again),
    )


def _setting(
    experiment: Experiment,
    manifest: Manifest,
    density: Density,
    diagnostics: Diagnostics,
    configuration: Mapping[str, Any],
) -> Setting:
    evaluation = configuration.get("evaluation")
    evaluation = evaluation if isinstance(evaluation, dict) else {}
    names = ["representation_images", "label_subsets"]
    return Setting(
        dataset=manifest.data.name,
        protocol=density.protocol or manifest.data.protocol,
        scale=experiment.scale,
        split=density.split,
        images=density.images,
        samples=density.samples,
        diagnosed_images=diagnostics.images,
        representation=json.dumps({name: evaluation.get(name) for name in names}),
        data_hash=manifest.data.sha256,
        tolerance_nats=density.tolerance_nats,
        proposal=density.proposal,
    )


def _failure(path: Inside, advice: str) -> str:
    return why(read_text(path, advice)) if path.exists() else ""


def _optional(kind: type[P], path: Inside, advice: str) -> P | None:
    return read(kind, path, advice) if path.exists() else None


def _codes(path: Inside, advice: str) -> Codes | None:
    if not path.exists():
        return None
    codes = read(Codes, path, advice)
    if len(codes.x) != len(codes.y) or (codes.labels is not None and len(codes.labels) != len(codes.x)):
        raise InputError(f"{path} is broken (x, y and labels differ in length): {advice}.", topic="damaged")
    return codes


def _history(path: Inside, advice: str) -> tuple[HistoryPoint, ...]:
    lines = enumerate(read_text(path, advice).splitlines(), start=1)
    points = (parse(HistoryPoint, line, f"{path}, line {i},", advice) for i, line in lines if line.strip())
    return tuple(points)


def _variants(runs: Iterable[Run]) -> list[Variant]:
    """Groups runs by model and, within a model, by configuration; labels name the fields that differ."""
    groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        fields = {k: v for k, v in run.configuration.items() if k not in LABELS_ONLY}
        groups[run.model, json.dumps(fields, sort_keys=True)].append(run)
    for group in groups.values():
        _refuse_twins(group)
    by_model: dict[str, list[list[Run]]] = defaultdict(list)
    for (model, _), group in groups.items():
        by_model[model].append(sorted(group, key=lambda run: run.seed))
    variants = []
    for model in sorted(by_model, key=lambda model: _rank(model, ORDER)):
        labels = _labels(model, [group[0].configuration for group in by_model[model]])
        variants += [Variant(label, model, tuple(g)) for label, g in zip(labels, by_model[model], strict=True)]
    return variants


def _refuse_twins(runs: Sequence[Run]) -> None:
    seen: dict[int, Run] = {}
    for run in runs:
        if run.seed in seen:
            raise InputError(
                f"{seen[run.seed].folder} and {run.folder} are runs of the same configuration with the same seed "
                f"{run.seed}: give only one of them."
            )
        seen[run.seed] = run


def _labels(model: str, configurations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the model's name; for several configurations, with the fields in which they differ."""
    if len(configurations) == 1:
        return [model]
    flat = [flatten(configuration) for configuration in configurations]
    names = sorted({name for fields in flat for name in fields} - LABELS_ONLY)
    differing = [name for name in names if len({str(fields.get(name)) for fields in flat}) > 1]
    labels = []
    for fields in flat:
        described = ", ".join(f"{name.rpartition('.')[2]} {fields.get(name, 'absent')}" for name in differing)
        labels.append(f"{model} ({described})")
    return labels


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens a nested configuration into dotted names and values."""
    fields: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            fields |= flatten(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def _rank(name: str, order: Sequence[str]) -> tuple[int, str]:
    return (order.index(name), "") if name in order else (len(order), name)
