"""Messages of calls in Python: modules that the command line shares with them name its options, callers their arguments."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mpdvae.errors import InputError, RunError

_OPTION = re.compile(r"--(?P<option>[a-z][a-z.-]*[a-z])(?: (?P<value>[A-Z]+|\d+)\b)?")
FIT = {"out": "out", "device": "device", "data.": "images"}
"""Options, or how groups of them begin, and arguments of `mpdvae.fit`; of a group, a dictionary."""
ESTIMATOR = {
    "out": "run_folder",
    "device": "device",
    "data.levels": "levels",
    "data.condition-classes": "labels",
    "data.condition-covariates": "covariates",
}
"""The same of `MPDVAE`."""


@contextmanager
def naming_arguments(names: Mapping[str, str]) -> Iterator[None]:
    """Context in which `InputError` and `RunError` name arguments of a call instead of options of the command line.

    Arguments:
        names: `FIT` or `ESTIMATOR`. Other options stay as they are.
    """
    try:
        yield
    except (InputError, RunError) as error:
        sentence = f"{error.args[0]}"
        said = _OPTION.sub(lambda found: _argument(found, names), sentence)
        if said == sentence:
            raise
        error.args = (said,)
        raise


def _argument(found: re.Match[str], names: Mapping[str, str]) -> str:
    option, value = found["option"], found["value"]
    if option in names:
        return names[option] + (f"={value}" if value and value.isdigit() else "")
    group, _, field = option.partition(".")
    if not field or f"{group}." not in names:
        return found[0]
    return f'{names[f"{group}."]}={{"{field.replace("-", "_")}": {value or "..."}}}'
