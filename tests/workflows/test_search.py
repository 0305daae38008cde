"""A search: what may be varied, trials that are told, given up, failed or lost, and going on with it."""

import gc
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import call
from small_runs import results, tiny

from mpdvae.errors import InputError, RunError, ToldToStop
from mpdvae.experiments.experiment import from_json
from mpdvae.experiments.recipes import recipe
from mpdvae.runs.run_folder import Run
from mpdvae.system.folder_lock import owned
from mpdvae.training.fastest_step import Choice
from mpdvae.workflows import precision_choice, search_trial, worker_backends
from mpdvae.workflows.search import Outcome, search
from mpdvae.workflows.search_space import Choices, Range, space
from mpdvae.workflows.search_trial import FOLDER, Search, folder_of

pytest.importorskip("optuna", reason="pip install 'mpdvae[tune]' for these tests")

VARIED = ("training.learning_rate=1e-4:1e-2:log", "objective.diversity_weight=0,1")


def in_this_process(function, *arguments, workers, folder):
    """Instead of `backends.work`: one worker, with patches in force."""
    session = folder / ".session"
    session.mkdir(exist_ok=True)
    with owned(session):
        function(*arguments, session, 0)
    session.rmdir()
    return ""


@pytest.fixture(autouse=True)
def _no_processes(monkeypatch):
    monkeypatch.setattr(worker_backends, "work", in_this_process)


def of(out: Path, count: int, pruner: search_trial.Pruner = "none", varied=VARIED, storage: str = "") -> Search:
    experiment = tiny()
    return Search(experiment, space(experiment, varied), out, count, storage, pruner, None, "mpdvae tune")


def run(job: Search) -> list[Outcome]:
    return search(job, 1, "loky", None)


def test_every_trial_is_told_to_the_tracker(tmp_path):
    pytest.importorskip("tensorboard")
    run(replace(of(tmp_path, 2), track=("tensorboard",)))
    for trial in ("trial-0000", "trial-0001"):
        assert json.loads((tmp_path / trial / "trackers" / "tensorboard.json").read_text())["step"] == 6


def histories(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in out.glob("trial-*/history.jsonl")}


# -- what may be varied ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "field", "expected"),
    [
        ("training.learning-rate=1e-4:1e-2:log", "training.learning_rate", Range(1e-4, 1e-2, log=True, whole=False)),
        ("latent_dim=2:8", "latent_dim", Range(2.0, 8.0, log=False, whole=True)),
        ("training.clip_norm=1:5", "training.clip_norm", Range(1.0, 5.0, log=False, whole=False)),
        ("training.clip_norm=null,1,5", "training.clip_norm", Choices((None, 1, 5))),
        ("training.optimizer=adam,adamax", "training.optimizer", Choices(("adam", "adamax"))),
        ("training.compile=true,false", "training.compile", Choices((True, False))),
        ("objective.kl_weight.value=0.1:1", "objective.kl_weight.value", Range(0.1, 1.0, log=False, whole=False)),
    ],
)
def test_any_field_can_be_varied(text, field, expected):
    assert space(tiny(), [text]) == {field: expected}


def test_the_default_is_learning_rate_both_weights_and_beta():
    names = ["training.learning_rate", "objective.diversity_weight", "objective.smoothness_weight"]
    assert list(space(recipe("mae-digits-smoke"), ())) == [*names, "objective.kl_weight.value"]
    assert list(space(recipe("annealing-digits-smoke"), ())) == names


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "training.learning_rat=1e-4:1e-2",
            "unknown field 'training.learning_rat': did you mean 'training.learning_rate'",
        ),
        ("training.learning_rate", "--vary: expected FIELD=LOW:HIGH, FIELD=LOW:HIGH:log or FIELD=a,b,c, got"),
        ("training.learning_rate=1:0.1", "--vary: expected LOW < HIGH, above 0 with :log, got"),
        ("training.learning_rate=0:1:log", "--vary: expected LOW < HIGH, above 0 with :log, got"),
        ("training.learning_rate=a:b", "--vary: expected numbers as ends of the range, got"),
        ("latent_dim=1.5:3", "--vary: expected whole numbers as ends of the range, got"),
        ("training.optimizer=1:2", "--vary: training.optimizer is not a number; list its choices: FIELD=a,b,c."),
        ("training.optimizer=adam,sgd", "training.optimizer: expected 'adam' or 'adamax', got 'sgd'."),
        ("training.learning_rate=-1:1", "training.learning_rate: expected more than 0, got -1.0."),
    ],
)
def test_what_cannot_be_varied_is_told_in_a_sentence(tmp_path, capsys, text, sentence):
    arguments = ("tune", "mae-digits-smoke", "--trials", "2", "--out", tmp_path / "out", "--vary", text)
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"mpdvae: {sentence}")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_field_is_given_once():
    with pytest.raises(InputError, match="latent_dim is given twice"):
        space(tiny(), ["latent_dim=2:8", "latent_dim=2,3"])


# -- a search ----------------------------------------------------------------------------------------------------------


