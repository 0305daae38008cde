"""Escapes untrusted text for display: a terminal and Markdown show it as plain text, whatever it contains.

Names of runs, data sets and files, protocols, verdicts and logs may come from folders created by others. HTML is escaped by
jinja2, and JSON inside a page by `report.figures.script_safe`.
"""

from mpdvae.errors import printable

_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_[]|#"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})


def tell(*lines: str) -> None:
    """Prints lines to standard output. A name that ends a line would only seem to: each argument is shown as one line."""
    for line in lines:
        print(printable(line), flush=True)


def encodable(text: str) -> str:
    """Returns `text` with the bytes of a name that are not UTF-8, as Python holds them, written out: JSON has no place for
    them."""
    return text.encode(errors="backslashreplace").decode()


def escape(text: str) -> str:
    """Returns `text` escaped so that Markdown shows it literally, on one line."""
    return printable(text.replace("\n", " ")).translate(_SPECIAL)


def code(text: str) -> str:
    """Returns an inline code span that backticks in `text` cannot end."""
    flat = printable(" ".join(text.split()))
    fence = "`"
    while fence in flat:
        fence += "`"
    pad = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{fence}{pad}{flat}{pad}{fence}"
