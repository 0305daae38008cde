"""Formats numbers in the same way for the page, the Markdown and the terminal."""

from mpdvae.measures.intervals import CONFIDENCE, Estimate

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


def interval_in_words(found: tuple[float, float] | None, digits: int, level: float = CONFIDENCE) -> str:
    """Returns an interval and its level in words."""
    if found is None:
        return "no interval from one seed"
    percent = f"{100 * level:.2f}".rstrip("0").rstrip(".")
    return f"{percent}% interval {number(found[0], digits, signed=True)} to {number(found[1], digits, signed=True)}"


def percent(probability: float) -> str:
    """Formats a probability; one that is not certain is not rounded to 100%."""
    return "> 99%" if probability > 0.99 else f"{probability:.0%}"


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
