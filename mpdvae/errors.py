"""The two ways in which a call can go wrong, and how they end.

`InputError`   the user's input is at fault: one sentence that names the argument, what was expected, what was given
               and what to do. The command line prints it and exits with 2.
`RunError`     something failed while running: state is saved, and the sentence says how to go on. Exits with 1.

Neither ends in a traceback on the command line.
"""

import errno
import re
from difflib import get_close_matches
from typing import NoReturn

POINTER = re.compile(r"`mpdvae explain [\w-]+` says more\.")
"""What `said_by` says, the last line of many a traceback."""


class InputError(ValueError):
    """Bad input: what was given, what was expected, what to do.

    Arguments:
        sentence: all of that.
        topic: section of the troubleshooting page that says more; empty: there is no more to say.
    """

    def __init__(self, sentence: str, topic: str = "") -> None:
        super().__init__(sentence)
        self.topic = topic
        _point(self)


class RunError(RuntimeError):
    """A run that failed after it began.

    Arguments:
        sentence: what happened, and how to go on.
        topic: section of the troubleshooting page that says more; empty: there is no more to say.
    """

    def __init__(self, sentence: str, topic: str = "") -> None:
        super().__init__(sentence)
        self.topic = topic
        _point(self)


class ToldToStop(RunError):
    """A run that ended because the process was asked to."""


def said_by(topic: str) -> str:
    """The sentence that says where there is more about `topic`."""
    return f"`mpdvae explain {topic}` says more."


def why(log: str) -> str:
    """Why an attempt failed: what the traceback `log` ends with, in one line; empty for an empty one."""
    lines = [line.strip() for line in log.split("\n") if line.strip()]
    return " ".join(lines[-2:] if lines and POINTER.fullmatch(lines[-1]) else lines[-1:])


def _point(error: InputError | RunError) -> None:
    """Has a traceback end with the way to the section, too."""
    if error.topic:
        error.add_note(said_by(error.topic))


ADVICE = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room, your quota is used up",
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`)",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.EACCES: "make the folder writable, or choose another",
    errno.EPERM: "make the folder writable, or choose another",
    errno.EROFS: "choose a folder on a disk that can be written to",
}


def in_words(error: OSError) -> str:
    """What the system refused, and what to do, as the beginning of a sentence."""
    where = f"{error.filename}: " if error.filename else ""
    advice = ADVICE.get(error.errno or 0)
    return f"{where}{(error.strerror or str(error)).lower()}{f': {advice}' if advice else ''}"


def refuse_unknown(what: str, given: str, known: list[str], advice: str = "") -> NoReturn:
    """Raises `InputError` for a name that is not in `known`, with the nearest known names as a suggestion."""
    near = get_close_matches(given[:200], known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"known are: {', '.join(known)}."
    shown = given if len(given) <= 200 else f"{given[:200]}..."
    raise InputError(f"unknown {what} {shown!r}: {hint}{' ' + advice if advice else ''}", topic="options")
