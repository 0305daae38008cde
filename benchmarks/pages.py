"""Tables in the documentation: a benchmark replaces what stands between `<!-- NAME -->` and `<!-- end -->`."""

import re
from collections.abc import Sequence
from pathlib import Path

from mpdvae.system.atomic_files import write_atomically

DOCS = Path(__file__).parents[1] / "docs"


def fill(page: Path, **parts: str) -> None:
    """Replaces the named parts of a page. Raises `ValueError` for a part that the page does not have."""
    text = page.read_text()
    for name, part in parts.items():
        text, replaced = re.subn(
            rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", lambda m, part=part: m[1] + part + m[2], text, flags=re.DOTALL
        )
        if not replaced:
            raise ValueError(f"{page}: has no part <!-- {name} --> ... <!-- end -->.")
    write_atomically(page, text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int | None = None) -> str:
    """A Markdown table; columns from `numbers_from` on are aligned to the right."""
    left = len(head) if numbers_from is None else numbers_from
    lines = [head, ["---"] * left + ["---:"] * (len(head) - left), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
