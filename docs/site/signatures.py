"""Signatures that say nothing are left out: those of protocols, and of configurations, whose fields are listed below them."""

import inspect
from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx


def _shortened(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, None] | None:
    if inspect.isclass(obj) and (issubclass(obj, BaseModel) or getattr(obj, "_is_protocol", False)):
        return "", None
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", _shortened)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
