"""Text of strangers where it is shown: on a terminal and in Markdown it is text, whatever is in it.

Names of runs, data sets and files, protocols, verdicts and logs may come from folders that others have made. HTML is escaped
by jinja2, and JSON inside a page by `report.figures.script_safe`.
"""

_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_[]|#"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})


def printable(text: str) -> str:
    """`text` on one line, in which line ends and what a terminal would obey, the escape sequences of colours and cursors and
    the marks that turn the direction of writing, are written out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return printable(text.replace("\n", " ")).translate(_SPECIAL)


def code(text: str) -> str:
    """An inline code span that its own backticks cannot end."""
    flat = printable(" ".join(text.split()))
    fence = "`"
    while fence in flat:
        fence += "`"
    pad = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{fence}{pad}{flat}{pad}{fence}"