def test_a_search_goes_on_to_the_number_that_is_asked_for(tmp_path):
    """Two trials and two more are the same as four; the best one is a file that can be trained."""
    run(of(tmp_path / "parts", 2))
    before = histories(tmp_path / "parts")
    assert before.keys() == {"trial-0000", "trial-0001"}
    outcomes = run(of(tmp_path / "parts", 4))
    assert outcomes == [
        Outcome(o.number, tmp_path / "parts" / o.folder.name, *list(vars(o).values())[2:])
        for o in run(of(tmp_path / "whole", 4))
    ]
    after = histories(tmp_path / "parts")
    assert before.items() <= after.items()
    assert after == histories(tmp_path / "whole")
    best = {name: min(json.loads(line)["negative_elbo_nats"] for line in h.splitlines()) for name, h in after.items()}
    assert [o.negative_elbo_nats for o in outcomes] == sorted(best.values())
    assert best[outcomes[0].folder.name] == outcomes[0].negative_elbo_nats
    path = tmp_path / "parts" / "best.json"
    found, tried = from_json(path.read_bytes(), str(path)), Run(outcomes[0].folder).experiment
    assert found == tried.model_copy(update={"name": "mae-digits-smoke-tuned"})
    assert run(of(tmp_path / "parts", 4)) == outcomes
    assert histories(tmp_path / "parts") == after


