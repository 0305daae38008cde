"""What `--help` shows of the options: the common ones first, each default once, and sentences that break only where a line is
full.

An experiment has some 130 fields. `mpdvae train RECIPE --help` shows those that people change, `--help-all` every one; all of
them are accepted either way.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

from mpdvae.experiments.data_config import Data
from mpdvae.experiments.evaluation_config import Evaluation
from mpdvae.experiments.experiment import Experiment
from mpdvae.experiments.fields import Config
from mpdvae.experiments.objective_config import ObjectiveConfig
from mpdvae.experiments.training_config import Training

Returned = TypeVar("Returned")
ALL = "--help-all"
COMMON: Mapping[type[Config], tuple[str, ...]] = {
    Experiment: ("seed", "latent_dim", "data", "encoder", "decoder", "prior", "objective", "training", "evaluation"),
    Data: ("dataset", "path", "binarisation"),
    ObjectiveConfig: ("diversity_weight", "smoothness_weight", "kl_weight", "free_bits_nats"),
    Training: ("steps", "batch_size", "learning_rate", "precision"),
    Evaluation: ("density_images", "density_samples"),
}
"""The fields that people change, by group. Of a part, this is its kind."""
IN_PYTHON: Mapping[type[Config], tuple[str, ...]] = {ObjectiveConfig: ("further_regularisers",)}
"""Fields that no option sets: lists of parts."""


def is_common(group: type[Config], field: str) -> bool:
    """Returns whether the short help shows a field."""
    return field in COMMON.get(group, ("kind",))


def asked_for_all(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Returns the arguments with `--help` in place of `--help-all`, and whether that was there."""
    return ["--help" if word == ALL else word for word in arguments], ALL in arguments


def one_default_each(command: Callable[..., Returned]) -> Callable[..., Returned]:
    """Returns `command` without "(default: None)" in the help of options whose description states the default, and with
    descriptions that are one paragraph each."""
    described = _descriptions(inspect.getdoc(command) or "")

    @wraps(command)
    def called(*arguments: Any, **options: Any) -> Returned:
        return command(*arguments, **options)

    hints = get_type_hints(command, include_extras=True)
    hints = {name: _shown_as(hint, described.get(name, "")) for name, hint in hints.items()}
    signature = inspect.signature(command)
    parameters = [p.replace(annotation=hints.get(name, p.annotation)) for name, p in signature.parameters.items()]
    called.__annotations__ = hints
    del called.__wrapped__  # tyro would read the options of that one
    setattr(called, "__signature__", signature.replace(parameters=parameters))  # noqa: B010 - unknown to type checkers
    return called


def joined(text: str) -> str:
    """Returns a text whose paragraphs have no line breaks: those of a docstring depend on the width of the source."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def _shown_as(hint: Any, description: str) -> Any:
    """Returns the annotation of an argument with this description, as docstrings write it."""
    if "default:" in description.lower():
        hint = Annotated[hint, tyro.conf.arg(help_behavior_hint="", help=joined(description))]
    elif "\n" in description:
        hint = Annotated[hint, tyro.conf.arg(help=joined(description))]
    return hint


def _descriptions(doc: str) -> dict[str, str]:
    """Returns the descriptions of arguments by name, with their line breaks."""
    _, _, described = doc.partition("Args:\n")
    parts = re.split(r"^ {4}(\w+): ", described, flags=re.MULTILINE)
    return {name: text.rstrip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}
