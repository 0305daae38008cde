"""Scales: the studies (`mpdvae.experiments.studies`) of one size, by name.

smoke     tests: 8x8 digits, hardly any training
minutes   a laptop: MNIST, compact networks, half an epoch; drawn images with known factors, 1,200 steps
hours     a workstation: compact networks on MNIST, OMNIGLOT and CIFAR-10, trained until they are good
days      a workstation: the paper's 28x28 networks, twenty epochs
paper     GPUs: the released code's configurations and training, unchanged
"""

from dataclasses import dataclass

from mpdvae.errors import InputError
from mpdvae.experiments.studies import (
    CIFAR10,
    COLOUR_64,
    COMPACT_CIFAR10,
    COMPACT_MNIST,
    DAYS_EVALUATION,
    DIGITS,
    PAPER_EVALUATION,
    SPRITES,
    Study,
    binary_study,
    compact_study,
    released_training,
    short_training,
)


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
    remedies: tuple[str, ...] = ()
    """Data sets with recipes for the remedies for collapse."""
    sweeps: tuple[str, ...] = ()
    """Data sets with sweep recipes of the model that collapses."""

    def study(self, dataset: str) -> Study:
        """Returns the study on `dataset`. Raises `InputError` if this scale has none."""
        for study in self.studies:
            if study.dataset == dataset:
                return study
        known = ", ".join(study.dataset for study in self.studies)
        raise InputError(
            f"--datasets: at scale {self.name} there are recipes for {known}, got {dataset!r}; choose one.",
            topic="options",
        )


SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            "smoke",
            "tests: 8x8 digits, hardly any training",
            (DIGITS,),
            ("digits",),
            remedies=("digits",),
            sweeps=("digits",),
        ),
        Scale(
            "minutes",
            "a laptop: compact networks, half an epoch of MNIST, 13 epochs of drawn images",
            (COMPACT_MNIST, SPRITES),
            ("mnist",),
            remedies=("mnist",),
            sweeps=("mnist",),
        ),
        Scale(
            "hours",
            "a workstation: compact networks, trained until they are good",
            (
                compact_study("mnist", 58_000, 10, "about 10 minutes"),
                compact_study("omniglot", 16_900, 30, "about 10 minutes"),
                COMPACT_CIFAR10,
            ),
            ("mnist", "omniglot", "cifar10"),
            remedies=("mnist",),
            sweeps=("mnist",),
        ),
        Scale(
            "days",
            "a workstation: the paper's 28x28 networks, twenty epochs",
            (
                binary_study("mnist", short_training(580), DAYS_EVALUATION, "about 3 hours"),
                binary_study("omniglot", short_training(169), DAYS_EVALUATION, "about 1 hour"),
            ),
            ("mnist", "omniglot"),
            further_models=True,
            sweeps=("mnist", "omniglot"),
        ),
        Scale(
            "paper",
            "GPUs: the released code's configurations, unchanged",
            (
                binary_study("mnist", released_training(580), PAPER_EVALUATION, "GPU days"),
                binary_study("omniglot", released_training(169), PAPER_EVALUATION, "GPU days"),
                binary_study("omniglot-burda-lying", released_training(220), PAPER_EVALUATION, "GPU days"),
                CIFAR10,
                COLOUR_64,
            ),
            ("mnist", "omniglot-burda-lying", "cifar10"),
            further_models=True,
        ),
    )
}
"""The scales of a reproduction, by name, from the smallest to the paper's."""
