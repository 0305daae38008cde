"""Links to pages that are symbolic links: the page on troubleshooting belongs to the package, whose `explain` prints it.

Sphinx follows such a link to a file outside docs/, which is no page; the link of the text is led back to the page.
"""

from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx


def _led_back(app: Sphinx, tree: nodes.document) -> None:
    pages = {str(Path(app.env.doc2path(name)).resolve().with_suffix("")): name for name in app.env.found_docs}
    for link in tree.findall(pending_xref):
        link["reftarget"] = pages.get(link["reftarget"], link["reftarget"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-read", _led_back)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
