"""Differences between a study's set-up and that of the authors' released code, row by row.

`RELEASED` is the released configuration for 28x28 binary images in the form of an experiment.json. Each row has a function
that describes one aspect of a configuration in words. It is applied to both the released configuration and ours; two
set-ups agree in an aspect if the words are the same. The remaining settings behind the paper's own tables (above all the
two weights) were not recovered.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mpdvae.report.collect import Run, Study

SOURCE = "https://github.com/XuezheMax/mae"

RELEASED: Mapping[str, Any] = {
    "latent_dim": 32,
    "encoder": {"kind": "resnet", "channels": [32, 64, 64], "features": 512},
    "training": {
        "steps": 580_000,
        "batch_size": 100,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "betas": [0.9, 0.999],
        "decay_per_step": 0.999998,
        "averaging": 0.999,
        "clip_norm": 5.0,
        "plateau": {"patience": 20, "factor": 0.5, "limit": 3},
    },
}
DECODERS = {
    "pixelcnn": {"kind": "pixelcnn", "channels": 64, "kernel_sizes": [7, 7, 7, 5, 5, 3, 3], "condition_channels": 4},
    "independent": {"kind": "resnet", "channels": [64, 64, 32]},
}
PRIORS = {
    "flow": {"kind": "flow", "blocks": 4, "hidden_features": 320, "hidden_layers": 1, "mean_only": False},
    "standard-normal": {"kind": "standard-normal"},
}
NAMES = {
    "convnet": "ConvNet",
    "resnet": "ResNet",
    "densenet": "DenseNet",
    "pixelcnn": "PixelCNN",
    "pixelcnn++": "PixelCNN++",
    "colour-resnet": "ResNet",
    "injective": "injective network",
    "injective-pixelcnn": "injective PixelCNN",
}
"""Names of networks in words; others keep the name of their kind."""
PARAMETERS = {"encoder": 703_872, "pixelcnn": 505_346, "independent": 141_327, "flow": 356_352}


@dataclass(frozen=True)
class Matter:
    """One row: an aspect of the set-up in the released code and in the study."""

    title: str
    released: str
    here: tuple[tuple[str, str], ...]
    """Descriptions, each with the models to which it applies ("" for all models)."""
    same: bool


def differences(study: Study) -> list[Matter]:
    """Returns all rows for one study, with the rows that differ first."""
    rows = [
        _data(study),
        _fixed(
            "Split and binarisation",
            "MNIST 58,000 / 2,000 / 10,000 by seed 524287; dynamic; 5 fixed draws of each test image",
            lambda run: run.setting.protocol,
            study,
        ),
        _fixed(
            "Test likelihood",
            "4,096 samples for each of 10,000 test images x 5 draws",
            lambda run: (
                f"{run.setting.samples:,} samples for each of {run.setting.images:,} {run.setting.split} images"
            ),
            study,
        ),
        _described("Encoder", _encoder, study),
        _described("Latent dimension", lambda c: str(c.get("latent_dim", "unknown")), study),
        _described("Decoder", _decoder, study),
        _described("Prior", _prior, study),
        _fixed("Diversity and smoothness weights", _WEIGHTS, _weights, study),
        _described("Training length", _length, study),
        _described("Optimiser", _optimiser, study),
        _fixed("Parameters", _PARAMETERS, _parameters, study),
    ]
    return sorted(rows, key=lambda row: row.same)


_WEIGHTS = "not recovered; the only recorded ones are a grid of 0.5, 1, 2 by 0.1, 0.5, 1"
_PARAMETERS = (
    f"encoder {PARAMETERS['encoder']:,}; decoder {PARAMETERS['pixelcnn']:,} (PixelCNN) or "
    f"{PARAMETERS['independent']:,} (independent pixels); flow {PARAMETERS['flow']:,}"
)


def _data(study: Study) -> Matter:
    """The data set, which is the same if it is one of the paper's."""
    row = _fixed("Data", "MNIST and OMNIGLOT at 28x28, CIFAR-10", lambda run: run.setting.dataset, study)
    return replace(row, same=study.setting.dataset in ("mnist", "omniglot-burda-lying", "cifar10"))


