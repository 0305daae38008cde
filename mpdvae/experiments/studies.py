"""Studies: the settings shared by the models compared on one data set - networks, training, evaluation - at one size.

    DIGITS                     8x8 digits, hardly any training
    COMPACT_MNIST, SPRITES     compact networks, half an epoch; drawn images with known factors, 1,200 steps
    compact_study              the compact networks, trained until they are good; COMPACT_CIFAR10 is the same for colour
    binary_study, CIFAR10, COLOUR_64    the released code's networks, with its training or a shorter one

A short training needs a learning rate that falls within it and an average of the weights that forgets their beginning:
`compact_study` and `short_training` have both (docs/tuning.md reports what each choice gained).

Networks and training of the released code of MAE are those of its experiments/binary_image.py, color_image.py and their
configurations; recipes.py states the settings that it left to the command line.
"""

from dataclasses import dataclass, replace

from mpdvae.experiments.data_config import Data
from mpdvae.experiments.decoder_config import (
    ColourResNetDecoder,
    ConvNetDecoder,
    DecoderConfig,
    PixelCNNDecoder,
    PixelCNNPPDecoder,
    ResNetDecoder,
)
from mpdvae.experiments.encoder_config import ConvNetEncoder, DenseNetEncoder, EncoderConfig, ResNetEncoder
from mpdvae.experiments.evaluation_config import Evaluation
from mpdvae.experiments.prior_config import FlowPrior, MapFlowPrior, PriorConfig
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
    compared: tuple[str, ...] = ()
    """Models that `mpdvae reproduce` compares by default; empty: all six."""
    seeds: int = 3
    """Number of seeds per model with which `mpdvae reproduce` compares them by default."""

    @property
    def dataset(self) -> str:
        return self.data.dataset


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
        density_images=300,
        density_samples=128,
        representation_images=20_000,
        label_subsets=3,
        cluster_seeds=2,
        cluster_restarts=4,
        information_samples=500,
        code_use_images=50,
        explored_images=700,
    ),
    cost="1 minute",
    seeds=5,
)

SPRITES = replace(
    COMPACT_MNIST,
    data=Data(dataset="sprites", evaluation_draws=1),
    latent_dim=10,
    training=COMPACT_MNIST.training.model_copy(update={"steps": 1_200, "averaging": 0.99, "evaluate_every": 200}),
    evaluation=COMPACT_MNIST.evaluation.model_copy(update={"representation_images": 3_000}),
    cost="about 5 minutes",
)
"""Images whose factors of variation are known."""

COMPACT_EVALUATION = COMPACT_MNIST.evaluation.model_copy(
    update={"density_images": 500, "density_samples": 256, "label_subsets": 5}
)

PAPER_EVALUATION = Evaluation(
    all_labels=True,
    svm_labels=None,
    code_input="thresholded",
    code_samples=50,
    density_samples=4096,
    density_proposal="encoder",
)


def compact_study(dataset: str, images: int, epochs: int, cost: str) -> Study:
    """The networks of `COMPACT_MNIST` with one layer more in the PixelCNN, trained for some epochs of that many images."""
    epoch_steps = images // 100
    steps = epoch_steps * epochs
    return replace(
        COMPACT_MNIST,
        data=Data(dataset=dataset),
        autoregressive=PixelCNNDecoder(channels=24, kernel_sizes=(7, 5, 5, 3), condition_channels=2),
        training=Training(
            steps=steps,
            learning_rate=4e-3,
            decay_per_step=annealed(steps),
            least_learning_rate_fraction=0,
            averaging=0.999,
            averaging_warm_up=True,
            plateau=None,
            evaluate_every=2 * epoch_steps,
            validation_images=1000,
            validation_samples=1,
        ),
        evaluation=COMPACT_EVALUATION,
        cost=cost,
        seeds=5,
    )


def annealed(steps: int) -> float:
    """Returns the decay per step after which the learning rate is at a fortieth at the end, to six digits."""
    return round(40 ** (-1 / steps), 6)


def binary_study(dataset: str, training: Training, evaluation: Evaluation, cost: str) -> Study:
    """The released code's networks for 28x28 binary images."""
    return Study(
        data=Data(dataset=dataset),
        latent_dim=32,
        encoder=ResNetEncoder(),
        independent=ResNetDecoder(),
        autoregressive=PixelCNNDecoder(),
        flow=FlowPrior(),
        training=training,
        evaluation=evaluation,
        cost=cost,
    )


def released_training(epoch_steps: int) -> Training:
    """The released code's training for 28x28 binary images: 1,000 epochs."""
    return Training(steps=epoch_steps * 1000, evaluate_every=epoch_steps)


def short_training(epoch_steps: int) -> Training:
    """Twenty epochs, with a learning rate that falls to a fortieth and an average that forgets its beginning."""
    steps = 20 * epoch_steps
    return Training(
        steps=steps,
        learning_rate=2e-3,
        decay_per_step=annealed(steps),
        least_learning_rate_fraction=0,
        averaging_warm_up=True,
        plateau=None,
        evaluate_every=2 * epoch_steps,
        validation_samples=1,
    )


DAYS_EVALUATION = Evaluation(density_images=1000, density_samples=512, all_labels=True, svm_labels=10_000)

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

COMPACT_CIFAR10 = Study(
    data=Data(dataset="cifar10", binarisation="levels", evaluation_draws=1),
    latent_dim=8,
    encoder=DenseNetEncoder(growths=(12, 16, 16), steps=(2, 2, 3), features=64),
    independent=ColourResNetDecoder(channels=32, blocks=(2, 1, 1), components=5),
    autoregressive=PixelCNNPPDecoder(
        channels=32, levels=3, blocks=1, condition_channels=8, components=5, dropout=0.0, activation="elu"
    ),
    flow=MapFlowPrior(hidden_channels=48, hidden_layers=1),
    training=Training(
        steps=3_840,
        batch_size=50,
        learning_rate=1e-3,
        decay_per_step=annealed(3_840),
        least_learning_rate_fraction=0,
        averaging_warm_up=True,
        plateau=None,
        initial_images=256,
        evaluate_every=960,
        validation_images=500,
        validation_samples=1,
    ),
    evaluation=Evaluation(
        density_images=300,
        density_samples=64,
        representation_images=20_000,
        cluster_seeds=2,
        cluster_restarts=4,
        information_samples=500,
        code_use_images=50,
        explored_images=500,
    ),
    cost="about 1 hour",
    compared=("vae", "vlae", "mae", "mae-no-smoothness"),
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
