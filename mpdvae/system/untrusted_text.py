"""Escapes untrusted text for display: a terminal and Markdown show it as plain text, whatever it contains.

Names of runs, data sets and files, protocols, verdicts and logs may come from folders created by others. HTML is escaped by
jinja2, and JSON inside a page by `report.figures.script_safe`.
"""

_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_[]|#"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})


def printable(text: str) -> str:
    """Returns `text` on one line. Line ends and everything that a terminal would interpret, such as escape sequences for
    colours and cursor movements and marks that change the writing direction, are written out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


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
