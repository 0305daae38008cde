"""`mpdvae completion`: a shell script that completes command lines on the tab key."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from mpdvae.commands import shells
from mpdvae.commands.explain import topics
from mpdvae.commands.offers import Offers, Value, offers
from mpdvae.commands.options import Track
from mpdvae.experiments.experiment import Experiment

Shell = Literal["bash", "zsh", "fish"]
SCRIPTS = {"bash": shells.bash, "zsh": shells.zsh, "fish": shells.fish}


def print_completion(shell: Shell, commands: Mapping[str, Callable[..., Any]]) -> None:
    """Prints the completion script for `commands`, given by name."""
    print(SCRIPTS[shell](offered_by(commands)), end="")


def offered_by(commands: Mapping[str, Callable[..., Any]]) -> dict[str, Offers]:
    """Returns the completions offered after each command."""
    known = _known()
    signatures = {**commands, "train": _train_as_it_is_typed}
    return {name: offers(signature, known) for name, signature in signatures.items()}


def _known() -> dict[str, Value]:
    """Returns values of parameters that accept any text, so that the command itself can suggest corrections."""
    from mpdvae.data import names
    from mpdvae.experiments.recipes import all_recipes
    from mpdvae.experiments.scales import SCALES
    from mpdvae.sharing.shipped import trained_models

    data_sets = Value(tuple(names()))
    studied = dict.fromkeys(study.dataset for scale in SCALES.values() for study in scale.studies)
    return {
        "recipe": Value(tuple(all_recipes()), files=True),
        "scale": Value(tuple(SCALES)),
        "split": Value(("train", "validation", "test")),
        "device": Value(("cpu", "cuda")),
        "topic": Value(tuple(topics())),
        "directory": Value(files=True),
        "one": Value(files=True),
        "other": Value(files=True),
        "source": Value(tuple(trained_models()), files=True),
        "name": data_sets,
        "datasets": Value(tuple(studied)),
        "dataset": data_sets,
        "data.dataset": data_sets,
    }


def _train_as_it_is_typed(
    recipe: Positional[str],
    out: Path,
    experiment: Experiment,
    threads: int | None = None,
    data_dir: Path | None = None,
    device: str | None = None,
    processes: int | None = None,
    track: Track = (),
) -> None:
    """Train a recipe, or an experiment.json, with any field changed."""
