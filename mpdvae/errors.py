"""The two kinds of error that a call can raise.

`InputError`   invalid user input. One sentence names the argument, what was expected, what was given and what to do. The
               command line prints it and exits with code 2.
`RunError`     a failure while running. The state is saved, and the sentence says how to continue. The command line exits
               with code 1.

The command line shows a traceback for neither. Sentences may name files of strangers; whatever these are called, a sentence
is one line that a terminal shows as plain text (`printable`).
"""

import errno
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

POINTER = re.compile(r"`mpdvae explain [\w-]+` says more\.")
"""Matches the sentence that `said_by` returns, the last line of many tracebacks."""


class InputError(ValueError):
    """Invalid input.

    Arguments:
        sentence: what was given, what was expected, and what to do.
        topic: section of the troubleshooting page with more information; empty if there is none.
    """

    def __init__(self, sentence: str, topic: str = "") -> None:
        super().__init__(printable(sentence))
        self.topic = topic
        _point(self)


class RunError(RuntimeError):
    """A run that failed after it began.

    Arguments:
        sentence: what happened, and how to continue.
        topic: section of the troubleshooting page with more information; empty if there is none.
        parts: further lines, one for each part that failed.
    """

    def __init__(self, sentence: str, topic: str = "", parts: Sequence[str] = ()) -> None:
        super().__init__("\n".join(map(printable, (sentence, *parts))))
        self.topic = topic
        _point(self)


class ToldToStop(RunError):
    """A run that ended because the process was asked to stop."""


def printable(text: str) -> str:
    """Returns `text` on one line. Line ends and everything that a terminal would interpret, such as escape sequences for
    colours and cursor movements and marks that change the writing direction, are written out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def said_by(topic: str) -> str:
    """Returns the sentence that points to the section `topic` of the troubleshooting page."""
    return f"`mpdvae explain {topic}` says more."


def why(log: str) -> str:
    """Returns in one line why an attempt failed: the end of the traceback `log`; empty if `log` is empty."""
    lines = [line.strip() for line in log.split("\n") if line.strip()]
    return " ".join(lines[-2:] if lines and POINTER.fullmatch(lines[-1]) else lines[-1:])


def _point(error: InputError | RunError) -> None:
    """Appends the pointer to the troubleshooting section to the error's traceback."""
    if error.topic:
        error.add_note(said_by(error.topic))


ADVICE = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some space, your disk quota is used up",
    errno.EFBIG: "raise the limit on file size (`ulimit -f`)",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.EACCES: "make the folder writable, or choose another",
    errno.EPERM: "make the folder writable, or choose another",
    errno.EROFS: "choose a folder on a writable disk",
}


def in_words(error: OSError) -> str:
    """Returns what the system refused and what to do about it, as the beginning of a sentence."""
    where = f"{printable(str(error.filename))}: " if error.filename else ""
    advice = ADVICE.get(error.errno or 0)
    return f"{where}{(error.strerror or str(error)).lower()}{f': {advice}' if advice else ''}"


def listed(words: Sequence[str], most: int | None = None, last: str = "and") -> str:
    """Returns "a, b and c"; of more than `most` words the first ones and the number of the others: "a, b and 4 more".

    Arguments:
        words: at least one.
        most: maximum number of words; default: all are listed.
        last: the word before the last one.
    """
    if most is not None and len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} more"
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else words[0]


def meant(given: str, known: Sequence[str]) -> str:
    """Returns "did you mean 'a' or 'b'?", with the known names nearest to the given one; empty if none is near."""
    near = get_close_matches(given[:200], known, n=3, cutoff=0.4)
    return f"did you mean {listed([repr(name) for name in near], last='or')}?" if near else ""


def refuse_unknown(what: str, given: str, known: list[str], advice: str = "") -> NoReturn:
    """Raises `InputError` for a name that is not in `known`, with the nearest known names as a suggestion."""
    hint = meant(given, known) or f"expected one of: {', '.join(known)}."
    shown = given if len(given) <= 200 else f"{given[:200]}..."
    raise InputError(f"unknown {what} {shown!r}: {hint}{' ' + advice if advice else ''}", topic="options")
