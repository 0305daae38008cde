"""Remedies against posterior collapse, each as a few changes to the model that collapses: `vae-pixelcnn`, an autoregressive
decoder with the prior N(0, I).

A remedy is a prior, a head of the encoder, a term or a weight of the objective, a step rule, or connections in the decoder;
all train in the same loop. The changes are options of `mpdvae train`, so that they can be put on any other model, too.
Where a remedy has a strength, it is set for about `RATE_PER_DIMENSION_NATS` in each dimension of the code, so that remedies
stand beside each other. What each did is measured in docs/remedies.md; which of them suit a run is said by
`mpdvae.evaluation.advice`.

Causes of collapse, by what goes wrong: `price` - the KL is paid before the decoder has learned what z is good for;
`decoder` - the decoder models the images well enough without z; `encoder` - the encoder is behind the decoder, which finds
z of no use (Chen et al., ICLR 2017, https://arxiv.org/abs/1611.02731, for the first two; He et al., ICLR 2019,
https://arxiv.org/abs/1901.05534, for the last).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment

RATE_PER_DIMENSION_NATS = 0.3
GOAL_NATS = {"digits": 20.0, "mnist": 80.0}
"""Reconstruction that GECO asks for; MAE reaches the latter at scale minutes."""

Cause = Literal["price", "decoder", "encoder"]
Changes = dict[str, Any]
"""Fields of an experiment by their dotted path with `__` for the dot, as `with_changes` takes them."""


@dataclass(frozen=True)
class Remedy:
    """One remedy: what it is, and what it changes in the model that collapses."""

    title: str
    source: str
    """Who and when."""
    against: Cause | None
    """None: not meant against collapse; it stands beside the remedies for comparison."""
    changes: Callable[[Experiment], Changes]
    """For an experiment of a given size and length. Raises `InputError` where the remedy has none for it."""

    @property
    def description(self) -> str:
        return f"Against collapse: {self.title} ({self.source})"


def committed_nats(e: Experiment) -> float:
    """The rate that remedies with a strength are set for, in nats."""
    return round(RATE_PER_DIMENSION_NATS * e.latent_dim, 3)


def scale_of_rate() -> float:
    """Deviation g of normalised posterior means at which the mean KL is at least the rate: g^2 / 2 in each dimension."""
    return round(math.sqrt(2 * RATE_PER_DIMENSION_NATS), 3)


def goal_nats(e: Experiment) -> float:
    """Reconstruction that GECO asks for on the experiment's data. Raises `InputError` for data without a known one."""
    if e.data.dataset not in GOAL_NATS:
        raise InputError(
            f"data.dataset: a goal of the reconstruction is known for {', '.join(GOAL_NATS)} only, got {e.data.dataset!r}; "
            "choose objective.kl_weight.goal_nats yourself.",
            topic="options",
        )
    return GOAL_NATS[e.data.dataset]