def test_two_searches_of_one_name_are_told_apart_in_one_database(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    run(of(tmp_path / "here" / "tune", 1, storage=storage))
    message = (
        r"--storage: sqlite:.* has another search called 'tune' \(its vary differ\); choose an --out of another name"
    )
    with pytest.raises(InputError, match=message):
        run(of(tmp_path / "there" / "tune", 1, varied=VARIED[:1], storage=storage))
    assert len(run(of(tmp_path / "here" / "tune", 2, storage=storage))) == 2


def test_a_worker_that_is_told_to_stop_leaves_its_trial_to_be_taken_up(tmp_path, monkeypatch):
    def told(run, job, trial, ownership):
        raise ToldToStop("stopped by SIGTERM.")

    with monkeypatch.context() as patch:
        patch.setattr(search_trial, "_train", told)
        with pytest.raises(ToldToStop):
            run(of(tmp_path, 1))
    assert not (tmp_path / "trial-0000" / "failure.log").exists()
    (outcome,) = run(of(tmp_path, 1))
    assert (outcome.folder.name, outcome.state) == ("trial-0000", "complete")


def test_workers_that_cannot_begin_end_a_search_that_goes_on(tmp_path, monkeypatch):
    run(of(tmp_path, 1))
    monkeypatch.setattr(
        worker_backends, "work", lambda *arguments, **options: "ModuleNotFoundError: No module named 'optuna'"
    )
    with pytest.raises(RunError, match=r"the workers ended before they began a trial \(ModuleNotFoundError"):
        run(of(tmp_path, 2))


@pytest.mark.slow
def test_a_trial_that_was_killed_goes_on_in_its_folder(tmp_path, monkeypatch):
    expected = run(of(tmp_path / "whole", 2))
    train, killed = search_trial._train, []

    def kill(run, job, trial, ownership):
        if not killed:
            killed.append(trial.number)

            def confirm():
                if run.history:
                    raise KeyboardInterrupt  # after the first checkpoint, or its evaluation point

            monkeypatch.setattr(ownership, "confirm", confirm)
        train(run, job, trial, ownership)

    monkeypatch.setattr(search_trial, "_train", kill)
    with pytest.raises(KeyboardInterrupt):
        run(of(tmp_path / "parts", 2))
    assert [len(h.splitlines()) for h in histories(tmp_path / "parts").values()] == [1]
    outcomes = run(of(tmp_path / "parts", 2))
    assert histories(tmp_path / "parts") == histories(tmp_path / "whole")
    assert [o.negative_elbo_nats for o in outcomes] == [o.negative_elbo_nats for o in expected]
    for name in ("trial-0000", "trial-0001"):
        assert results(tmp_path / "parts" / name) == results(tmp_path / "whole" / name)


def test_a_trial_that_dies_twice_has_failed(tmp_path, monkeypatch, capsys):
    def die(run, job, trial, ownership):
        if trial.user_attrs["folder"] == "trial-0000":
            raise KeyboardInterrupt
        train(run, job, trial, ownership)

    train = search_trial._train
    monkeypatch.setattr(search_trial, "_train", die)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(of(tmp_path, 2))
    outcomes = run(of(tmp_path, 2))
    assert [(o.state, o.reason) for o in outcomes] == [("complete", ""), ("failed", "its process died")]
    out = capsys.readouterr().out
    assert "trial-0000: its process is gone; resuming it" in out
    assert "trial-0000: its process is gone; it counts as failed" in out


def test_trials_that_are_behind_are_given_up(tmp_path, monkeypatch):
    import optuna

    class AfterTheFirst(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number > 0

    monkeypatch.setattr(Search, "_pruner", lambda job: AfterTheFirst())
    outcomes = run(of(tmp_path, 3))
    assert [o.state for o in outcomes] == ["complete", "pruned", "pruned"]
    assert [len(h.splitlines()) for _, h in sorted(histories(tmp_path).items())] == [2, 1, 1]


@pytest.mark.parametrize(("pruner", "name"), [("median", "Median"), ("hyperband", "Hyperband"), ("none", "Nop")])
def test_pruners_by_name(tmp_path, pruner, name):
    assert type(of(tmp_path, 1, pruner)._pruner()).__name__ == f"{name}Pruner"


def test_failures_are_listed_and_a_search_without_any_result_says_so(tmp_path, monkeypatch):
    train = search_trial._train

    def fails(run, job, trial, ownership):
        if trial.number == 0 or only_failures:
            raise RunError("no longer a finite number")
        train(run, job, trial, ownership)

    monkeypatch.setattr(search_trial, "_train", fails)
    only_failures = False
    outcomes = run(of(tmp_path / "some", 2))
    assert [o.state for o in outcomes] == ["complete", "failed"]
    assert outcomes[1].reason == "RunError: no longer a finite number"
    assert "Traceback" in (outcomes[1].folder / "failure.log").read_text()
    only_failures = True
    with pytest.raises(RunError, match=r"no trial finished \(the last one: RunError: no longer a finite number\)"):
        run(of(tmp_path / "all", 2))


def test_a_folder_holds_one_search(tmp_path):
    run(of(tmp_path, 1))
    with pytest.raises(InputError, match=f"{tmp_path}: holds another search \\(its vary differ\\); choose another"):
        run(of(tmp_path, 1, varied=VARIED[:1]))


def test_a_database_holds_the_study(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    run(of(tmp_path / "out", 1, storage=storage))
    assert (tmp_path / "study.db").exists()
    assert not (tmp_path / "out" / "study.journal").exists()
    if Path("/proc/self/fd").is_dir():
        gc.collect()
        held = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if os.path.lexists(link)]
        assert str(tmp_path / "study.db") not in held
    with pytest.raises(InputError, match="--storage: 'nothing' cannot be opened"):
        run(of(tmp_path / "other", 1, storage="nothing"))


def test_the_table_and_the_missing_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mpdvae.commands.run.experiment_called", lambda name: tiny(name))
    vary = ("--vary", VARIED[0], "--vary", VARIED[1])
    arguments = ("tune", "mae-digits-smoke", "--trials", "2", "--jobs", "1", "--out", tmp_path / "out", *vary)
    code, out, err = call(capsys, *arguments)
    assert (code, err) == (0, "")
    head = next(line for line in out.splitlines() if line.startswith("trial "))
    assert head.split() == ["trial", "-ELBO,", "nats", "training.learning_rate", "objective.diversity_weight"]
    assert "2 trials: 2 complete." in out
    assert out.splitlines()[-1].startswith(f"best configuration: {tmp_path / 'out' / 'best.json'}; `mpdvae train ")
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert "pip install 'mpdvae[tune]'" in err


# -- a precision for all trials ----------------------------------------------------------------------------------------


def test_the_precision_is_chosen_once_for_the_search(tmp_path, capsys, monkeypatch):
    tried = []

    def choose(experiment, data, variants):
        tried.append([variant.name for variant in variants])
        return Choice("bfloat16", False, {"float32": 0.2, "bfloat16": 0.1})

    monkeypatch.setattr(precision_choice, "fastest", choose)
    (tmp_path / "experiment.json").write_text(tiny().to_json())
    out = tmp_path / "out"
    command = ("tune", tmp_path / "experiment.json", "--out", out, "--precision", "auto", "--jobs", "1")
    varied = ("--vary", "latent_dim=2:8", "--vary", "encoder.refinement_steps=0,1")
    for trials in ("1", "2"):
        assert call(capsys, *command, *varied, "--trials", trials)[0] == 0
    assert tried == [["float32", "bfloat16"]]  # refined posteriors cannot be compiled
    assert '"auto"' not in (out / "search.json").read_text() + (out / "best.json").read_text()
    for trial in ("trial-0000", "trial-0001"):
        assert Run(out / trial).experiment.training.precision == "bfloat16"
        assert Run(out / trial).manifest["fastest_step"]["step_seconds"] == {"float32": 0.2, "bfloat16": 0.1}


def test_auto_is_no_value_to_vary():
    with pytest.raises(InputError, match=r"--vary: training\.precision: expected float32 and bfloat16, got auto"):
        space(tiny(), ["training.precision=float32,auto"])


@pytest.mark.parametrize("name", ["../../elsewhere", "/tmp", "trial-0001/..", "", 3, "trial-0001\n"])
def test_a_study_cannot_name_a_folder_elsewhere(name):
    import optuna

    trial = optuna.trial.create_trial(value=0.0, user_attrs={FOLDER: name})
    with pytest.raises(InputError, match="the study names the folder"):
        folder_of(trial)
    assert folder_of(optuna.trial.create_trial(value=0.0, user_attrs={FOLDER: "trial-0012"})) == "trial-0012"
