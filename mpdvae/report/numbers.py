"""Formats numbers in the same way for the page, the Markdown and the terminal."""

from mpdvae.measures.intervals import Estimate

MISSING = "–"


def number(value: float | None, digits: int, signed: bool = False) -> str:
    """Formats a number with fixed decimals, a true minus sign and no negative zero; returns a dash for None."""
    if value is None:
        return MISSING
    text = f"{value:+,.{digits}f}" if signed else f"{value:,.{digits}f}"
    if not any(character in "123456789" for character in text):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def with_interval(estimate: Estimate | None, digits: int) -> str:
    """Formats mean ± half the width of the 95 % interval; the mean alone for a single seed."""
    if estimate is None:
        return MISSING
    text = number(estimate.mean, digits)
    return text if estimate.half_width is None else f"{text} ± {number(estimate.half_width, digits)}"


def interval(estimate: Estimate, digits: int) -> str:
    """Returns the 95 % interval in words."""
    if estimate.interval is None:
        return "no interval from one seed"
    low, high = estimate.interval
    return f"95% interval {number(low, digits, signed=True)} to {number(high, digits, signed=True)}"


def duration(seconds: float | None) -> str:
    """Formats seconds in a readable unit."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
