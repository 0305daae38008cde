"""Trackers: what they are told, that a run goes on in the same log, and that none of them can change or stop a run."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from command_line import call
from hostile_text import HOSTILE
from small_runs import TINY_OPTIONS, digits, results, tiny

from mpdvae.experiments import recipes
from mpdvae.runs import trackers
from mpdvae.runs.run_folder import Run
from mpdvae.runs.trackers import numbers
from mpdvae.system.atomic_files import read_json
from mpdvae.workflows.job import complete

pytest.importorskip("tensorboard")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the trackers' own imports
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Stop(Exception):
    pass


def stop_at(step: int):
    def watch(done: int, entry: object) -> None:
        if done == step:
            raise Stop

    return watch


def without_trackers(folder: Path) -> dict[str, bytes]:
    """The bytes of a run, whatever its folder is called."""
    return {
        name: content.replace(str(folder).encode(), b"DIR")
        for name, content in results(folder).items()
        if not name.startswith("trackers/")
    }


def points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Scalars in the TensorBoard log of a run, by name: steps and values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(folder / "trackers" / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {name: [(point.step, point.value) for point in log.Scalars(name)] for name in log.Tags()["scalars"]}


class StandIn(ModuleType):
    """A package of a tracker: notes the calls, in the API of trackio, wandb and MLflow."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.util.spec_from_loader(name, loader=None)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.config = self
        self.info = type("Info", (), {"run_id": "its-own-id"})
        self.broken = False

    def init(self, **arguments: Any) -> "StandIn":
        return self._note("start", arguments)

    def start_run(self, **arguments: Any) -> "StandIn":
        return self._note("start", arguments)

    def set_experiment(self, name: str) -> None:
        assert name == "mpdvae"

    def update(self, values: dict[str, Any], **arguments: Any) -> None:
        self._note("configuration", values)

    def log_params(self, values: dict[str, str]) -> None:
        assert len(values) <= 100
        assert all(isinstance(value, str) and len(value) <= 500 for value in values.values())
        self._note("configuration", values)

    def log(self, values: dict[str, Any], step: int) -> None:
        if self.broken:
            raise ConnectionError("no network.\nat all")
        self._note(f"step {step}", values)

    log_metrics = log

    def finish(self) -> None:
        self._note("finish", {})

    end_run = finish

    def _note(self, what: str, values: dict[str, Any]) -> "StandIn":
        self.calls.append((what, values))
        return self


@pytest.fixture
def stand_in(monkeypatch):
    def install(name: str) -> StandIn:
        module = StandIn(name)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return install


def test_tensorboard_shows_the_history_and_the_results_once_however_often_a_run_is_interrupted(tmp_path, finished):
    run = Run.create(tmp_path / "run", tiny())
    with pytest.raises(Stop):
        complete(run, digits(), "mpdvae train", watch=stop_at(4), track=("tensorboard",))
    assert [step for step, _ in points(run.path)["negative_elbo_nats"]] == [3]
    complete(run, digits(), "mpdvae train")  # goes on with the tracker that it had
    found = points(run.path)
    for name in ("negative_elbo_nats", "terms_nats/kl", "gradient_norms/total", "information_per_dimension_nats/07"):
        assert [step for step, _ in found[name]] == [3, 6]
    for entry in run.history:
        assert dict(found["kl_nats"])[entry["step"]] == pytest.approx(entry["kl_nats"])
    ((step, nll),) = found["density/nll_nats/mean"]
    assert (step, nll) == (6, pytest.approx(read_json(run.path / "density.json")["nll_nats"]["mean"]))
    assert without_trackers(run.path) == without_trackers(finished)
    assert not any(name.startswith("trackers") for name in run.manifest["files"])

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(run.path / "trackers" / "tensorboard")).Reload()
    assert sorted(log.Tags()["images"]) == sorted(
        f"figures/{path.stem}" for path in (run.path / "figures").glob("*.png")
    )
    (text,) = log.Tensors("experiment/text_summary")
    assert "training.steps: 6" in text.tensor_proto.string_val[0].decode()


