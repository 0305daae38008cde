"""Named experiments: the six models of the comparison, at every scale.

    vae                 independent pixels, N(0, I) prior            the code must carry everything
    vae-pixelcnn        PixelCNN decoder, N(0, I) prior              the decoder can do without the code
    vlae                PixelCNN decoder, flow prior                 Variational Lossy Autoencoder
    mae                 vlae + diversity + smoothness                the paper
    mae-no-smoothness   vlae + diversity                             ablation
    mae-no-diversity    vlae + smoothness                            ablation

A recipe is named MODEL-DATASET-SCALE. At one scale all models share encoder, training and evaluation, so that they differ
in what is compared only.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from mpdvae.errors import InputError, refuse_unknown
from mpdvae.experiment import Data, Evaluation, Experiment, ObjectiveConfig, Training
from mpdvae.parts import (
    ConvNetDecoder,
    ConvNetEncoder,
    DecoderConfig,
    FlowPrior,
    PixelCNNDecoder,
    StandardNormalPrior,
)

DIVERSITY_WEIGHT = 1.0
SMOOTHNESS_WEIGHT = 0.5
"""The weights used here. The pair behind the paper's tables is not known; both values are on the grid that the authors' code
draws (0.5, 1, 2 and 0.1, 0.5, 1)."""

MODELS = {
    "vae": "VAE with independent pixels (Kingma & Welling 2014)",
    "vae-pixelcnn": "VAE with a PixelCNN decoder: shows the collapse (Chen et al. 2017)",
    "vlae": "Variational Lossy Autoencoder: PixelCNN decoder, flow prior (Chen et al. 2017)",
    "mae": "MAE: VLAE with diversity and smoothness (Ma et al. 2019)",
    "mae-no-smoothness": "MAE without smoothness (ablation)",
    "mae-no-diversity": "MAE without diversity (ablation)",
}


@dataclass(frozen=True)
class Scale:
    """What the experiments of one scale share."""

    name: Literal["smoke", "minutes", "hours", "paper"]
    meant_for: str
    datasets: tuple[str, ...]
    cost: str
    """Of one run, on two CPU cores."""
    latent_dim: int
    encoder: ConvNetEncoder
    independent_pixels: ConvNetDecoder
    pixelcnn: PixelCNNDecoder
    flow: FlowPrior
    training: Training
    evaluation: Evaluation
    validation_size: int | None = None


SCALES = {
    "smoke": Scale(
        name="smoke",
        meant_for="tests: 8x8 digits, weights hardly trained",
        datasets=("digits",),
        cost="2 seconds",
        latent_dim=8,
        encoder=ConvNetEncoder(channels=(16, 32)),
        independent_pixels=ConvNetDecoder(channels=(32, 16)),
        pixelcnn=PixelCNNDecoder(channels=16, kernel_sizes=(3, 3), condition_channels=2),
        flow=FlowPrior(blocks=1, hidden_features=32),
        training=Training(
            steps=40,
            batch_size=50,
            learning_rate=4e-3,
            averaging=0.9,
            initial_images=100,
            evaluate_every=20,
            validation_images=100,
            validation_samples=1,
            plateau=None,
        ),
        evaluation=Evaluation(
            density_images=50,
            density_samples=16,
            label_counts=(100, 1000),
            label_subsets=2,
            clusters=(10,),
            cluster_seeds=1,
        ),
    ),
    "minutes": Scale(
        name="minutes",
        meant_for="a laptop: real MNIST, compact networks, half an epoch",
        datasets=("mnist",),
        cost="2 minutes",
        latent_dim=32,
        encoder=ConvNetEncoder(channels=(32, 64)),
        independent_pixels=ConvNetDecoder(channels=(64, 32)),
        pixelcnn=PixelCNNDecoder(channels=24, kernel_sizes=(7, 5, 3), condition_channels=2),
        flow=FlowPrior(blocks=2, hidden_features=160),
        training=Training(
            steps=300,
            learning_rate=2e-3,
            averaging=0.98,
            evaluate_every=50,
            validation_images=500,
            validation_samples=1,
            plateau=None,
        ),
        evaluation=Evaluation(
            density_images=200,
            density_samples=64,
            representation_images=20_000,
            label_counts=(100, 1_000, 10_000),
            label_subsets=3,
            clusters=(10, 20, 30),
            cluster_seeds=2,
        ),
    ),
}


@cache
def all_recipes() -> dict[str, Experiment]:
    """Every named experiment, seed 0, by name."""
    return {
        experiment.name: experiment
        for scale in SCALES.values()
        for dataset in scale.datasets
        for experiment in (_recipe(model, dataset, scale) for model in MODELS)
    }


def recipe(name: str) -> Experiment:
    """The experiment called `name`. Raises `InputError`, with near names, where there is none."""
    known = all_recipes()
    if name not in known:
        refuse_unknown("recipe", name, list(known), "`mpdvae recipes` lists them all.")
    return known[name]


def matrix(scale: str, datasets: tuple[str, ...]) -> list[Experiment]:
    """The recipes of one scale on some data sets, seed 0. Raises `InputError` for a combination that there is not."""
    if scale not in SCALES:
        refuse_unknown("scale", scale, list(SCALES))
    for dataset in datasets:
        if dataset not in SCALES[scale].datasets:
            known = ", ".join(SCALES[scale].datasets)
            raise InputError(f"--datasets: at scale {scale} there are recipes for {known}, got {dataset!r}.")
    return [e for e in all_recipes().values() if e.scale == scale and e.data.dataset in datasets]


def _recipe(model: str, dataset: str, scale: Scale) -> Experiment:
    decoder: DecoderConfig = scale.independent_pixels if model == "vae" else scale.pixelcnn
    return Experiment(
        name=f"{model}-{dataset}-{scale.name}",
        model=model,
        scale=scale.name,
        reproduces=MODELS[model],
        data=Data(dataset=dataset, validation_size=scale.validation_size),
        latent_dim=scale.latent_dim,
        encoder=scale.encoder,
        decoder=decoder,
        prior=StandardNormalPrior() if model in {"vae", "vae-pixelcnn"} else scale.flow,
        objective=ObjectiveConfig(
            diversity_weight=DIVERSITY_WEIGHT if model in {"mae", "mae-no-smoothness"} else 0.0,
            smoothness_weight=SMOOTHNESS_WEIGHT if model in {"mae", "mae-no-diversity"} else 0.0,
        ),
        training=scale.training,
        evaluation=scale.evaluation,
    )
