"""Tables as formatted text in sections, so that every output format of the report prints the same characters.

Models are columns, so that their numbers are compared line by line. Where more models, or longer names, are compared than a
page has room for, the table is turned: a model is a row.
"""

from dataclasses import dataclass, replace

from mpdvae.report.collect import Variant
from mpdvae.report.metrics import Metric, over_seeds, values
from mpdvae.report.numbers import MISSING, with_interval

MOST_COLUMNS = 10
"""Columns that fit beside the first one on the widest page (page.css), with names of models and numbers with an interval."""


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
    turned: bool = False
    """Whether a page shows a row for each column."""

    @property
    def name(self) -> str:
        """Label for screen readers."""
        return f"Table of {self.title[0].lower()}{self.title[1:]}"


def fitted(table: Table) -> Table:
    """Returns the table, turned if it has too many columns to stand next to each other."""
    return replace(table, turned=len(table.columns) > MOST_COLUMNS)


def lines(table: Table, section: Section) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns the heading of a section's columns, without that of the first, and its lines, each with its name first."""
    if not table.turned:
        return table.columns, [(row.title, *row.cells) for row in section.rows]
    turned = zip(table.columns, *(row.cells for row in section.rows), strict=True)
    return tuple(row.title for row in section.rows), [line for line in turned if set(line[1:]) != {MISSING}]


def cell(variant: Variant, shown: Metric) -> str:
    """Returns the mean over seeds ± half the width of its interval, with the number of seeds if some lack the metric."""
    text = with_interval(over_seeds(variant, shown.name), shown.digits)
    have, all_seeds = len(values(variant, shown.name)), len(variant.seeds)
    return f"{text} ({have} of {all_seeds} seeds)" if 0 < have < all_seeds else text
