"""`mpdvae explain`: explains error messages, from the troubleshooting page that ships with the package."""

import re
from importlib.resources import files
from typing import Annotated

import tyro

from mpdvae.errors import refuse_unknown


def topics() -> dict[str, str]:
    """Returns the sections of the troubleshooting page as Markdown, by topic."""
    page = files("mpdvae.commands").joinpath("troubleshooting.md").read_text()
    return dict(re.findall(r"^## ([\w-]+)\n+(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL))


def explain(topic: Annotated[str, tyro.conf.Positional] = "") -> None:
    """Explain an error message in more detail.

    Args:
        topic: Topic named in the message. Default: all topics.
    """
    from rich.markdown import Markdown

    from mpdvae.workflows.progress_display import print_sentence, stdout

    known = topics()
    if topic and topic not in known:
        refuse_unknown("topic", topic, list(known))
    chosen = [topic] if topic else list(known)
    stdout().print(Markdown("\n".join(f"## {name}\n\n{known[name]}" for name in chosen)))
    if not topic:
        print_sentence(f"Topics: {', '.join(known)}.")