def test_points_written_after_the_last_note_are_not_there_twice(tmp_path):
    """Killed between telling a tracker and noting it."""
    run = Run.create(tmp_path / "run", tiny("vae-digits-smoke"))
    complete(run, digits(), "mpdvae train", track=("tensorboard",))
    noted = run.path / "trackers" / "tensorboard.json"
    noted.write_text(noted.read_text().replace('"step": 6', '"step": 3').replace('"results": true', '"results": false'))
    complete(run, digits(), "mpdvae train")
    found = points(run.path)
    assert [step for step, _ in found["kl_nats"]] == [3, 6]
    assert [step for step, _ in found["density/nll_nats/mean"]] == [6]


@pytest.mark.parametrize("name", ["wandb", "trackio", "mlflow"])
def test_other_trackers_are_told_the_same(tmp_path, stand_in, name):
    module = stand_in(name)
    run = Run.create(tmp_path / "run", tiny("vae-digits-smoke"))
    with pytest.raises(Stop):
        complete(run, digits(), "mpdvae train", watch=stop_at(4), track=(name,))
    complete(run, digits(), "mpdvae train", track=(name,))
    said = [what for what, _ in module.calls]
    configured = said.count("configuration")  # MLflow takes a hundred fields at a time
    assert configured == 1 or name == "mlflow"
    expected = ["start", *["configuration"] * configured, "step 3", "finish", "start", "step 6", "step 6", "finish"]
    assert said == expected
    first, second = (values for what, values in module.calls if what == "start")
    configuration = {k: v for what, values in module.calls if what == "configuration" for k, v in values.items()}
    assert str(configuration["training.steps"]) == "6"
    assert configuration["name"] == "vae-digits-smoke"
    points = [values for what, values in module.calls if what.startswith("step")]
    assert points[0]["kl_nats"] == run.history[0]["kl_nats"]
    assert "density/nll_nats/mean" in points[2]
    if name == "mlflow":
        assert (first["run_id"], second["run_id"]) == (None, "its-own-id")
    else:
        assert (first["project"], first["resume"]) == ("mpdvae", "allow")
        assert first == second


def test_of_several_processes_the_first_one_tells(tmp_path, stand_in, monkeypatch):
    module = stand_in("wandb")
    run = Run.create(tmp_path / "run", tiny())
    (run.path / "trackers").mkdir()
    (run.path / "trackers" / "wandb.json").write_text('{"step": 0, "id": "told-before"}')
    monkeypatch.setattr(trackers, "is_first", lambda: False)
    with trackers.tracking(run, ("wandb",), lambda what: None) as telling:
        telling.tell({"step": 3, "kl_nats": 1.0})
    assert module.calls == []


@pytest.mark.parametrize("broken", ["start", "log"])
def test_a_tracker_that_fails_is_told_of_and_stops_nothing(tmp_path, stand_in, monkeypatch, finished, broken):
    module = stand_in("wandb")
    module.broken = broken == "log"
    if broken == "start":
        monkeypatch.setattr(module, "init", lambda **arguments: module.log({}, 0), raising=False)
        module.broken = True
    run, said = Run.create(tmp_path / "run", tiny()), []
    complete(run, digits(), "mpdvae train", track=("wandb",), warn=said.append)
    assert said == ["tracker wandb failed and is no longer used (no network); the run continues."]
    assert without_trackers(run.path) == without_trackers(finished)


@pytest.mark.parametrize(
    "noted",
    [
        *({"step": 0, "id": text} for text in HOSTILE.values()),
        {"step": 0, "id": "../../elsewhere"},
        {"step": 0, "id": "x" * 65},
        {"step": 0, "id": "harmless\n"},
        {"step": 0, "id": 7},
        {"step": "0", "id": "harmless"},
        {"step": 0},
        [],
    ],
    ids=lambda noted: ascii(noted)[:40],
)
def test_a_note_that_we_did_not_write_reaches_no_tracker(tmp_path, stand_in, noted):
    module = stand_in("wandb")
    run, said = Run.create(tmp_path / "run", tiny()), []
    (run.path / "trackers").mkdir()
    (run.path / "trackers" / "wandb.json").write_text(json.dumps(noted))
    with trackers.tracking(run, ("wandb",), said.append) as telling:
        telling.tell({"step": 3, "kl_nats": 1.0})
    assert module.calls == []
    (line,) = said
    assert re.fullmatch(r"tracker wandb failed and is no longer used \(.*wandb\.json: .*\); the run continues\.", line)
    assert line.isprintable()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_names_in_a_history_stay_names(tmp_path, text):
    """TensorBoard, which writes files: they stay where they belong, and the number is found by its name."""
    run, said = Run.create(tmp_path / "run", tiny()), []
    with trackers.tracking(run, ("tensorboard",), said.append) as telling:
        telling.tell({"step": 3, "gradient_norms": {text: 1.0, "../../../elsewhere": 2.0}})
    assert said == []
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    assert points(run.path)[f"gradient_norms/{text}"] == [(3, 1.0)]


