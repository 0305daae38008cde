"""Adds seeds to a matrix until its claims are decided.

Each round completes the runs, judges the claims at the level of this look (`mpdvae.report.looks`), and adds seeds to those
data sets on which a claim is undecided, up to a maximum. A claim is decided if it holds or does not hold, or if all that is
open are differences smaller than the smallest that matters. The looks are recorded in `looks.json` before their report is
written: a command that was stopped, or is run again with a larger maximum, continues with the next look.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.recipes import seed_counts
from mpdvae.report.looks import FILE, Look, Recorded, recorded, schedule, to_json
from mpdvae.report.results import Results
from mpdvae.system.atomic_files import write_atomically
from mpdvae.system.closed_folder import Inside

AT_MOST = 20
"""Default maximum of seeds per model."""


class Growth:
    """The numbers of seeds of a matrix, by data set, from look to look."""

    def __init__(
        self, experiments: Sequence[Experiment], seeds: int | None, at_most: int, out: Path, first_seed: int = 0
    ) -> None:
        """Starts with `seeds` seeds (None: as many as the study of each data set has), or where `out` was left.

        Raises:
            InputError: if the maximum is below the first number of seeds, or `out` was looked at with other seeds.
        """
        self._experiments, self._out, self._first_seed = experiments, out, first_seed
        first = {e.data.dataset: n for e, n in zip(experiments, seed_counts(experiments, seeds), strict=True)}
        if at_most < max(first.values()):
            raise InputError(
                f"--at-most: expected at least {max(first.values())} seeds, the first number, got {at_most}."
            )
        self._schedules = {name: schedule(number, at_most) for name, number in first.items()}
        known = recorded(out) or Recorded(first_seed=first_seed, seeds={})
        for name, look in known.last().items():
            before, now = (known.first_seed, look.seeds[0]), (first_seed, first.get(name, look.seeds[0]))
            if before != now:
                raise InputError(
                    f"--seeds, --first-seed: {out} was first looked at with {before[1]} seeds from {before[0]} on, got "
                    f"{now[1]} from {now[0]} on; give the same numbers, or choose another --out."
                )
        self.looks = {name: known.last().get(name, Look(1, (number,))) for name, number in first.items()}

    @property
    def counts(self) -> list[int]:
        """The number of seeds of each experiment at this look."""
        return [self.looks[e.data.dataset].seeds[-1] for e in self._experiments]

    def record(self) -> None:
        """Notes the looks in `out`."""
        write_atomically(Inside(self._out) / FILE, to_json(self.looks, self._first_seed))

    def grown(self, results: Results) -> bool:
        """Moves to the next look at the data sets on which a claim is undecided; returns False if there is none."""
        further = {
            name: look for name, look in self.looks.items() if (name in undecided(results)) and self._can_grow(name)
        }
        for name, look in further.items():
            self.looks[name] = Look(look.number + 1, (*look.seeds, self._schedules[name][look.number]))
        return bool(further)

    def _can_grow(self, name: str) -> bool:
        return self.looks[name].number < len(self._schedules[name])


def undecided(results: Results) -> Mapping[str, list[str]]:
    """Returns the claims that more seeds may decide, by data set."""
    found: dict[str, list[str]] = {}
    for study, verdicts in zip(results.collection.studies, results.verdicts, strict=True):
        for verdict in verdicts:
            if not verdict.is_settled:
                found.setdefault(study.setting.dataset, []).append(verdict.claim.id)
    return found
