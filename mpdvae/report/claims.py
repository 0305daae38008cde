"""The claims that a report tests, as data; the rule is in `verdicts.py`.

A claim is a conjunction of conditions. A condition names a metric, two models and the region that must contain the mean
difference left - right for the condition to be true:

    lower         (-inf, 0)          not worse     (-inf, margin)     for metrics such as NLL: lower is better
    higher        (0, inf)           equivalent    (-margin, margin)
    below         (-inf, 0) for left - bound; the bound is a number, and there is no right-hand model

Sources: the MAE paper (Ma, Zhou & Hovy, ICLR 2019, https://arxiv.org/abs/1901.01498), its open reviews and the authors'
reply, and the VLAE paper (Chen et al., ICLR 2017, https://arxiv.org/abs/1611.02731). The margins are ours: half a nat and
one percentage point; smaller differences between such models are seldom discussed.
"""

import math
from dataclasses import dataclass
from typing import Literal

Relation = Literal["lower", "higher", "not worse", "equivalent", "below"]

NATS_MARGIN = 0.5
ACCURACY_MARGIN = 0.01
NEAR_ZERO_DIVERSITY = 0.05


@dataclass(frozen=True)
class Condition:
    """One comparison of a metric. `right` is a model, or a number if the relation is `below`."""

    relation: Relation
    metric: str
    left: str
    right: str | float
    margin: float = 0.0

    @property
    def models(self) -> list[str]:
        """The models that the comparison needs."""
        return [self.left, self.right] if isinstance(self.right, str) else [self.left]

    @property
    def region(self) -> tuple[float, float]:
        """Interval that must contain the mean difference."""
        if self.relation in ("lower", "below"):
            return -math.inf, 0.0
        if self.relation == "higher":
            return 0.0, math.inf
        if self.relation == "not worse":
            return -math.inf, self.margin
        return -self.margin, self.margin


@dataclass(frozen=True)
class Claim:
    """A statement, its source, and the conditions that the runs must fulfil for it to hold."""

    id: str
    statement: str
    source: str
    conditions: tuple[Condition, ...]
    datasets: tuple[str, ...] = ()
    """The data sets to which the claim applies; empty: any."""


KNN, KMEANS = "knn10_accuracy/largest", "kmeans_accuracy/10"

CLAIMS = (
    Claim(
        "C1",
        "MAE's density is comparable to or better than that of the same model without the regulariser, and its code "
        "stays informative beside a powerful decoder.",
        "MAE paper, abstract",
        (
            Condition("not worse", "nll_nats", "mae", "vlae", NATS_MARGIN),
            Condition("higher", "kl_nats", "mae", "vlae"),
            Condition("higher", KNN, "mae", "vlae"),
        ),
    ),
    Claim(
        "C2",
        "On MNIST and OMNIGLOT, MAE reaches a lower NLL than VLAE.",
        "MAE paper, as restated by its reviewers (the margin is called marginal)",
        (Condition("lower", "nll_nats", "mae", "vlae"),),
        ("mnist", "omniglot"),
    ),
    Claim(
        "C3",
        "On CIFAR-10, MAE's density is worse than VLAE's.",
        "MAE paper as submitted, according to its authors' reply; a larger decoder later improved it",
        (Condition("higher", "nll_nats", "mae", "vlae"),),
        ("cifar10", "cifar-10"),
    ),
    Claim(
        "C4",
        "Without the smoothness term posteriors become isolated: the diversity penalty is near zero, the spread of the "
        "divergence large, density and representation worse than VLAE's.",
        "authors' reply to the reviews of the MAE paper",
        (
            Condition("below", "diversity_share", "mae-no-smoothness", NEAR_ZERO_DIVERSITY),
            Condition("higher", "mpd_std_nats", "mae-no-smoothness", "mae"),
            Condition("higher", "nll_nats", "mae-no-smoothness", "vlae"),
            Condition("lower", KNN, "mae-no-smoothness", "vlae"),
        ),
    ),
    Claim(
        "C5",
        "The effect of the smoothness term on density and representation is marginal.",
        "a reviewer's doubt about Tables 1-3 of the MAE paper",
        (
            Condition("equivalent", "nll_nats", "mae", "mae-no-smoothness", NATS_MARGIN),
            Condition("equivalent", KNN, "mae", "mae-no-smoothness", ACCURACY_MARGIN),
            Condition("equivalent", KMEANS, "mae", "mae-no-smoothness", ACCURACY_MARGIN),
        ),
    ),
    Claim(
        "C6",
        "k-means finds the classes better in MAE's code than in those of a VAE with independent pixels and of VLAE.",
        "MAE paper, as restated by its reviewers",
        (Condition("higher", KMEANS, "mae", "vae"), Condition("higher", KMEANS, "mae", "vlae")),
    ),
    Claim(
        "V1",
        "With a PixelCNN decoder, an autoregressive-flow prior gives a better density than N(0, I).",
        "VLAE paper, ablation on dynamic MNIST",
        (Condition("lower", "nll_nats", "vlae", "vae-pixelcnn"),),
    ),
    Claim(
        "V2",
        "A PixelCNN decoder makes the plain VAE put less into its code.",
        "VLAE paper, bits-back argument",
        (
            Condition("lower", "kl_nats", "vae-pixelcnn", "vae"),
            Condition("lower", "mutual_information_nats", "vae-pixelcnn", "vae"),
        ),
    ),
)
