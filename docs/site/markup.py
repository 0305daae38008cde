"""What the pages and docstrings have beyond Markdown.

Formulas become MathML, which browsers draw without any script or font from elsewhere: `$...$` and `:math:` within a line,
`$$...$$` and `.. math::` as a block of their own. Shapes such as [*, latent] become code, so that their star is not emphasis.
"""

import re
from typing import Any
from xml.etree.ElementTree import Element, SubElement

from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.blockprocessors import BlockProcessor
from markdown.inlinepatterns import InlineProcessor
from markdown.util import AtomicString

INLINE = r"(?<![\\$])\$(?!\s)([^$\n]+?)(?<!\s)\$(?!\d)"
ROLE = r":math:`([^`]+)`"
BLOCK = re.compile(r"(?:^|\n)(?:\$\$(.+?)\$\$|\.\. math::(.+))\s*$", re.DOTALL)
SHAPE = r"(\[[^\[\]\n]*\*[^\[\]\n]*\])(?!\()"


class _Formula(InlineProcessor):
    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:
        return self.md.htmlStash.store(convert(m[1])), m.start(), m.end()


class _Block(BlockProcessor):
    def test(self, parent: Element, block: str) -> bool:
        return BLOCK.search(block) is not None

    def run(self, parent: Element, blocks: list[str]) -> None:
        block = blocks.pop(0)
        found = BLOCK.search(block)
        assert found is not None  # `test` saw it
        if before := block[: found.start()]:
            self.parser.parseBlocks(parent, [before])
        latex = " ".join((found[1] or found[2]).split())
        SubElement(parent, "p").text = self.parser.md.htmlStash.store(convert(latex, display="block"))


class _Shape(InlineProcessor):
    def handleMatch(self, m: re.Match[str], data: str) -> tuple[Element, int, int]:
        code = Element("code")
        code.text = AtomicString(m[1])
        return code, m.start(), m.end()


class _Markup(Extension):
    def extendMarkdown(self, md: Markdown) -> None:
        md.inlinePatterns.register(_Formula(INLINE, md), "formula", 185)
        md.inlinePatterns.register(_Formula(ROLE, md), "formula-role", 195)
        md.inlinePatterns.register(_Shape(SHAPE, md), "shape", 184)
        md.parser.blockprocessors.register(_Block(md.parser), "formula-block", 85)


def on_config(config: Any) -> Any:
    """Called by mkdocs once it has read mkdocs.yml."""
    config.markdown_extensions.append(_Markup())
    return config
