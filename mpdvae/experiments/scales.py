"""Settings shared by the models compared on one data set, at each scale: networks, training, evaluation.

    smoke     tests: 8x8 digits                        minutes   a laptop: MNIST, compact networks
    hours     a workstation: the paper's 28x28         paper     GPUs: the released code's configurations and training,
              networks, ten epochs                               unchanged

Networks and training of scale `paper` are those of the released code of MAE (experiments/binary_image.py, color_image.py
and their configurations); recipes.py states the settings that it left to the command line.
"""

from dataclasses import dataclass

from mpdvae.experiments.experiment import Data, Evaluation
from mpdvae.experiments.model_config import (
    ColourResNetDecoder,
    ConvNetDecoder,
    ConvNetEncoder,
    DecoderConfig,
    DenseNetEncoder,
    EncoderConfig,
    FlowPrior,
    MapFlowPrior,
    PixelCNNDecoder,
    PixelCNNPPDecoder,
    PriorConfig,
    ResNetDecoder,
    ResNetEncoder,
)
from mpdvae.experiments.training_config import Plateau, Training


@dataclass(frozen=True)
class Study:
    """The settings shared by the models on one data set."""

    data: Data
    latent_dim: int
    encoder: EncoderConfig
    independent: DecoderConfig
    """The decoder with independent pixels."""
    autoregressive: DecoderConfig
    flow: PriorConfig
    training: Training
    evaluation: Evaluation
    cost: str
    """Cost of a run with an autoregressive decoder on two CPU cores; "about" marks estimates that are not measured."""

    @property
    def dataset(self) -> str:
        return self.data.dataset


@dataclass(frozen=True)
class Scale:
    """Studies of one size."""

    name: str
    meant_for: str
    studies: tuple[Study, ...]
    compared: tuple[str, ...]
    """Data sets that `mpdvae reproduce` uses by default."""
    further_models: bool = False
    """Whether there are recipes beyond the six compared models and the grid of the two weights."""
    remedies: bool = False
    """Whether there are recipes for the remedies for collapse."""
    sweeps: bool = False
    """Whether there are sweep recipes of the model that collapses."""


DIGITS = Study(
    data=Data(dataset="digits"),
    latent_dim=8,
    encoder=ConvNetEncoder(channels=(16, 32)),
    independent=ConvNetDecoder(channels=(32, 16)),
    autoregressive=PixelCNNDecoder(channels=16, kernel_sizes=(3, 3), condition_channels=2),
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
        information_samples=300,
        code_use_images=50,
        explored_images=100,
    ),
    cost="2 seconds",
)

COMPACT_MNIST = Study(
    data=Data(dataset="mnist"),
    latent_dim=32,
    encoder=ConvNetEncoder(channels=(32, 64)),
    independent=ConvNetDecoder(channels=(64, 32)),
    autoregressive=PixelCNNDecoder(channels=24, kernel_sizes=(7, 5, 3), condition_channels=2),
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
        label_subsets=3,
        cluster_seeds=2,
        cluster_restarts=4,
        information_samples=500,
        code_use_images=50,
        explored_images=700,
    ),
    cost="1 minute",
)

PAPER_EVALUATION = Evaluation(
    all_labels=True, svm_labels=None, code_input="thresholded", code_samples=50, density_samples=4096
)


def binary_study(dataset: str, epoch_steps: int, epochs: int, evaluation: Evaluation, cost: str) -> Study:
    """The released code's networks and training for 28x28 binary images."""
    return Study(
        data=Data(dataset=dataset),
        latent_dim=32,
        encoder=ResNetEncoder(),
        independent=ResNetDecoder(),
        autoregressive=PixelCNNDecoder(),
        flow=FlowPrior(),
        training=Training(steps=epoch_steps * epochs, evaluate_every=epoch_steps),
        evaluation=evaluation,
        cost=cost,
    )


HOURS_EVALUATION = Evaluation(density_images=500, density_samples=512, all_labels=True, svm_labels=10_000)

COLOUR_TRAINING = Training(
    steps=750 * 1000,
    batch_size=64,
    betas=(0.95, 0.9995),
    decay_per_step=0.999995,
    plateau=Plateau(patience=50),
    averaging=0.9995,
    initial_images=256,
    evaluate_every=750,
)
COLOUR_EVALUATION = PAPER_EVALUATION.model_copy(update={"density_samples": 512})

CIFAR10 = Study(
    data=Data(dataset="cifar10", binarisation="levels", evaluation_draws=1),
    latent_dim=16,
    encoder=DenseNetEncoder(),
    independent=ColourResNetDecoder(),
    autoregressive=PixelCNNPPDecoder(),
    flow=MapFlowPrior(),
    training=COLOUR_TRAINING,
    evaluation=COLOUR_EVALUATION,
    cost="GPU days",
)

COLOUR_64 = Study(
    data=Data(dataset="own", binarisation="levels", evaluation_draws=1),
    latent_dim=32,
    encoder=DenseNetEncoder(growths=(15, 16, 16, 16), steps=(3, 3, 3, 3)),
    independent=ColourResNetDecoder(blocks=(3, 2, 2, 2)),
    autoregressive=PixelCNNPPDecoder(channels=64, levels=4, blocks=4, doublings=3, components=5, activation="elu"),
    flow=MapFlowPrior(hidden_layers=1),
    training=COLOUR_TRAINING,
    evaluation=COLOUR_EVALUATION,
    cost="GPU days",
)

SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            "smoke",
            "tests: 8x8 digits, hardly any training",
            (DIGITS,),
            ("digits",),
            remedies=True,
            sweeps=True,
        ),
        Scale(
            "minutes",
            "a laptop: real MNIST, compact networks, half an epoch",
            (COMPACT_MNIST,),
            ("mnist",),
            remedies=True,
            sweeps=True,
        ),
        Scale(
            "hours",
            "a workstation: the paper's 28x28 networks, ten epochs",
            (
                binary_study("mnist", 580, 10, HOURS_EVALUATION, "about 2 hours"),
                binary_study("omniglot", 169, 10, HOURS_EVALUATION, "about 1 hour"),
            ),
            ("mnist", "omniglot"),
            further_models=True,
            sweeps=True,
        ),
        Scale(
            "paper",
            "GPUs: the released code's configurations, unchanged",
            (
                binary_study("mnist", 580, 1000, PAPER_EVALUATION, "GPU days"),
                binary_study("omniglot", 169, 1000, PAPER_EVALUATION, "GPU days"),
                binary_study("omniglot-burda-lying", 220, 1000, PAPER_EVALUATION, "GPU days"),
                CIFAR10,
                COLOUR_64,
            ),
            ("mnist", "omniglot-burda-lying", "cifar10"),
            further_models=True,
        ),
    )
}
