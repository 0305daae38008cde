"""A script for the shell that completes commands and options on the tab key."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from mpdvae.experiment import Experiment

Shell = Literal["bash", "zsh", "fish"]
SHOWN = "mae-mnist-minutes"
"""Recipe whose fields are offered as options of `mpdvae train`; other kinds of parts have some of their own."""


def print_completion(shell: Shell, commands: Mapping[str, Callable[..., Any]]) -> None:
    """Prints the script for `commands`, by name."""
    tyro.extras.subcommand_cli_from_dict(
        {**commands, "train": _train_as_it_is_typed()},
        prog="mpdvae",
        args=["--tyro-print-completion", shell],
        config=(tyro.conf.AvoidSubcommands,),
    )


def _train_as_it_is_typed() -> Callable[..., None]:
    """The signature of `mpdvae train`, whose options depend on the recipe."""
    from mpdvae.recipes import recipe as recipe_named

    shown = recipe_named(SHOWN)

    def train(
        recipe: tyro.conf.Positional[str],
        out: Path,
        experiment: Annotated[Experiment, tyro.conf.arg(name="")] = shown,
        threads: int | None = None,
        data_dir: Path | None = None,
        device: str | None = None,
    ) -> None:
        """Train a recipe."""

    return train
