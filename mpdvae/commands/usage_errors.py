"""Says in one sentence what is wrong with the options of a command, in the style of all other errors.

An option that the command does not have is found by comparing the arguments with the options that it has. For everything
else tyro prints a framed text and exits. Here that text is taken apart: what it is about, the option, the value that was
given, and what was expected. A text of an unknown form is passed on in full, on one line.
"""

import io
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from difflib import get_close_matches
from typing import Any, TypeVar

from mpdvae.commands.option_names import option_names, unknown_option
from mpdvae.errors import InputError, listed

T = TypeVar("T")
KINDS = {"INT": "a whole number", "FLOAT": "a number", "PATH": "a path", "STR": "a text", "{None}": "None"}
SEVERAL = {"INT": "whole numbers", "FLOAT": "numbers", "PATH": "paths", "STR": "texts"}


def parsed(parse: Callable[[], T], command: str, arguments: Sequence[str], signature: Callable[..., Any]) -> T:
    """Returns the result of `parse`, which calls tyro.

    Raises `InputError` for options that are unknown, missing or of the wrong type; exits with code 0 after printing help.

    Arguments:
        parse: reads the options.
        command: the words of the command, for the pointer to its help.
        arguments: what follows these words.
        signature: function whose arguments are the options.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return parse()
    except SystemExit as exit:
        if not exit.code:
            raise
    sentence = unknown_option(arguments, option_names(signature)) or in_one_sentence(said.getvalue())
    end = "" if sentence.endswith("?") else ";"
    raise InputError(f"{sentence}{end} `{command} --help` lists the options.", topic="options")


def in_one_sentence(framed: str) -> str:
    """Returns the content of tyro's framed text without a full stop."""
    inside = [
        line.strip("│").rstrip() for line in framed.splitlines()[1:] if not line.startswith("╰")
    ]  # after the title
    lines = [
        line for line in inside if line and not re.fullmatch(r"[─-]+", line.strip())
    ]  # frames are of either character
    text = " ".join(map(str.strip, lines))
    for found in (_further, _missing, _choice, _no_value, _value):
        if sentence := found(text, lines):
            return sentence
    return re.split(r" For full helptext", text)[0].rstrip(".")


def _further(text: str, lines: list[str]) -> str:
    match = re.search(r"Unrecognized options:? (.*?)(?: Perhaps you meant:| For full|$)", text)
    return f"expected options, got the further argument {re.split(r',? ', match[1])[0]!r}" if match else ""


def _missing(text: str, lines: list[str]) -> str:
    if "Missing from mpdvae" not in text:
        return ""
    lines, required = [line.strip() for line in lines], list[list[str]]()
    for line in lines[lines.index(next(line for line in lines if line.startswith("Missing from"))) + 1 :]:
        if line.startswith("For full"):
            break
        if re.fullmatch(r"(--[\w.-]+ )?[A-Z{}|\[\] .]+", line):
            required.append([line])
        elif required and line:
            required[-1].append(line)
    told = [f"{name} ({' '.join(about).removesuffix(' (required)').rstrip('.')})" for name, *about in required]
    return f"expected {listed(told)}, got {'neither' if len(told) == 2 else 'none'}"


def _choice(text: str, lines: list[str]) -> str:
    match = re.search(r"invalid choice '(.*?)' for argument '(.*?)'\. Expected one of \((.*?)\)", text)
    if not match:
        return ""
    known = re.findall(r"'(.*?)'", match[3])
    if "None" in known:  # a union, whose members come in any order
        known = [*sorted(choice for choice in known if choice != "None"), "None"]
    near = get_close_matches(match[1], known, n=1, cutoff=0.4)
    hint = f": did you mean {near[0]!r}?" if near else ""
    return f"{match[2]}: expected {listed(known, last='or')}, got {match[1]!r}{hint}"


def _no_value(text: str, lines: list[str]) -> str:
    match = re.search(r"Missing value for argument '(.*?)'", text)
    return f"{match[1]}: expected a value, got none" if match else ""


def _value(text: str, lines: list[str]) -> str:
    match = re.search(r"Error parsing (\S+): (.*?) Argument helptext: \1 (\S+(?: \[\S+ \.\.\.\]\])?)", text)
    if not match:
        return ""
    given = re.search(r"\[('.*?')\]|: ('.*?')(?: |$)", match[2] + " ")
    shown = next(group for group in given.groups() if group) if given else "something else"
    return f"{match[1]}: expected {_kind(match[3])}, got {shown}"


def _kind(written: str) -> str:
    """Returns a type as tyro writes it in words."""
    if several := re.match(r"\[(\w+) \[", written):
        return SEVERAL.get(several[1], written)
    parts = written.split("|")
    return listed([KINDS.get(part, part) for part in sorted(parts, key=lambda part: part == "{None}")], last="or")
