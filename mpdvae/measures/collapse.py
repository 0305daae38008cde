"""Collapse in words, and since when it has been so.

A unit (latent dimension) is *idle* where it carries less than `COLLAPSE_NATS` nats of information about the image
(`mpdvae.measures.code_diagnostics.information_per_dimension`); a code has *collapsed* where more than half of its units are
idle.

The verdict "28 of 32 units carry less than 0.01 nats" is a statement about at least 28 units. It *became true* at the first
evaluation point from which on, up to the newest one, at least 28 units were idle; "no collapse" at the first from which on
none was. It is known to the distance between evaluation points, and no further back than the idle units were noted.

Posterior collapse: Bowman et al. 2016, https://arxiv.org/abs/1511.06349; He et al., ICLR 2019,
https://arxiv.org/abs/1901.05534.
"""

from collections.abc import Mapping, Sequence
from typing import Any

COLLAPSE_NATS = 0.01
"""Information below which a unit counts as idle."""


def in_words(idle: int, units: int, threshold: float = COLLAPSE_NATS) -> str:
    """ "collapsed" where more than half of the units are idle, `partly collapsed` where some are."""
    if idle == 0:
        return f"no collapse: {units} of {units} units carry at least {threshold:g} nats"
    word = "collapsed" if idle > units / 2 else "partly collapsed"
    return f"{word}: {idle} of {units} units carry less than {threshold:g} nats"


def since(history: Sequence[Mapping[str, Any]]) -> int | None:
    """The step at which the newest verdict of a run became true; see the module's head.

    Arguments:
        history: entries with `step` and `idle_units`, in order of steps.

    Returns:
        None where the newest entry has no `idle_units`: it was written before they were noted.
    """
    newest = history[-1].get("idle_units") if history else None
    if newest is None:
        return None
    first = history[-1]["step"]
    for entry in reversed(history):
        idle = entry.get("idle_units")
        if idle is None or idle < newest or (newest == 0 and idle > 0):
            break
        first = entry["step"]
    return first


def sentence(verdict: str, step: int | None, first: bool = False) -> str:
    """The verdict with the step at which it became true.

    Arguments:
        verdict: as `in_words` gives it.
        step: as `since` gives it; None: not known.
        first: whether that step is the first that was measured, so that it may have been true before.
    """
    if step is None:
        return f"{verdict} (since which step is not known)"
    return f"since step {step}{' (the first measured)' if first else ''}: {verdict}"