@pytest.mark.parametrize(
    ("name", "missing", "message"),
    [
        ("tensorboard", "tensorboard", "needs tensorboard; run `pip install 'mpdvae[track]'`."),
        ("wandb", "wandb", "needs wandb; run `pip install wandb`."),
    ],
)
def test_a_package_that_is_not_there_is_named_before_anything_is_made(
    capsys, tmp_path, monkeypatch, name, missing, message
):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        trackers, "find_spec", lambda package: None if package in {missing, "wandb"} else there(package)
    )
    arguments = ("train", "vae-digits-smoke", "--out", tmp_path / "run", *TINY_OPTIONS, "--track", name)
    code, _, err = call(capsys, *arguments)
    assert (code, err) == (2, f"mpdvae: --track {name}: {message} `mpdvae explain extras` says more.\n")
    assert not (tmp_path / "run").exists()


def test_tracking_is_an_option_that_can_be_given_twice(capsys, tmp_path, stand_in):
    module = stand_in("trackio")
    code, _, err = call(
        capsys, "train", "vae-digits-smoke", "--out", tmp_path / "run", *TINY_OPTIONS, "--threads", "1",
        "--track", "tensorboard", "--track", "trackio",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert len(points(tmp_path / "run")["kl_nats"]) == 2
    assert module.calls[-1][0] == "finish"
    assert call(capsys, "resume", tmp_path / "run", "--track", "abacus")[0] == 2


def test_every_run_of_a_matrix_is_told_in_the_process_that_trains_it(capsys, tmp_path, monkeypatch, finished):
    experiments = [tiny("vae-digits-smoke"), tiny()]
    monkeypatch.setattr(recipes, "matrix", lambda scale, datasets, models=(): experiments)
    out = tmp_path / "out"
    options = ("--scale", "smoke", "--seeds", "1", "--jobs", "2", "--out", out)
    assert call(capsys, "reproduce", *options, "--track", "tensorboard")[0] == 0
    for experiment in experiments:
        folder = out / "runs" / f"{experiment.name}-seed0"
        assert [step for step, _ in points(folder)["kl_nats"]] == [3, 6]
        assert [step for step, _ in points(folder)["density/nll_nats/mean"]] == [6]
    told = without_trackers(folder)
    assert told["history.jsonl"] == without_trackers(finished)["history.jsonl"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("reproduce", "--scale", "smoke", "--out"),
        ("tune", "vae-digits-smoke", "--trials", "1", "--out"),
        ("rerun", "runs/none", "--out"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_no_command_begins_runs_whose_tracker_is_not_there(capsys, tmp_path, monkeypatch, arguments):
    monkeypatch.setattr(trackers, "find_spec", lambda package: None)
    code, _, err = call(capsys, *arguments, tmp_path / "out", "--track", "wandb")
    assert code == 2
    assert err.startswith("mpdvae: --track wandb: needs wandb;")
    assert not (tmp_path / "out").exists()


def test_a_tracker_that_fails_in_a_worker_is_told_of(capsys, tmp_path, stand_in):
    from mpdvae.workflows.matrix import _run_one
    from mpdvae.workflows.matrix_jobs import jobs

    stand_in("wandb").broken = True
    (job,) = jobs([tiny("vae-digits-smoke")], 1, tmp_path, ("wandb",))
    Run.create(job.folder, job.experiment)
    assert _run_one(0, job, None) == (0, "")
    said = "tracker wandb failed and is no longer used (no network); the run continues."
    assert capsys.readouterr().err == f"{job.name}: {said}\n"


def test_numbers_have_flat_names_and_are_finite():
    tree = {"step": 3, "a_nats": 1, "b": {"c": True, "0.01": 2.5}, "d": [4, None], "word": "x", "e": float("nan")}
    assert numbers(tree) == {"a_nats": 1.0, "b/c": 1.0, "b/0.01": 2.5, "d/00": 4.0}
    assert numbers({"long": [0.0] * 65}) == {}
