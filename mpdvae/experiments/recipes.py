"""Named experiments: the models of the comparison on every data set, at every scale.

    vae                 independent pixels, N(0, I) prior            the code must carry everything
    vae-pixelcnn        autoregressive decoder, N(0, I) prior        the decoder can ignore the code
    vlae                autoregressive decoder, flow prior           Variational Lossy Autoencoder
    mae                 vlae + diversity + smoothness                the paper
    mae-no-smoothness   vlae + diversity                             ablation
    mae-no-diversity    vlae + smoothness                            ablation

A recipe is named MODEL-DATASET-SCALE. At one scale all models on a data set share encoder, training and evaluation
(`mpdvae.experiments.studies`), so that they differ only in what is compared. Every scale has the grid of the two weights.
Scales `days` and `paper` have further models: the paper's larger PixelCNN, restricted receptive fields, and variants from
the literature. Scales `smoke`, `minutes` and `hours` have the remedies for collapse (`mpdvae.experiments.remedies`), each
applied to the model that collapses; these scales and `days` have sweeps of single parameters of it
(`mpdvae.experiments.sweeps`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from mpdvae.errors import InputError, refuse_unknown
from mpdvae.experiments import sweeps
from mpdvae.experiments.decoder_config import (
    ConvNetDecoder,
    DecoderConfig,
    MLPDecoder,
    PixelCNNDecoder,
    PixelCNNPPDecoder,
)
from mpdvae.experiments.encoder_config import ConvNetEncoder, EncoderConfig, MLPEncoder
from mpdvae.experiments.experiment import Experiment, ObjectiveConfig, with_changes
from mpdvae.experiments.prior_config import FlowPrior, PriorConfig, StandardNormalPrior
from mpdvae.experiments.remedies import REMEDIES
from mpdvae.experiments.scales import SCALES, Scale
from mpdvae.experiments.studies import Study

DIVERSITY_WEIGHT = 1.0
SMOOTHNESS_WEIGHT = 0.5
"""The weights used here. The pair behind the paper's tables is unknown; both values are on the grid of the authors' code
(`sweeps.GRID`)."""

FREE_BITS_PER_PIXEL_NATS = 0.01
"""Chen et al. (2017), appendix: 0.01 nats per data dimension."""
LARGE = (7,) * 5 + (5,) * 4 + (3,) * 4

MODELS = {
    "vae": "VAE with independent pixels (Kingma & Welling 2014)",
    "vae-pixelcnn": "VAE with an autoregressive decoder: shows the collapse (Chen et al. 2017)",
    "vlae": "Variational Lossy Autoencoder: flow prior (Chen et al. 2017)",
    "mae": "MAE: VLAE with diversity and smoothness (Ma et al. 2019)",
    "mae-no-smoothness": "MAE without smoothness (ablation)",
    "mae-no-diversity": "MAE without diversity (ablation)",
}
"""Models that `mpdvae reproduce` compares."""
COLLAPSING = "vae-pixelcnn"
"""The model to which remedies and dials are applied."""


@dataclass(frozen=True)
class Variant:
    """How one model differs from the others of a study."""

    description: str
    decoder: DecoderConfig
    prior: PriorConfig
    diversity_weight: float = 0.0
    smoothness_weight: float = 0.0
    free_bits_nats: float = 0.0
    encoder: EncoderConfig | None = None
    latent_dim: int | None = None
    optimizer: str | None = None


@cache
def all_recipes() -> dict[str, Experiment]:
    """Returns every named experiment, with seed 0, by name."""
    experiments = (
        _experiment(model, variant, study, scale.name)
        for scale in SCALES.values()
        for study in scale.studies
        for model, variant in _variants(study, further=scale.further_models).items()
    )
    compared = {experiment.name: experiment for experiment in experiments}
    changed = (
        experiment
        for scale in SCALES.values()
        for study in scale.studies
        for experiment in _changed(compared[f"{COLLAPSING}-{study.dataset}-{scale.name}"], scale)
    )
    return compared | {experiment.name: experiment for experiment in changed}


def recipe(name: str) -> Experiment:
    """Returns the experiment called `name`. Raises `InputError`, with similar names, if there is none."""
    known = all_recipes()
    if name not in known:
        refuse_unknown("recipe", name, list(known), "`mpdvae recipes` lists them all.")
    return known[name]


def matrix(scale: str, datasets: tuple[str, ...], models: Sequence[str] = ()) -> list[Experiment]:
    """Returns the recipes of some models (default: those that the study of each data set compares) at one scale on some data
    sets, with seed 0. Raises `InputError` for a combination that does not exist."""
    if scale not in SCALES:
        refuse_unknown("scale", scale, list(SCALES))
    studies = [SCALES[scale].study(dataset) for dataset in datasets]
    return [
        recipe(f"{model}-{study.dataset}-{scale}")
        for study in studies
        for model in models or study.compared or tuple(MODELS)
    ]


def seed_counts(recipes: Sequence[Experiment], seeds: int | None) -> list[int]:
    """Returns the number of seeds of each recipe: `seeds`; None: that of its study. Raises `InputError` if it is below 1."""
    if seeds is not None and seeds < 1:
        raise InputError(f"--seeds: expected a number >= 1, got {seeds}.")
    return [seeds or SCALES[recipe.scale].study(recipe.data.dataset).seeds for recipe in recipes]


Figure = Literal["rate-distortion", "remedies"]
"""What `mpdvae reproduce --figure` trains models for."""
OF_FIGURE: Mapping[Figure, tuple[str, ...]] = {
    "rate-distortion": sweeps.MODELS,
    "remedies": (COLLAPSING, *REMEDIES, "vlae", "mae"),
}
"""The models behind each: sweeps, or all remedies beside the model that collapses, VLAE and MAE."""


def data_of_figure(figure: Figure, scale: Scale) -> tuple[str, ...]:
    """Returns the data sets for which a scale has recipes of these models."""
    return scale.sweeps if figure == "rate-distortion" else scale.remedies


def figure_matrix(figure: Figure, scale: str, datasets: tuple[str, ...]) -> list[Experiment]:
    """Like `matrix`, for the models behind a figure."""
    known = {name: found for name, known in SCALES.items() if (found := data_of_figure(figure, known))}
    if scale in SCALES and scale not in known:
        raise InputError(
            f"--scale: {figure} has recipes at scales {', '.join(known)}, got {scale!r}; choose one of these.",
            topic="options",
        )
    without = [dataset for dataset in datasets if dataset not in known.get(scale, datasets)]
    if without:
        raise InputError(
            f"--datasets: at scale {scale} there are recipes of {figure} for {', '.join(known[scale])}, got {without[0]!r}; "
            "choose one.",
            topic="options",
        )
    return matrix(scale, datasets, OF_FIGURE[figure])


def _changed(base: Experiment, scale: Scale) -> list[Experiment]:
    """Returns the scale's remedies and sweeps, applied to the model that collapses."""
    dataset = base.data.dataset
    remedies = _with_remedies(base) if dataset in scale.remedies else []
    return [*remedies, *(sweeps.turned(base) if dataset in scale.sweeps else ())]


