"""Advice for one run: the remedies for collapse that suit its experiment and are not applied yet, with the options to try
them.

Both follow from the changes that a remedy makes (`mpdvae.experiments.remedies`): it suits an experiment if the changed
experiment is valid, and it is applied if the experiment has all of its changes already, whatever their strength.

Which to try first: one against each cause that was found, then a second against each. Remedies against the same cause come in
the order of what they did on MNIST, in nats of likelihood and of information (docs/remedies.md):

1. those that are worth it in any case: what raised both, and for continuous pixels a learned sigma, without which a code may
   not pay at all;
2. those that raised the information at no cost in likelihood beyond 0.4 nats: by the likelihood of the second table, which is
   the more exact one, then those that only the first has;
3. those that raised it at a cost, the cheapest first;
4. those of which no effect alone was measured;
5. those that raised little or nothing, and GECO, whose goal a short training misses, by the likelihood that they cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.experiments.kl_weight_config import ConstantWeight
from mpdvae.experiments.recipes import DIVERSITY_WEIGHT, SMOOTHNESS_WEIGHT
from mpdvae.experiments.remedies import REMEDIES, Cause, Changes, Remedy, as_options


def smaller_kernels(experiment: Experiment) -> tuple[int, ...]:
    """Returns 3x3 kernels, one layer fewer than the experiment's decoder has; for other decoders two, which they reject."""
    layers = len(getattr(experiment.decoder, "kernel_sizes", ())) or 3
    return (3,) * max(1, layers - 1)


def learned_sigma(experiment: Experiment) -> Changes:
    """Returns the changes to Gaussian pixels. Raises `InputError` for pixels that are not continuous: of levels, the usual
    distributions learn their scale and are probabilities."""
    if experiment.data.binarisation != "intensities":
        raise InputError("data.binarisation: a standard deviation of pixels is learned for intensities only.")
    return {"decoder__pixels": "gaussian"}


DIVERSITY = Remedy(
    "diversity and smoothness of posteriors", "MAE, Ma et al. 2019", "price",
    lambda e: {"objective__diversity_weight": DIVERSITY_WEIGHT, "objective__smoothness_weight": SMOOTHNESS_WEIGHT},
)  # fmt: skip
SIGMA = Remedy("pixels with a learned standard deviation", "sigma-VAE, Rybkin et al. 2021", "price", learned_sigma)
FLOW = Remedy("an autoregressive-flow prior", "Chen et al. 2017", "price", lambda e: {"prior": {"kind": "flow"}})
MAP_FLOW = Remedy(
    "an autoregressive-flow prior over maps", "Chen et al. 2017", "price", lambda e: {"prior": {"kind": "map-flow"}}
)
RECEPTIVE_FIELD = Remedy(
    "a smaller receptive field", "Chen et al. 2017", "decoder", lambda e: {"decoder__kernel_sizes": smaller_kernels(e)}
)
ADVISED = (
    SIGMA, DIVERSITY,  # price
    *(REMEDIES[name] for name in ("free-bits-total", "free-bits", "annealing", "cyclical", "beta-vae")),
    *(REMEDIES[name] for name in ("soft-free-bits", "ar1", "bn-vae")),
    *(REMEDIES[name] for name in ("du-vae", "info-vae", "density-gap")),
    FLOW, MAP_FLOW,
    *(REMEDIES[name] for name in ("iwae", "mpd", "vampprior", "delta-vae", "geco")),
    REMEDIES["latent-reconstruction"], REMEDIES["skip-vae"],  # decoder
    RECEPTIVE_FIELD,
    REMEDIES["inverse-lipschitz"], REMEDIES["lidvae"],
    REMEDIES["lagging"], REMEDIES["semi-amortised"],  # encoder
)  # fmt: skip
"""Remedies against each cause, the one to try first first: those with their own recipes, and those that the recipes of MAE
and VLAE apply."""


@dataclass(frozen=True)
class Advice:
    """A remedy for one run, and how to try it."""

    remedy: Remedy
    options: tuple[str, ...]
    """Command line words for `mpdvae train`."""


def advise(experiment: Experiment) -> tuple[Advice, ...]:
    """Returns the remedies that suit `experiment` and that it does not apply yet."""
    found = []
    for remedy in ADVISED:
        try:
            changes = remedy.changes(experiment)
            with_changes(experiment, **changes)
            applied = all(_applied(experiment, path, value) for path, value in changes.items())
        except (InputError, AttributeError):
            continue  # it does not fit the experiment's data or parts
        if not applied:
            found.append(Advice(remedy, tuple(as_options(changes))))
    return tuple(found)


def first_to_try(advice: Sequence[Advice], causes: Sequence[Cause]) -> tuple[Advice, ...]:
    """Returns `advice` in the order in which to try it: one against each of `causes` in turn, then what is against others."""
    ranks: dict[Cause | None, int] = dict.fromkeys((one.remedy.against for one in advice), 0)

    def place(one: Advice) -> tuple[bool, int, int]:
        against = one.remedy.against
        ranks[against] += 1
        if against not in causes:
            return True, 0, 0
        return False, ranks[against], causes.index(against)

    return tuple(sorted(advice, key=place))  # stable


def _applied(experiment: Experiment, path: str, value: object) -> bool:
    """Returns whether a field has this value; for a part, whether it has this kind, whatever its sizes. The KL's own weight
    of 1 has the same kind as that of beta-VAE but is not a remedy."""
    present: Any = reduce(getattr, path.split("__"), experiment)
    if isinstance(value, Mapping):
        return present.kind == value["kind"] and present != ConstantWeight()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return bool(present)  # whatever the strength
    return present == value
