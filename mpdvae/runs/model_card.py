"""The model card: what a model is, what it was trained on, how it was measured, and how to reproduce it.

The card is Markdown, preceded by the metadata of the Hugging Face hub (https://huggingface.co/docs/hub/model-cards): YAML
in which each value is written as JSON, a subset of YAML. The metadata include the measured values, as a `model-index`.
Values that were not measured, and a licence that was not given, are omitted.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpdvae.errors import listed
from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.fields import ImageShape
from mpdvae.system.untrusted_files import in_short
from mpdvae.system.untrusted_text import code, escape
from mpdvae.version import __version__

PAPER = "https://arxiv.org/abs/1901.01498"
TEST_DRAWS = r", \d+ fixed test draws?"
"""Part of a protocol that training has nothing to do with."""
MEASURES = {
    "nll_nats": "NLL, importance-weighted (nats)",
    "negative_elbo_nats": "Negative ELBO (nats)",
    "kl_nats": "KL from prior (nats)",
    "bits_per_dim": "Bits per dimension",
}
"""Measures from density.json: means over images, with a standard error."""
CODE_MEASURES = {
    "mutual_information_nats": "Mutual information, lower bound (nats)",
    "mutual_information_upper_nats": "Mutual information, upper bound (nats)",
    "mpd_mean_nats": "MPD, mean over pairs (nats)",
    "active_units": "Active units",
}
"""Measures from diagnostics.json."""
NAMED = 40
"""Names of classes that a card lists."""
PLAIN = re.compile("[A-Za-z0-9][A-Za-z0-9 _.-]{0,39}")
"""A name of a class that example code contains."""
CLASSIFIERS = {"knn10_accuracy": "10-NN accuracy", "linear_accuracy": "Linear accuracy"}
"""Measures from representation.json, by number of labels."""


@dataclass(frozen=True)
class Results:
    """The JSON files of a measured run; empty if they do not exist."""

    density: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    representation: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """One measured value of the card."""

    key: str
    title: str
    value: float
    standard_error: float | None = None


def model_card(
    experiment: Experiment,
    image_shape: ImageShape,
    results: Results | None = None,
    source: str = ".",
    licence: str | None = None,
    class_names: Sequence[str] = (),
) -> str:
    """Returns the card as Markdown.

    Arguments:
        experiment: the experiment from which the model was built.
        image_shape: (channel, height, width).
        results: results of the model's run.
        source: argument of `mpdvae.load`: a folder, or the model's name on the hub.
        licence: licence of the weights, by its name on the hub (apache-2.0, cc-by-4.0, ...); None: not stated.
        class_names: names of the classes, in the order of their numbers; empty: they have none, or these are not known.
    """
    results = results or Results()
    numbers = list(_numbers(results))
    parts = [
        _front(experiment, results, numbers, licence),
        _about(experiment, image_shape, class_names),
        _training(experiment, results),
    ]
    if numbers:
        parts.append(_table(results, numbers))
    parts += [
        _licences(experiment, licence),
        _use(experiment, image_shape, source, class_names),
        _again(experiment, source),
    ]
    return "\n\n".join(parts) + "\n"


def _front(experiment: Experiment, results: Results, numbers: list[Measured], licence: str | None) -> str:
    metadata: dict[str, Any] = {"library_name": "mpdvae", "pipeline_tag": "unconditional-image-generation"}
    metadata["tags"] = ["variational-autoencoder", "representation-learning", experiment.model]
    metadata |= {"license": licence} if licence else {}
    if numbers:
        dataset = {"name": experiment.data.dataset, "type": experiment.data.dataset}
        metrics = [{"type": number.key, "name": number.title, "value": number.value} for number in numbers]
        task = {"type": "unconditional-image-generation"}
        result = {"task": task, "dataset": dataset | {"split": _split(results)}, "metrics": metrics}
        metadata["model-index"] = [{"name": experiment.name, "results": [result]}]
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in metadata.items()), "---"])


def _about(e: Experiment, image_shape: ImageShape, class_names: Sequence[str]) -> str:
    about = (
        f"# {escape(e.name)}\n\nA variational autoencoder from `mpdvae` {__version__}: {e.encoder.kind} encoder, "
        f"{e.decoder.kind} decoder, {e.prior.kind} prior, {e.latent_dim} latent dimensions, images {image_shape} "
        "(channel, height, width)."
    )
    if e.data.condition.channels:
        about += f" It is conditional: of each image it is told {e.data.condition.in_words}{_called(class_names)}."
    return f"{about}\n\n{escape(e.reproduces)}" if e.reproduces else about


def _training(e: Experiment, results: Results) -> str:
    data = results.manifest.get("data") or {}
    protocol = data.get("protocol") or f"{e.data.dataset}, {e.data.binarisation} binarisation"
    protocol = re.sub(TEST_DRAWS, "", protocol)
    objective = e.objective
    hashed = f", SHA-256 {escape(data['sha256'])}" if "sha256" in data else ""
    return (
        f"Trained on {escape(protocol)}{hashed}; seed {e.seed}, diversity weight {objective.diversity_weight:g}, "
        f"smoothness weight {objective.smoothness_weight:g}. Weights are averaged over the last steps of "
        "training; `experiment.json` is the complete configuration."
    )


def _table(results: Results, numbers: list[Measured]) -> str:
    density = results.density
    how = f"## Evaluation\n\nOn the {escape(_split(results))} split"
    if density:
        how += f": {density['images']:,} images, {density['samples']:,} importance samples each"
        how += f". Protocol: {escape(density['protocol'])}" if density.get("protocol") else ""
    rows = ["| measure | value | standard error |", "| --- | ---: | ---: |"]
    for number in numbers:
        error = "" if number.standard_error is None else f"{number.standard_error:.4g}"
        rows.append(f"| {escape(number.title)} | {number.value:.5g} | {error} |")
    return f"{how}.\n\n" + "\n".join(rows)


def _licences(e: Experiment, licence: str | None) -> str:
    from mpdvae.data import ENTRIES  # needs torch

    weights = escape(licence or "not stated")
    data = {entry.name: entry.licence for entry in ENTRIES}.get(e.data.dataset, "own images, not stated")
    return f"## Licence\n\nWeights: {weights}. Data: {data.rstrip('.')}."


def _called(class_names: Sequence[str]) -> str:
    """Returns what the classes are called, in brackets; of numbers, nothing."""
    return f" ({escape(listed([in_short(name, 60) for name in class_names], NAMED))})" if class_names else ""


def _use(e: Experiment, image_shape: ImageShape, source: str, class_names: Sequence[str]) -> str:
    shape, condition = ", ".join(map(str, image_shape)), e.data.condition
    lines = [
        "import mpdvae",
        "",
        f"vae = mpdvae.load({json.dumps(source)})",
        f"images = vae.sample(16)  # [16, {shape}]",
    ]
    if condition.channels:
        lines[1] = "from mpdvae.data import split_condition\n"
        # With the class alone, covariates are those of images of that class, of which the model may keep none.
        given = "" if condition.covariates else f", labels={_literal(class_names)}"
        lines[3] = f"images, told = split_condition(vae.sample(16{given}), vae.condition)  # [16, {shape}] and [16, "
        lines[3] += f"{condition.channels}]"
    return "\n".join(["```python", *lines, "```"])


def _literal(class_names: Sequence[str]) -> str:
    """Returns the first class as Python reads it: a plain name, otherwise its number."""
    plain = bool(class_names) and class_names.count(class_names[0]) == 1 and PLAIN.fullmatch(class_names[0])
    return json.dumps(class_names[0]) if plain else "0"


def _again(e: Experiment, source: str) -> str:
    where = "experiment.json" if source == "." else f"the `experiment.json` of {code(source)}"
    own = " --data.path FOLDER" if e.data.dataset == "own" else ""
    return (
        "## Reproducing this model\n\n"
        f"Run `pip install mpdvae`, then `mpdvae train experiment.json --out runs/again{own}` with {where}. "
        "The method: Ma, Zhou & Hovy, *MAE: Mutual Posterior-Divergence Regularization for Variational AutoEncoders*, "
        f"ICLR 2019, {PAPER}."
    )


def _split(results: Results) -> str:
    return results.density.get("split") or results.diagnostics.get("split") or "test"


def _numbers(results: Results) -> Iterator[Measured]:
    """Yields all measured values that the card shows."""
    for key, title in MEASURES.items():
        value = results.density.get(key)
        if value and value["mean"] is not None:
            yield Measured(key, title, float(value["mean"]), value.get("standard_error"))
    for key, title in CODE_MEASURES.items():
        if results.diagnostics.get(key) is not None:
            yield Measured(key, title, float(results.diagnostics[key]))
    for key, title in CLASSIFIERS.items():
        for labels, score in results.representation.get(key, {}).items():
            if score.get("mean") is not None:
                yield Measured(f"{key}_{labels}", f"{title}, {labels} labels", float(score["mean"]))
