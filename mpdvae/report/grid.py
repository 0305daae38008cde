"""Tables as formatted text in sections, so that every output format of the report prints the same characters."""

from dataclasses import dataclass

from mpdvae.report.collect import Variant
from mpdvae.report.metrics import Metric, over_seeds, values
from mpdvae.report.numbers import with_interval


@dataclass(frozen=True)
class Row:
    label: str
    unit: str
    cells: tuple[str, ...]

    @property
    def title(self) -> str:
        """Label and unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True)
class Section:
    title: str
    rows: tuple[Row, ...]
    folded: bool = False
    """Whether the page shows the rows only when asked to."""


@dataclass(frozen=True)
class Table:
    title: str
    columns: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Label for screen readers."""
        return f"Table of {self.title[0].lower()}{self.title[1:]}"


def cell(variant: Variant, shown: Metric) -> str:
    """Returns the mean over seeds ± half the width of its interval, with the number of seeds if some lack the metric."""
    text = with_interval(over_seeds(variant, shown.name), shown.digits)
    have, all_seeds = len(values(variant, shown.name)), len(variant.seeds)
    return f"{text} ({have} of {all_seeds} seeds)" if 0 < have < all_seeds else text