def _with_remedies(base: Experiment) -> list[Experiment]:
    """Returns each remedy, applied to the model that collapses."""
    return [
        with_changes(
            base,
            name=f"{model}-{base.data.dataset}-{base.scale}",
            model=model,
            reproduces=remedy.description,
            **remedy.changes(base),
        )
        for model, remedy in REMEDIES.items()
    ]


def _variants(study: Study, further: bool) -> dict[str, Variant]:
    normal, flow, pixels = StandardNormalPrior(), study.flow, study.autoregressive
    variants = {
        "vae": Variant(MODELS["vae"], study.independent, normal),
        "vae-pixelcnn": Variant(MODELS["vae-pixelcnn"], pixels, normal),
        "vlae": Variant(MODELS["vlae"], pixels, flow),
        "mae": Variant(MODELS["mae"], pixels, flow, DIVERSITY_WEIGHT, SMOOTHNESS_WEIGHT),
        "mae-no-smoothness": Variant(MODELS["mae-no-smoothness"], pixels, flow, DIVERSITY_WEIGHT),
        "mae-no-diversity": Variant(MODELS["mae-no-diversity"], pixels, flow, 0.0, SMOOTHNESS_WEIGHT),
    }
    for eta, gamma in sweeps.GRID:
        description = f"MAE with diversity {eta:g} and smoothness {gamma:g}: a point on the authors' grid"
        variants[sweeps.grid_model(eta, gamma)] = Variant(description, pixels, flow, eta, gamma)
    if not further:
        return variants
    field: Callable[[Study], dict[str, Variant]] = _colour if isinstance(pixels, PixelCNNPPDecoder) else _binary
    return variants | field(study)


