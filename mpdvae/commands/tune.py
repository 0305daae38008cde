"""The command that searches for a better configuration."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional, UseAppendAction

from mpdvae.commands.options import Track
from mpdvae.errors import InputError
from mpdvae.runs.trackers import check_installed

if TYPE_CHECKING:
    from mpdvae.workflows.search import Outcome

SHOWN = 10
"""Trials in the table."""


def tune(
    recipe: Positional[str],
    out: Path,
    trials: int,
    vary: UseAppendAction[tuple[str, ...]] = (),
    storage: str = "",
    pruner: Literal["median", "hyperband", "none"] = "median",
    jobs: int | None = None,
    backend: Literal["loky", "ray", "dask"] = "loky",
    address: str | None = None,
    device: str | None = None,
    data_dir: Path | None = None,
    track: Track = (),
) -> None:
    """Search for the configuration with the least validation -ELBO.

    The same command goes on, up to `trials` in total; `mpdvae train OUT/best.json` takes the best.

    Args:
        recipe: name of a recipe, or an experiment.json.
        out: folder of the search: a run folder for each trial, best.json.
        trials: how many configurations are tried in total, those of earlier calls included.
        vary: FIELD=LOW:HIGH, FIELD=LOW:HIGH:log or FIELD=a,b,c, once for each field; default: learning rate, diversity and
            smoothness weight, beta.
        storage: database of the study, sqlite:///study.db for instance; default: a journal in the folder.
        pruner: gives a trial up at an evaluation point where it is behind.
        jobs: trials at a time; default: the number of cores, of GPUs with --device cuda, or of the cluster's workers.
        backend: loky: processes of this machine; ray, dask: a cluster whose machines share the folders.
        address: of the cluster's head; default: a cluster of this machine, for as long as it takes.
        device: cpu, cuda (trials divide all GPUs among them), cuda:1, ...; default: cpu. Results depend on it.
        data_dir: folder of the data; default: $MPDVAE_DATA, else the user's cache folder.
        track: tell every trial's history to a tracker too; can be given several times.
    """
    from mpdvae.commands.run import experiment_called
    from mpdvae.workflows.job import check_fit, load_data, this_command
    from mpdvae.workflows.search import BEST, search
    from mpdvae.workflows.search_space import space
    from mpdvae.workflows.search_trial import Search

    if trials < 1:
        raise InputError(f"--trials: expected a number >= 1, got {trials}.")
    check_installed(track)
    experiment = experiment_called(recipe)
    varied = space(experiment, vary)
    check_fit(experiment, load_data(experiment, data_dir))
    outcomes = search(
        Search(experiment, varied, out, trials, storage, pruner, data_dir, this_command(), track, device),
        jobs,
        backend,
        address,
    )
    _print_best(outcomes, list(varied), trials)
    print(f"best configuration: {out / BEST}; `mpdvae train {out / BEST} --out DIR` trains it.")


def _print_best(outcomes: "list[Outcome]", fields: list[str], trials: int) -> None:
    from rich.table import Table

    from mpdvae.workflows.progress_display import plain, stdout
    from mpdvae.workflows.search import value_in_words

    table = Table("trial", "-ELBO, nats", *fields, box=None, header_style="bold", pad_edge=False)
    for outcome in [outcome for outcome in outcomes if outcome.state == "complete"][:SHOWN]:
        values = (value_in_words(outcome.values[field]) for field in fields)
        table.add_row(*map(plain, (outcome.folder.name, f"{outcome.negative_elbo_nats:.2f}", *values)))
    stdout().print(table)
    count = Counter(outcome.state for outcome in outcomes)
    print(f"{trials} trials: " + ", ".join(f"{number} {state}" for state, number in count.items()) + ".")
