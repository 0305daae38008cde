"""Formulas as MathML, which browsers draw without a script or a font from elsewhere: a renderer for Sphinx's `math` nodes."""

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def _within_a_line(translator: Any, node: nodes.math) -> None:
    translator.body.append(convert(" ".join(node.astext().split())))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    formula = convert(" ".join(node.astext().split()), display="block")
    translator.body.append(f'<div class="formula">{formula}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_within_a_line, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
