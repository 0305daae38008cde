"""The command `tune`, which searches for a better configuration."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional, UseAppendAction

from mpdvae.commands.options import Track
from mpdvae.errors import InputError
from mpdvae.experiments.experiment import with_changes
from mpdvae.runs.trackers import check_installed
from mpdvae.system.devices import AUTO, device_for
from mpdvae.system.untrusted_text import tell

if TYPE_CHECKING:
    from mpdvae.workflows.search import Outcome

SHOWN = 10
"""Maximum number of trials in the table."""


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
    device: str = AUTO,
    data_dir: Path | None = None,
    track: Track = (),
    precision: Literal["float32", "bfloat16", "auto"] | None = None,
) -> None:
    """Search for the configuration with the lowest validation -ELBO.

    Run the same command again to resume, up to --trials in total.

    `mpdvae train OUT/best.json` trains the best configuration.

    Args:
        recipe: Name of a recipe, or path of an experiment.json.
        out: Folder of the search: a run folder for each trial, and best.json.
        trials: Total number of configurations to try, including those of earlier calls.
        vary: FIELD=LOW:HIGH, FIELD=LOW:HIGH:log or FIELD=a,b,c, once for each field.
            Default: learning rate, diversity and smoothness weight, beta.
        storage: Database of the study, for instance sqlite:///study.db. Default: a journal in the folder.
        pruner: Stops a trial early at an evaluation point where it is behind the others.
        jobs: Number of parallel trials. Default: number of cores, of GPUs with --device cuda, or of the cluster's workers.
        backend: loky: processes on this machine; ray, dask: a cluster whose machines share the folders.
        address: Address of the cluster's head. Default: a temporary cluster on this machine.
        device: auto, cpu, cuda (trials are distributed over all GPUs), cuda:1, ... auto: GPUs if there are any.
            Results depend on the device.
        data_dir: Folder of the data. Default: $MPDVAE_DATA, else the user's cache folder.
        track: Experiment tracker that also receives the history of every trial; can be given several times.
        precision: float32, bfloat16 or auto. Default: as in the recipe.
            auto: times training steps once for the search, and chooses the fastest whose loss agrees; sets compile, too.
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
    if precision is not None:
        experiment = with_changes(experiment, training__precision=precision)
    varied = space(experiment, vary)
    check_fit(experiment, load_data(experiment, data_dir))
    outcomes = search(
        Search(experiment, varied, out, trials, storage, pruner, data_dir, this_command(), track, device_for(device)),
        jobs,
        backend,
        address,
    )
    _print_best(outcomes, list(varied), trials)
    tell(f"best configuration: {out / BEST}; `mpdvae train {out / BEST} --out DIR` trains it.")


def _print_best(outcomes: "list[Outcome]", fields: list[str], trials: int) -> None:
    from mpdvae.workflows.progress_display import plain, stdout, table_of
    from mpdvae.workflows.search import value_in_words

    table = table_of("trial", "-ELBO, nats", *fields)
    for outcome in [outcome for outcome in outcomes if outcome.state == "complete"][:SHOWN]:
        values = (value_in_words(outcome.values[field]) for field in fields)
        table.add_row(*map(plain, (outcome.folder.name, f"{outcome.negative_elbo_nats:z.2f}", *values)))
    stdout().print(table)
    count = Counter(outcome.state for outcome in outcomes)
    tell(f"{trials} trials: " + ", ".join(f"{number} {state}" for state, number in count.items()) + ".")
