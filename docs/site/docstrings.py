"""Docstrings, which are written in Markdown's way, as the reStructuredText that autodoc reads.

Single backticks become links to what they name in the reference, or code; shapes such as [*, latent] become code; indented
blocks and lists in columns are code; signs that would be markup (`*`, `|`, `x_`) stand for themselves. Formulas (`:math:`,
`.. math::`), emphasis and tables are reStructuredText already. Napoleon reads the sections (`Arguments:`); it is called from
here, because its extension takes what stands before a colon in an attribute's docstring for a type.
"""

import re
from collections.abc import Iterator
from textwrap import indent
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring

SPAN = re.compile(
    r"(?P<kept>:math:`[^`]+`|\*\*\w[^*`]*\*\*|(?<![\w*])\*\w[^*`]*[\w.]\*(?![\w*]))|`(?P<code>[^`]+)`"
    r"|(?P<shape>\[[^\[\]\n]*\*[^\[\]\n]*\])|(?P<sign>[*|\\]|(?<=\w)_(?![\w:]))"
)
NAME = re.compile(r"[A-Za-z]\w*(\.\w+)*")
SECTION = re.compile(r"(Args|Arguments|Attributes|Examples|Raises|Returns|Yields):$")
COLUMNS = re.compile(r"^\S.* {3,}\S", re.MULTILINE)


def _as_markup(found: re.Match[str]) -> str:
    if found["kept"]:
        return found[0]
    if found["sign"]:
        return "\\" + found[0]
    code = " ".join((found["code"] or found["shape"]).split())
    return f":py:obj:`{code}`" if NAME.fullmatch(code) else f"``{code}``"


def _paragraphs(text: str) -> Iterator[str]:
    """Blocks between empty lines; a formula of its own is one even within a paragraph."""
    apart = re.sub(r"(?<=\S)\n(?= *\.\. math::)", "\n\n", text)
    return (block for block in re.split(r"\n\s*\n", apart) if block.strip())


def _on_one_line(formula: str) -> str:
    return formula[: -len(formula.lstrip())] + " ".join(formula.split())


def restructured(text: str) -> str:
    """Returns the reStructuredText of a docstring without common indentation."""
    blocks: list[str] = []
    in_section = in_list = False
    for block in _paragraphs(text.strip("\n")):
        indented = block.startswith("    ")
        if not indented:
            in_section, in_list = bool(SECTION.match(block.splitlines()[0])), block.startswith("- ")
        if block.lstrip().startswith(".. math::"):
            blocks.append(_on_one_line(block))
        elif block.startswith("==="):
            blocks.append(block)
        elif COLUMNS.search(block) or (indented and not (in_section or in_list)):
            blocks.append(f"::\n\n{indent(block, '    ')}")
        else:
            blocks.append(SPAN.sub(_as_markup, block))
    return "\n\n".join(blocks) + "\n"


def _rewrite(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    text = restructured("\n".join(lines))
    lines[:] = str(GoogleDocstring(text, what="function", name=name, obj=obj)).splitlines()


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