def _binary(study: Study) -> dict[str, Variant]:
    """Further models for 28x28 binary images."""
    flow, large, normal = study.flow, PixelCNNDecoder(kernel_sizes=LARGE), StandardNormalPrior()
    fields = {
        reach: PixelCNNDecoder(kernel_sizes=kernels) for reach, kernels in ((1, (3,)), (3, (5, 3)), (6, (7, 5, 3)))
    }
    variants = {
        f"vlae-field{reach}": Variant(
            f"VLAE whose pixels see only those up to {reach} away: a lossy code", decoder, flow
        )
        for reach, decoder in fields.items()
    }
    original = FlowPrior(blocks=2, hidden_features=640, hidden_layers=3, mean_only=True)
    return variants | {
        "vlae-large": Variant("VLAE with the released code's large PixelCNN", large, flow),
        "mae-large": Variant(
            "MAE with the released code's large PixelCNN", large, flow, DIVERSITY_WEIGHT, SMOOTHNESS_WEIGHT
        ),
        "vlae-free-bits": Variant(
            "VLAE with 0.01 nats of free bits per pixel (Chen et al. 2017)",
            study.autoregressive,
            flow,
            free_bits_nats=FREE_BITS_PER_PIXEL_NATS * 784,
        ),
        "vlae-original": Variant(
            "VLAE's own prior, code size and optimiser (Chen et al. 2017): 4 mean-only steps, 64 dimensions, Adamax",
            study.autoregressive,
            original,
            free_bits_nats=FREE_BITS_PER_PIXEL_NATS * 784,
            latent_dim=64,
            optimizer="adamax",
        ),
        "report-mlp": Variant(
            "Fully connected MAE with the weights of an earlier reproduction (1 and 0.01, 15 dimensions); our layer sizes",
            MLPDecoder(hidden_features=(400,)),
            normal,
            1.0,
            0.01,
            encoder=MLPEncoder(hidden_features=(400,)),
            latent_dim=15,
        ),
        "report-convnet": Variant(
            "ConvNet MAE with the weights of an earlier reproduction (1 and 0.01, 15 dimensions); our layer sizes",
            ConvNetDecoder(),
            normal,
            1.0,
            0.01,
            encoder=ConvNetEncoder(),
            latent_dim=15,
        ),
    }


def _colour(study: Study) -> dict[str, Variant]:
    """Further models for colour images: PixelCNN++ of one level, whose number of blocks sets the receptive field."""
    base = study.autoregressive
    assert isinstance(base, PixelCNNPPDecoder)
    return {
        f"vlae-blocks{blocks}": Variant(
            f"VLAE with a PixelCNN++ of one level and {2 * blocks} gated blocks: a lossy code",
            base.model_copy(update={"levels": 1, "blocks": blocks}),
            study.flow,
        )
        for blocks in (1, 2)
    }


def _experiment(model: str, variant: Variant, study: Study, scale: str) -> Experiment:
    training = study.training
    if variant.optimizer == "adamax":
        training = training.model_copy(update={"optimizer": "adamax", "learning_rate": 2e-3})
    fields = {
        "name": f"{model}-{study.dataset}-{scale}",
        "model": model,
        "scale": scale,
        "reproduces": variant.description,
        "data": study.data,
        "latent_dim": variant.latent_dim or study.latent_dim,
        "encoder": variant.encoder or study.encoder,
        "decoder": variant.decoder,
        "prior": variant.prior,
        "objective": ObjectiveConfig(
            diversity_weight=variant.diversity_weight,
            smoothness_weight=variant.smoothness_weight,
            free_bits_nats=variant.free_bits_nats,
        ),
        "training": training,
        "evaluation": study.evaluation,
    }
    return Experiment(**fields)
