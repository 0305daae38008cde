"""The names of the classes of the training images, as a run records them: in its manifest, and in its model, so that a shared
model has them, too. `mpdvae.data.class_names` says what they are for."""

from mpdvae.system.untrusted_files import in_short

MOST_NAMES = 10_000
"""Names that are recorded: a model is told one of 256 classes, but data sets have more."""
LONGEST_NAME = 1_000
"""Characters of a name that is recorded; file systems have 255."""


def recordable(names: tuple[str, ...]) -> tuple[str, ...] | None:
    """Returns the names as they are recorded; None if they are too many or too long for that."""
    fit = len(names) <= MOST_NAMES and all(len(name) <= LONGEST_NAME for name in names)
    return names if fit else None


def checked_names(names: object) -> tuple[str, ...]:
    """Returns the names that a file records. Raises `ValueError` unless they are a list of what `recordable` returns."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"expected a list of names, got {in_short(names, 60)}")
    if (found := recordable(tuple(names))) is None:
        raise ValueError(f"expected at most {MOST_NAMES:,} names of at most {LONGEST_NAME:,} characters")
    return found
