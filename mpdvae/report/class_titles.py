"""What classes are called in the report: by their names, where runs record them, otherwise by their numbers.

A title is short, and no two classes have the same, so that a title can stand for its class in a legend.
"""

from collections.abc import Iterable, Sequence

from mpdvae.report.collect import Run
from mpdvae.system.untrusted_files import in_short

LONGEST = 40
"""Characters of a title."""


def class_titles(labels: Iterable[int], names: Sequence[str]) -> dict[int, str]:
    """Returns the title of each class that occurs, by its number, in the order of numbers. If names are alike, every title
    has the number, too."""
    called = {label: _title(label, names) for label in sorted(set(labels))}
    if len(set(called.values())) == len(called):
        return called
    return {label: f"{title} ({label})" for label, title in called.items()}


def names_in(runs: Iterable[Run]) -> Sequence[str]:
    """Returns the names of the classes in several runs on the same data; none if runs disagree."""
    known = {tuple(run.manifest.data.class_names) for run in runs if run.manifest.data.class_names}
    return known.pop() if len(known) == 1 else ()


def _title(label: int, names: Sequence[str]) -> str:
    if not 0 <= label < len(names):
        return str(label)
    name = names[label]
    return in_short(name, LONGEST) if len(name) <= LONGEST else f"{in_short(name, LONGEST - 3)}..."
