"""How Sphinx makes the site of docs/: `make docs`. Nothing is fetched, neither to build the site nor to read it."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from mpdvae.version import __version__

project = "mpdvae"
author = "The mpdvae authors"
release = version = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "docstrings",
    "formulas",
    "linked_pages",
    "reference",
    "signatures",
]
exclude_patterns = ["site"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
html_math_renderer = "mathml"

nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
# Notebooks draw images pixel by pixel, in operations so small that several threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autosummary_generate = False
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "mpdvae"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["last-updated"],
    "footer_end": [],
}
