"""The option `--parts FILE` of every command, and the list of the parts that it adds.

The option stands before the command or after it, may be given several times, and is passed on to the processes that a
command starts, through the environment variable `MPDVAE_PARTS`.
"""

import inspect
import os
from collections.abc import Sequence
from pathlib import Path

from mpdvae.errors import InputError
from mpdvae.experiments.own_part_configs import BASES
from mpdvae.experiments.own_parts import PATHS, known, read_file

OPTION = "--parts"


def with_own_parts(arguments: Sequence[str]) -> list[str]:
    """Executes the files that `--parts` names, and returns the other arguments.

    Raises:
        InputError: for an option without a file, and a file that does not exist or fails.
    """
    rest, files, ahead = [], [], iter(arguments)
    for word in ahead:
        name, equals, file = word.partition("=")
        if name != OPTION:
            rest.append(word)
            continue
        file = file if equals else next(ahead, "")
        if not file:
            raise InputError(f"{OPTION}: expected a Python file, got nothing.", topic="own-parts")
        files.append(Path(file).absolute())
    if files:
        os.environ[PATHS] = os.pathsep.join(dict.fromkeys([*map(str, files), *_named_before()]))
    for file in files:
        read_file(file)
    return rest


def own_parts() -> list[tuple[str, str, str]]:
    """Returns role, kind and description of every part of the user's that is known here."""
    return [
        (role, kind, (inspect.getdoc(member) or "").split("\n")[0])
        for role in BASES
        for kind, member in sorted(known(role).items())
    ]


def _named_before() -> list[str]:
    return [path for path in os.environ.get(PATHS, "").split(os.pathsep) if path]