REMEDIES: dict[str, Remedy] = {
    "annealing": Remedy(
        "linear annealing of the KL",
        "Bowman et al. 2016",
        "price",
        lambda e: {"objective__kl_weight": {"kind": "linear", "warm_up_steps": max(1, e.training.steps // 2)}},
    ),
    "cyclical": Remedy(
        "cyclical annealing of the KL",
        "Fu et al. 2019",
        "price",
        lambda e: {"objective__kl_weight": {"kind": "cyclical", "total_steps": e.training.steps}},
    ),
    "beta-vae": Remedy(
        "the KL at weight 0.5",
        "Higgins et al. 2017",
        "price",
        lambda e: {"objective__kl_weight": {"kind": "constant", "value": 0.5}},
    ),
    "free-bits": Remedy(
        "free bits for each dimension",
        "Kingma et al. 2016",
        "price",
        lambda e: {"objective__free_bits_per_dimension_nats": RATE_PER_DIMENSION_NATS},
    ),
    "free-bits-total": Remedy(
        "free bits for the whole code",
        "MAE's released code 2019",
        "price",
        lambda e: {"objective__free_bits_nats": committed_nats(e)},
    ),
    "soft-free-bits": Remedy(
        "a weight of the KL that adapts to a target",
        "Chen et al. 2017",
        "price",
        lambda e: {"objective__kl_weight": {"kind": "soft-free-bits", "target_nats": committed_nats(e)}},
    ),
    "geco": Remedy(
        "the least KL that reaches a reconstruction",
        "Rezende & Viola 2018",
        "price",
        lambda e: {"objective__kl_weight": {"kind": "geco", "goal_nats": goal_nats(e)}},
    ),
    "delta-vae": Remedy(
        "a rate that posteriors commit to",
        "Razavi et al. 2019",
        "price",
        lambda e: {"encoder__head": {"kind": "delta", "rate_nats": committed_nats(e)}},
    ),
    "ar1": Remedy(
        "a prior that is correlated in time",
        "Razavi et al. 2019",
        "price",
        lambda e: {"prior": {"kind": "ar1", "correlation": 0.9}},
    ),
    "bn-vae": Remedy(
        "batch normalisation of posterior means",
        "Zhu et al. 2020",
        "price",
        lambda e: {"encoder__head": {"kind": "batch-norm", "scale": scale_of_rate()}},
    ),
    "du-vae": Remedy(
        "normalised means and dropout on variances",
        "Shen et al. 2021",
        "price",
        lambda e: {"encoder__head": {"kind": "du", "scale": scale_of_rate()}},
    ),
    "vampprior": Remedy(
        "a mixture of posteriors as prior",
        "Tomczak & Welling 2018",
        "price",
        lambda e: {"prior": {"kind": "vamp", "components": 100}},
    ),
    "skip-vae": Remedy(
        "the code at every layer of the decoder",
        "Dieng et al. 2019",
        "decoder",
        lambda e: {"decoder__skip_connections": True},
    ),
    "lagging": Remedy(
        "an encoder that catches up first",
        "He et al. 2019",
        "encoder",
        lambda e: {"training__inference": {"kind": "lagging", "encoder_steps": 10, "check_every": 5, "patience": 1}},
    ),
    "semi-amortised": Remedy(
        "posteriors refined by gradient steps",
        "Kim et al. 2018",
        "encoder",
        lambda e: {"encoder__refinement_steps": 2, "encoder__refinement_rate": 0.1},
    ),
    "iwae": Remedy(
        "the importance-weighted bound of 5 samples",
        "Burda et al. 2016",
        "price",
        lambda e: {"objective__importance_weighted": True, "objective__samples": 5},
    ),
    "info-vae": Remedy(
        "half of the KL against an MMD of the aggregate posterior",
        "Zhao et al. 2017",
        "price",
        lambda e: {"objective__kl_weight": {"kind": "constant", "value": 0.5}, "objective__mmd_weight": 100.0},
    ),
    "beta-tc-vae": Remedy(
        "a penalty on dependent dimensions",
        "Chen et al. 2018",
        None,
        lambda e: {"objective__total_correlation_weight": 1.0},
    ),
    "mpd": Remedy(
        "mutual posterior divergence as a plain loss",
        "Jhamtani & Berg-Kirkpatrick 2021",
        "price",
        lambda e: {"objective__mpd_weight": 0.1, "objective__mpd_limit_nats": 100.0},
    ),
}


def as_options(changes: Mapping[str, Any]) -> list[str]:
    """The same changes as options of `mpdvae train`."""
    words: list[str] = []
    for path, value in changes.items():
        name = path.replace("__", ".").replace("_", "-")
        if isinstance(value, Mapping):
            words += as_options({f"{path}__{field}": inner for field, inner in value.items()})
        elif isinstance(value, bool):
            group, _, field = name.rpartition(".")
            words.append(f"--{group}.{'' if value else 'no-'}{field}")
        elif isinstance(value, tuple):
            words += [f"--{name}", *map(str, value)]
        else:
            words += [f"--{name}", str(value)]
    return words
