"""Remedies for posterior collapse, each a few changes to the model that collapses: `vae-pixelcnn`, an autoregressive
decoder with the prior N(0, I).

A remedy is a prior, an encoder head, a term or a weight of the objective, a step rule, or connections in the decoder; all
train in the same loop. The changes are options of `mpdvae train`, so that they can also be applied to any other model. If a
remedy has a strength, it is set to about `RATE_PER_DIMENSION_NATS` per dimension of the code, so that remedies are
comparable. docs/remedies.md gives the measured effect of each; `mpdvae.evaluation.advice` selects those that suit a run.

`CAUSES` says in words what each remedy is against. Sources: for `price` and `decoder` Chen et al., ICLR 2017,
https://arxiv.org/abs/1611.02731; for `encoder` He et al., ICLR 2019, https://arxiv.org/abs/1901.05534.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mpdvae.errors import InputError
from mpdvae.experiments.decoder_config import InjectiveDecoder, InjectivePixelCNNDecoder, PixelCNNDecoder
from mpdvae.experiments.experiment import Experiment

RATE_PER_DIMENSION_NATS = 0.3
GOAL_NATS = {"digits": 20.0, "mnist": 80.0}
"""GECO's reconstruction goal for each data set; MAE reaches that of MNIST at scale `minutes`."""

Cause = Literal["price", "decoder", "encoder"]
CAUSES: Mapping[Cause, str] = {
    "decoder": "the decoder models the images well enough without z",
    "encoder": "the encoder lags behind the decoder, which finds z useless",
    "price": "the KL is paid before the decoder has learned how to use z",
}
"""Causes in words: those that are measured first, the one that is concluded from little information last."""
Changes = dict[str, Any]
"""Fields of an experiment by dotted path with `__` for the dot, as accepted by `with_changes`."""


@dataclass(frozen=True)
class Remedy:
    """One remedy, and the changes that it makes to the model that collapses."""

    title: str
    source: str
    """Authors and year."""
    against: Cause | None
    """The cause that it addresses; None: not meant against collapse, included for comparison."""
    changes: Callable[[Experiment], Changes]
    """Returns the changes for an experiment of a given size and length. Raises `InputError` if there are none for it."""

    @property
    def description(self) -> str:
        return f"Against collapse: {self.title} ({self.source})"


def committed_nats(e: Experiment) -> float:
    """Returns the rate in nats to which remedies with a strength are set."""
    return round(RATE_PER_DIMENSION_NATS * e.latent_dim, 3)


def scale_of_rate() -> float:
    """Returns the standard deviation g of normalised posterior means for which the mean KL, at least g^2 / 2 per dimension,
    is at least the rate."""
    return round(math.sqrt(2 * RATE_PER_DIMENSION_NATS), 3)


def goal_nats(e: Experiment) -> float:
    """Returns GECO's reconstruction goal for the experiment's data. Raises `InputError` for data without a known goal."""
    if e.data.dataset not in GOAL_NATS:
        raise InputError(
            f"data.dataset: a reconstruction goal is known only for {', '.join(GOAL_NATS)}, got {e.data.dataset!r}; set "
            "objective.kl_weight.goal_nats yourself.",
            topic="options",
        )
    return GOAL_NATS[e.data.dataset]


def expansion() -> float:
    """Returns the factor L between codes and logits for which a linear decoder can carry the rate in each dimension. A binary
    pixel tells of a logit near 0 as much as a Gaussian one with the standard deviation 2 tells of its mean, which is
    log(1 + (L / 2)^2) / 2 nats of a code z ~ N(0, 1)."""
    return round(2 * math.sqrt(math.expm1(2 * RATE_PER_DIMENSION_NATS)), 3)


def injective(e: Experiment, inverse_lipschitz: float) -> Changes:
    """Returns the changes to an injective decoder: with autoregressive pixels, if the experiment's decoder has them, of the
    same size; of one that is injective already, the constraint only."""
    d = e.decoder
    constraint: Changes = {"inverse_lipschitz": inverse_lipschitz} if inverse_lipschitz else {}
    if constraint and isinstance(d, InjectiveDecoder | InjectivePixelCNNDecoder):
        return {"decoder__inverse_lipschitz": inverse_lipschitz}
    pixels = getattr(d, "pixels", None)
    kept: Changes = {"pixels": pixels} if pixels else {}
    if isinstance(d, PixelCNNDecoder | InjectivePixelCNNDecoder):
        kept = {"kind": "injective-pixelcnn", "channels": d.channels, "kernel_sizes": d.kernel_sizes} | kept
    return {"decoder": {"kind": "injective"} | kept | constraint}


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
        "the KL with weight 0.5",
        "Higgins et al. 2017",
        "price",
        lambda e: {"objective__kl_weight": {"kind": "constant", "value": 0.5}},
    ),
    "free-bits": Remedy(
        "free bits per dimension",
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
        "the smallest KL that reaches a reconstruction goal",
        "Rezende & Viola 2018",
        "price",
        lambda e: {"objective__kl_weight": {"kind": "geco", "goal_nats": goal_nats(e)}},
    ),
    "delta-vae": Remedy(
        "posteriors with a committed rate",
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
        "a mixture of posteriors as the prior",
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
    "lidvae": Remedy(
        "a decoder that is injective in the code",
        "Wang et al. 2021",
        "decoder",
        lambda e: injective(e, 0.0),
    ),
    "inverse-lipschitz": Remedy(
        "a decoder that keeps codes apart by a given factor",
        "Kinoshita et al. 2023",
        "decoder",
        lambda e: injective(e, expansion()),
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
        "the KL with weight 0.5, plus an MMD of the aggregate posterior",
        "Zhao et al. 2017",
        "price",
        lambda e: {"objective__kl_weight": {"kind": "constant", "value": 0.5}, "objective__mmd_weight": 100.0},
    ),
    "density-gap": Remedy(
        "the KL of the aggregate posterior in place of the KL",
        "Zhang et al. 2022",
        "price",
        lambda e: {
            "objective__kl_weight": {"kind": "constant", "value": 0.0},
            "objective__density_gap_weight": 1.0,
        },
    ),
    "latent-reconstruction": Remedy(
        "codes that come back when decoded and encoded again",
        "Song et al. 2025",
        "decoder",
        lambda e: {"objective__latent_reconstruction_weight": 0.5},
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
"""Remedies for posterior collapse, by the name that their recipes carry."""


def as_options(changes: Mapping[str, Any]) -> list[str]:
    """Returns the changes as options of `mpdvae train`."""
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