def _described(title: str, describe: Callable[[Mapping[str, Any]], str], study: Study) -> Matter:
    """Returns a row whose two sides come from the same function."""
    references = [_released_like(run.configuration) for run in _first_runs(study)]
    released = " or ".join(dict.fromkeys(map(describe, references)))
    ours = [describe(run.configuration) for run in _first_runs(study)]
    same = all(describe(reference) == text for reference, text in zip(references, ours, strict=True))
    return Matter(title, released, _by_text(study, ours), same)


def _fixed(title: str, released: str, describe: Callable[[Run], str], study: Study) -> Matter:
    """Returns a row whose left side is a fixed text."""
    return Matter(title, released, _by_text(study, [describe(run) for run in _first_runs(study)]), same=False)


def _first_runs(study: Study) -> list[Run]:
    return [variant.runs[0] for variant in study.variants]


def _by_text(study: Study, texts: list[str]) -> tuple[tuple[str, str], ...]:
    models: dict[str, list[str]] = {}
    for variant, text in zip(study.variants, texts, strict=True):
        models.setdefault(text, []).append(variant.label)
    if len(models) == 1:
        return ((texts[0], ""),)
    return tuple((text, ", ".join(labels)) for text, labels in models.items())


def _released_like(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    """The released configuration with the decoder and prior of the same kind as ours."""
    autoregressive = _part(configuration, "decoder").get("kind") in ("pixelcnn", "injective-pixelcnn")
    decoder = "pixelcnn" if autoregressive else "independent"
    prior = "flow" if _part(configuration, "prior").get("kind") == "flow" else "standard-normal"
    return {**RELEASED, "decoder": DECODERS[decoder], "prior": PRIORS[prior]}


def _part(configuration: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = configuration.get(name)
    return part if isinstance(part, Mapping) else {}


def _encoder(configuration: Mapping[str, Any]) -> str:
    return _network(_part(configuration, "encoder"))


def _decoder(configuration: Mapping[str, Any]) -> str:
    return _network(_part(configuration, "decoder"))


def _network(part: Mapping[str, Any]) -> str:
    """The kind, then its settings in the order in which they are written, without those that change nothing."""
    kind = str(part.get("kind", "unknown"))
    told = [_setting(name, value) for name, value in part.items() if name != "kind" and value not in (None, False, 0)]
    return ", ".join([NAMES.get(kind, kind), *(text for text in told if text)])


def _setting(name: str, value: Any) -> str:
    if name in ("head", "refinement_rate") and value in ({"kind": "gaussian"}, 0.1):
        return ""
    words = name.replace("_", " ")
    if value is True:
        return f"with {words}"
    return f"{words} {_network(value) if isinstance(value, Mapping) else _short(value)}"


def _prior(configuration: Mapping[str, Any]) -> str:
    prior = _part(configuration, "prior")
    if prior.get("kind") == "standard-normal":
        return "N(0, I)"
    if prior.get("kind") == "flow":
        steps = "mean-only" if prior.get("mean_only") else "affine"
        return f"{prior.get('blocks')} dual-order {steps} flow blocks, hidden {prior.get('hidden_features')}"
    return _network(prior)


def _length(configuration: Mapping[str, Any]) -> str:
    training = _part(configuration, "training")
    steps = training.get("steps")
    text = f"up to {steps:,} steps" if isinstance(steps, int) else "unknown"
    return f"{text} of {training.get('batch_size', 'unknown')} images"


def _optimiser(configuration: Mapping[str, Any]) -> str:
    training = _part(configuration, "training")
    plateau = "" if not training.get("plateau") else ", halved at plateaus"
    return (
        f"{training.get('optimizer', 'adam')}, learning rate {training.get('learning_rate', 'unknown')}, decay per step "
        f"{training.get('decay_per_step', 1)}{plateau}; weights averaged with {training.get('averaging', 0)}"
    )


def _weights(run: Run) -> str:
    objective = _part(run.configuration, "objective")
    diversity, smoothness = objective.get("diversity_weight", 0), objective.get("smoothness_weight", 0)
    if not diversity and not smoothness:
        return "none"
    return f"{_short(diversity)} and {_short(smoothness)}, form {objective.get('mpd_form', 'released')}"


def _parameters(run: Run) -> str:
    counts = run.manifest.parameters
    return "; ".join(f"{name} {count:,}" for name, count in counts.items()) or "unknown"


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(_short, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
