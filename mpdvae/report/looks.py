r"""Levels of repeated looks at a growing number of seeds, such that looking does not inflate the error.

`mpdvae reproduce --until-decided` judges the claims, adds seeds while one is undecided, and judges again. Judged at 5% each
time, a claim would be decided wrongly more often than in 5% of matrices. Look l therefore spends

.. math:: \alpha_l = \frac{\alpha}{l (l + 1)}, \qquad \sum_{l \ge 1} \alpha_l = \alpha = 0.05 ,

that is, 2.5%, 0.83%, 0.42%, ...: by the union bound, at most 5% over all looks, however many there will be and however they
depend on each other. Bounds that use the dependence (Lan & DeMets 1983, https://doi.org/10.1093/biomet/70.3.659) need
statistics that are nearly normal, which those of five runs are not, and a maximum that is known from the start; here the
maximum may be raised afterwards. The numbers of seeds are fixed by the first one: each is one and a half times the one
before, rounded up (5, 8, 12, 18, 27, ...).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mpdvae.report.schema import Part, Seed, Whole, read
from mpdvae.system.closed_folder import Inside

ALPHA = 0.05
"""Probability of a wrong verdict on a claim."""
GROWTH = 1.5
FILE = "looks.json"


@dataclass(frozen=True)
class Look:
    """One judgement of the claims of a study."""

    number: int
    """From 1; 0: the only look, at a number of seeds that was fixed before."""
    seeds: tuple[int, ...] = ()
    """The numbers of seeds at this look and at those before."""

    @property
    def alpha(self) -> float:
        """Probability of a wrong verdict on a claim at this look."""
        return ALPHA if self.number == 0 else ALPHA / (self.number * (self.number + 1))


FIXED = Look(0)


def schedule(first: int, at_most: int) -> list[int]:
    """Returns the numbers of seeds of all looks up to `at_most`."""
    counts, count = [], first
    while count <= at_most:
        counts.append(count)
        count = max(count + 1, math.ceil(count * GROWTH))
    return counts


class Recorded(Part):
    """looks.json: the numbers of seeds at which the claims on each data set were judged."""

    first_seed: Seed = 0
    seeds: dict[str, list[Whole]]

    def last(self) -> dict[str, Look]:
        """Returns the last look at each data set."""
        return {name: Look(len(seeds), tuple(seeds)) for name, seeds in self.seeds.items() if seeds}


def recorded(out: Path) -> Recorded | None:
    """Returns the record of a folder of `mpdvae reproduce`; None if its claims were not judged repeatedly. Raises
    `InputError` if it is broken."""
    path = Inside(out) / FILE
    return read(Recorded, path, "restore it, or start over in another --out") if path.exists() else None


def read_looks(out: Path) -> dict[str, Look]:
    """Returns the last look at each data set of a folder of `mpdvae reproduce`; empty if it has had no repeated looks."""
    found = recorded(out)
    return found.last() if found else {}


def looks_of(folders: Sequence[Path]) -> dict[str, Look]:
    """Returns the last looks of the matrix whose runs these folders are; empty if they are not of one matrix."""
    outs = {folder.resolve().parent.parent for folder in folders}
    return read_looks(outs.pop()) if len(outs) == 1 else {}


def to_json(looks: Mapping[str, Look], first_seed: int = 0) -> str:
    """Returns the text of looks.json."""
    seeds = {name: list(look.seeds) for name, look in looks.items()}
    return Recorded(first_seed=first_seed, seeds=seeds).model_dump_json(indent=2) + "\n"
