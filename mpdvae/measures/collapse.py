"""The collapse verdict in words, and the step since which it has held.

A unit (latent dimension) is *idle* if it carries less than `COLLAPSE_NATS` nats of information about the image
(`mpdvae.measures.code_diagnostics.information_per_dimension`); a code has *collapsed* if more than half of its units are
idle.

The verdict "28 of 32 units carry less than 0.01 nats" is a statement about at least 28 units. It *became true* at the first
evaluation point from which at least 28 units were idle at every point up to the latest one; "no collapse" became true at
the first point from which none was. The step is known to within the distance between evaluation points, and no further back
than idle units were recorded.

Posterior collapse: Bowman et al. 2016, https://arxiv.org/abs/1511.06349; He et al., ICLR 2019,
https://arxiv.org/abs/1901.05534.
"""

from collections.abc import Mapping, Sequence
from typing import Any

COLLAPSE_NATS = 0.01
"""Information in nats below which a unit counts as idle."""


def in_words(idle: int, units: int, threshold: float = COLLAPSE_NATS) -> str:
    """Returns the verdict: "collapsed" if more than half of the units are idle, "partly collapsed" if some are."""
    if idle == 0:
        return f"no collapse: {units} of {units} units carry at least {threshold:g} nats"
    word = "collapsed" if idle > units / 2 else "partly collapsed"
    return f"{word}: {idle} of {units} units carry less than {threshold:g} nats"


def since(history: Sequence[Mapping[str, Any]]) -> int | None:
    """Returns the step at which the latest verdict of a run became true; see the module docstring.

    Arguments:
        history: entries with `step` and `idle_units`, in order of steps.

    Returns:
        the step, or None if the latest entry has no `idle_units` (it was written before they were recorded).
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
    """Returns the verdict with the step at which it became true.

    Arguments:
        verdict: as returned by `in_words`.
        step: as returned by `since`; None: unknown.
        first: whether that step is the first one measured, so that the verdict may have been true before.
    """
    if step is None:
        return f"{verdict} (since which step is not known)"
    return f"since step {step}{' (the first measured)' if first else ''}: {verdict}"
