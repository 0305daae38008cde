"""The logs of experiment trackers, each written by the tracker's own API, behind one interface.

    tensorboard     torch.utils.tensorboard                https://pytorch.org/docs/stable/tensorboard.html
    wandb           Weights & Biases                       https://docs.wandb.ai/ref/python
    trackio         the API of wandb                       https://huggingface.co/docs/trackio
    mlflow          MLflow                                 https://mlflow.org/docs/latest/python_api/mlflow.html

Packages are imported when a log is opened.
"""

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

Field = str | int | float | bool

PARAMETERS_AT_ONCE, LONGEST_PARAMETER = 100, 500
"""Limits of MLflow: number of parameters in one call, and characters of a value that every version takes."""


@runtime_checkable
class Log(Protocol):
    """What a tracker shows of one run."""

    @property
    def id(self) -> str | None:
        """Name of the log, if the tracker chose it itself."""

    def configure(self, fields: Mapping[str, Field]) -> None:
        """Logs the configuration of the run; called once."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Logs numbers at a step."""

    def log_pictures(self, pictures: Mapping[str, Any], step: int) -> None:
        """Logs figures, arrays [channel height width], where the tracker shows them."""

    def close(self) -> None:
        """Writes what is not written yet."""


class TensorBoardLog:
    """Event files in a folder.

    Arguments:
        folder: receives the files.
        after: last step that is known to be logged, so that later points of an earlier process are hidden; None: a new log.
    """

    id = None

    def __init__(self, folder: Path, after: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=None if after is None else after + 1)

    def configure(self, fields: Mapping[str, Field]) -> None:
        lines = [f"    {name}: {value}" for name, value in fields.items()]  # an indented block is shown as it is
        self.writer.add_text("experiment", "\n".join(lines), 0)
        self.writer.flush()

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def log_pictures(self, pictures: Mapping[str, Any], step: int) -> None:
        for name, picture in pictures.items():
            self.writer.add_image(name, picture, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WandbLog:
    """A run of Weights & Biases, or of trackio, which has the same API.

    Arguments:
        package: wandb or trackio.
        arguments: of its `init`.
    """

    id = None

    def __init__(self, package: str, **arguments: Any) -> None:
        self.package = import_module(package)
        self.run = self.package.init(resume="allow", **arguments)

    def configure(self, fields: Mapping[str, Field]) -> None:
        self.package.config.update(dict(fields), allow_val_change=True)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def log_pictures(self, pictures: Mapping[str, Any], step: int) -> None:
        """Does nothing: pictures would leave the machine."""

    def close(self) -> None:
        self.run.finish()


class MLflowLog:
    """A run of MLflow, in the experiment that the environment variable MLFLOW_EXPERIMENT_NAME names, or else `experiment`.

    Arguments:
        experiment: name of a group of runs, which is created if it does not exist.
        run_id: an earlier run to continue; None: a new one.
        run_name: its title.
    """

    def __init__(self, experiment: str, run_id: str | None, run_name: str) -> None:
        self.mlflow = import_module("mlflow")
        self.mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", experiment))
        self.run = self.mlflow.start_run(run_id=run_id, run_name=run_name)

    @property
    def id(self) -> str:
        return self.run.info.run_id

    def configure(self, fields: Mapping[str, Field]) -> None:
        texts = {name: str(value)[:LONGEST_PARAMETER] for name, value in fields.items()}
        names = list(texts)
        for first in range(0, len(names), PARAMETERS_AT_ONCE):
            self.mlflow.log_params({name: texts[name] for name in names[first : first + PARAMETERS_AT_ONCE]})

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.mlflow.log_metrics(dict(values), step=step)

    def log_pictures(self, pictures: Mapping[str, Any], step: int) -> None:
        """Does nothing: pictures would leave the machine."""

    def close(self) -> None:
        self.mlflow.end_run()
