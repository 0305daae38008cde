"""The matrix of runs: what is done is used again, what was interrupted goes on, and one failure stops nothing else."""

import json
import os
import shlex
import signal
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest
from command_line import call, start
from small_runs import files, finish, results, tiny

from mpdvae.commands import run as run_commands
from mpdvae.errors import InputError, RunError, ToldToStop
from mpdvae.experiments import recipes
from mpdvae.experiments.recipes import matrix
from mpdvae.runs.run_folder import Run
from mpdvae.system import folder_lock
from mpdvae.system.folder_lock import owned
from mpdvae.training.fastest_step import Choice
from mpdvae.workflows import matrix as room
from mpdvae.workflows import matrix_precision, precision_choice, worker_backends
from mpdvae.workflows.matrix import _share, run_all
from mpdvae.workflows.matrix_jobs import Job, jobs

MODELS = ("vae", "mae")


@pytest.fixture
def small_matrix(monkeypatch):
    """Two tiny models instead of the six of scale smoke."""
    experiments = [tiny(f"{model}-digits-smoke") for model in MODELS]
    monkeypatch.setattr(recipes, "matrix", lambda scale, datasets, models=(): experiments)
    return experiments


def in_this_process(pending, matrix, data_root, workers, watcher):
    """Instead of `_run_in_processes`: the same jobs, one after the other, with patches in force."""
    for index, job in enumerate(pending):
        room._run_one(index, job, data_root)
    return ""


# -- through the command line ------------------------------------------------------------------------------------------


def test_reproduce_ends_with_a_report_and_a_second_call_reuses_the_runs(tmp_path, capsys):
    """The real matrix of scale smoke, six models, in processes of their own."""
    arguments = ("reproduce", "--scale", "smoke", "--seeds", "1", "--out", tmp_path / "out")
    code, out, err = call(capsys, *arguments)
    assert (code, err) == (0, "")
    names = {f"{e.name}-seed0" for e in matrix("smoke", ("digits",))}
    assert {path.name for path in (tmp_path / "out" / "runs").iterdir()} == names
    assert all(Run(tmp_path / "out" / "runs" / name).status == "finished" for name in names)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"runs", "report.html", "report.md", "results.json"}
    assert out.splitlines()[-1] == f"report: {tmp_path / 'out' / 'report.html'}"
    assert json.loads((tmp_path / "out" / "results.json").read_text())

    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("*")}

    before, started = times(), time.monotonic()
    assert call(capsys, *arguments)[0] == 0
    assert time.monotonic() - started < 15
    assert times() == before


def test_each_run_has_a_command_that_makes_it_alone(tmp_path, small_matrix):
    job = jobs(small_matrix, 2, tmp_path / "a folder")[3]
    assert job.name == "mae-digits-smoke-seed1"
    assert job.experiment == tiny(seed=1)
    words = shlex.split(job.command)
    assert words == ["mpdvae", "train", "mae-digits-smoke", "--seed", "1", "--threads", "1", "--out", str(job.folder)]


def test_that_command_finds_the_run_and_leaves_it_alone(tmp_path, capsys, monkeypatch):
    job = jobs([recipes.recipe("mae-digits-smoke")], 2, tmp_path / "a folder")[1]
    found = []
    monkeypatch.setattr(run_commands, "_complete", lambda run, *rest: found.append((run.path, run.experiment)))
    Run.create(job.folder, job.experiment)
    assert call(capsys, *shlex.split(job.command)[1:])[0] == 0
    assert found == [(job.folder, job.experiment)]


def test_a_folder_of_another_experiment_stops_the_matrix_before_it_starts(tmp_path, capsys, small_matrix):
    other = tmp_path / "runs" / "mae-digits-smoke-seed0"
    Run.create(other, tiny(latent_dim=3))
    code, _, err = call(capsys, "reproduce", "--scale", "smoke", "--seeds", "1", "--out", tmp_path)
    assert code == 2
    assert "already holds another run (it differs in latent_dim); choose another --out" in err
    assert files(other).keys() == {"experiment.json"}
    assert not any(path.name in {"manifest.json", "checkpoints"} for path in tmp_path.rglob("*"))


def test_one_failure_is_listed_and_the_others_finish(tmp_path, capsys, small_matrix):
    vae, mae = jobs(small_matrix, 1, tmp_path)
    run = Run.create(vae.folder, vae.experiment)
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / "step-00000003.json").write_text("{}")
    code, _, err = call(capsys, "reproduce", "--scale", "smoke", "--seeds", "1", "--out", tmp_path)
    assert code == 1
    assert err.startswith(
        "mpdvae: 1 of 2 runs failed; run the same command again to retry them.\n  vae-digits-smoke-seed0: "
    )
    assert "every checkpoint is damaged" in err
    assert "Traceback" not in err
    assert "Traceback" in (vae.folder / "failure.log").read_text()
    assert "failed: mpdvae.errors.RunError: " in (tmp_path / "report.md").read_text()
    assert "<small>runs/vae-digits-smoke-seed0</small>: " in (tmp_path / "report.html").read_text()
    assert not (vae.folder / "progress.json").exists()
    assert mae.finished
    assert not vae.finished
    (run.path / "checkpoints" / "step-00000003.json").unlink()
    assert call(capsys, "reproduce", "--scale", "smoke", "--seeds", "1", "--out", tmp_path)[0] == 0
    assert vae.finished


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_the_same_command_goes_on(tmp_path, capsys):
    arguments = ("reproduce", "--scale", "smoke", "--seeds", "2", "--jobs", "1", "--out", tmp_path / "out")
    process = start(*arguments)
    until = time.monotonic() + 120
    while not list((tmp_path / "out").glob("runs/*/checkpoints/step-00000020.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everything in the group
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "mpdvae: interrupted; finished work is saved, run the same command again to resume." in err
    assert "Traceback" not in err


# -- inside ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_interrupted_matrix_goes_on_to_the_same_results(tmp_path, monkeypatch, small_matrix):
    monkeypatch.setattr(room, "_run_in_processes", in_this_process)
    whole = jobs(small_matrix, 1, tmp_path / "whole")
    run_all(whole, None)
    parts = jobs(small_matrix, 1, tmp_path / "parts")
    complete, calls = room.complete, []

    def interrupted(run, data, command, **options):
        calls.append(run.path.name)
        if len(calls) == 2:

            def stop(done, entry):
                if done == 4:
                    raise KeyboardInterrupt

            complete(run, data, command, watch=stop)
        complete(run, data, command)

    monkeypatch.setattr(room, "complete", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all(parts, None)
    assert [job.finished for job in parts] == [True, False]
    run_all(parts, None)
    for one, other in zip(whole, parts, strict=True):
        here = {n: c.replace(str(tmp_path / "parts").encode(), b"") for n, c in results(other.folder).items()}
        assert here == {n: c.replace(str(tmp_path / "whole").encode(), b"") for n, c in results(one.folder).items()}
    assert calls == ["vae-digits-smoke-seed0", "mae-digits-smoke-seed0", "mae-digits-smoke-seed0"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failure_is_tried_once_more_when_the_others_are_done(tmp_path, monkeypatch, small_matrix, failing):
    monkeypatch.setattr(room, "_run_in_processes", in_this_process)
    complete, calls = room.complete, []

    def fails(run, data, command, **options):
        calls.append(run.path.name)
        if run.path.name.startswith("vae") and calls.count(run.path.name) <= failing:
            raise ZeroDivisionError("by nought")
        complete(run, data, command, **options)

    monkeypatch.setattr(room, "complete", fails)
    vae, mae = jobs(small_matrix, 1, tmp_path)
    failures = run_all([vae, mae], None)
    assert calls == [vae.name, mae.name, vae.name]
    assert mae.finished
    log = vae.folder / "failure.log"
    assert log.exists() == bool(failures) == (failing == 2)
    if failures:
        assert failures == [room.Failure(vae, f"ZeroDivisionError: by nought (log: {log})")]
        assert f"process {os.getpid()} on " in log.read_text()
        with pytest.raises(RunError, match="1 of 2 runs failed; run the same command again to retry them"):
            room.refuse_failures(failures, 2)


def test_a_run_in_other_hands_is_waited_for_and_then_done(tmp_path, monkeypatch, small_matrix):
    monkeypatch.setattr(room, "_run_in_processes", in_this_process)
    vae, mae = jobs(small_matrix, 1, tmp_path)
    Run.create(vae.folder, vae.experiment)
    with ExitStack() as stack:
        stack.enter_context(owned(vae.folder))
        waited = []

        def look(seconds):
            waited.append((vae.finished, mae.finished))
            stack.close()

        monkeypatch.setattr(room.time, "sleep", look)
        assert run_all([vae, mae], None) == []
    assert waited == [(False, True)]
    assert vae.finished


def dead_owner(job, number):
    """What a worker leaves that is killed in the middle of `job`."""
    fields = asdict(folder_lock._this_process()) | {"started": "long ago", "token": f"token {number}"}
    (job.folder / folder_lock.FILE).write_text(json.dumps(fields))


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_worker_that_is_killed_is_told_and_the_rest_goes_on(tmp_path, monkeypatch, capsys, small_matrix, deaths):
    vae, mae = jobs(small_matrix, 1, tmp_path)
    asked = []

    def killed(pending, matrix, data_root, workers, watcher):
        asked.append(workers)
        if len(asked) <= deaths:
            dead_owner(vae, len(asked))
            return "TerminatedWorkerError: SIGKILL(-9)"
        return in_this_process(pending, matrix, data_root, workers, watcher)

    monkeypatch.setattr(room, "_run_in_processes", killed)
    failures = run_all([vae, mae], None, workers=2)
    assert asked == [2, 1, 1][: deaths + 1]
    out = capsys.readouterr().out
    assert (
        "a worker ended early (TerminatedWorkerError: SIGKILL(-9)), perhaps out of memory; continuing with 1 in" in out
    )
    assert [job.finished for job in (vae, mae)] == [deaths == 1, True]
    assert f"{vae.name}: process {os.getpid()} on {os.uname().nodename}, which was working on it, is gone" in out
    reason = "its worker was killed 2 times, perhaps out of memory; fewer --jobs need less memory"
    assert failures == ([] if deaths == 1 else [room.Failure(vae, reason)])


def test_workers_that_cannot_begin_end_the_matrix(tmp_path, monkeypatch, small_matrix):
    import joblib

    class Broken:
        def __init__(self, **options: object) -> None:
            pass

        def __call__(self, calls: object) -> list:
            raise ModuleNotFoundError("No module named 'mpdvae'")

    monkeypatch.setattr(joblib, "Parallel", Broken)
    with pytest.raises(
        RunError, match=r"the workers ended before they finished a run \(ModuleNotFoundError: No module"
    ):
        run_all(jobs(small_matrix, 1, tmp_path), None)


def test_a_worker_that_is_told_to_stop_has_not_failed(tmp_path, monkeypatch, small_matrix):
    def told(*_: object, **__: object) -> None:
        raise ToldToStop("stopped by SIGTERM.")

    (job, *_) = jobs(small_matrix, 1, tmp_path)
    Run.create(job.folder, job.experiment)
    with monkeypatch.context() as patch:
        patch.setattr(room, "complete", told)
        with pytest.raises(ToldToStop):
            room._run_one(0, job, None)
    assert not (job.folder / "failure.log").exists()
    assert room._run_one(0, job, None) == (0, "")
    assert job.finished


def test_a_worker_leaves_what_failed_in_this_round_and_stops_with_its_session(tmp_path, monkeypatch, small_matrix):
    of_two = jobs(small_matrix, 1, tmp_path)
    for job in of_two:
        Run.create(job.folder, job.experiment)
    done = []
    monkeypatch.setattr(room, "_run_one", lambda index, job, data_root: done.append(job.name))
    traces = [room._Trace.of(job) for job in of_two]
    room._work(of_two, traces, None, tmp_path, 0)
    assert done == []  # nobody owns the session
    (of_two[0].folder / "failure.log").write_text("failed, after the traces were taken")
    with owned(tmp_path):
        room._work(of_two, traces, None, tmp_path, 0)
    assert done == [of_two[1].name]


def test_seeds_vary_slowest(small_matrix, tmp_path):
    names = [job.name for job in jobs(small_matrix, 2, tmp_path)]
    assert names == [f"{model}-digits-smoke-seed{seed}" for seed in (0, 1) for model in MODELS]
    with pytest.raises(InputError, match="--seeds: expected a number >= 1, got 0"):
        jobs(small_matrix, 0, tmp_path)


def test_the_share_grows_from_nothing_to_all(tmp_path, small_matrix):
    """Of made-up folders: nothing, training, measuring, finished, for one job after the other."""
    of_two = jobs(small_matrix, 1, tmp_path)
    shares = [_share(of_two)]
    for job in of_two:
        run = Run.create(job.folder, job.experiment)
        for phase, step in (("training", 2), ("training", 5), ("training", 6), ("density", 6)):
            (run.path / "progress.json").write_text(json.dumps({"phase": phase, "step": step, "latest": None}))
            shares.append(_share(of_two))
        run.note(status="finished")
        shares.append(_share(of_two))
        (run.path / "progress.json").unlink()
        shares.append(_share(of_two))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, pytest.approx(1))
    assert shares[6] == pytest.approx(of_two[0].cost / (of_two[0].cost + of_two[1].cost))


def test_broken_progress_is_passed_over(tmp_path, small_matrix):
    job = jobs(small_matrix, 1, tmp_path)[0]
    Run.create(job.folder, job.experiment)
    (job.folder / "progress.json").write_text("{")
    assert _share([job]) == 0


def test_a_finished_matrix_starts_nothing(tmp_path, monkeypatch, small_matrix):
    job = Job(tiny(), tmp_path / "mae", "")
    finish(job.folder, job.experiment)
    monkeypatch.setattr(room, "_run_in_processes", lambda *arguments: pytest.fail("something was started"))
    run_all([job], None)


# -- a choice for all seeds --------------------------------------------------------------------------------------------


def test_seeds_share_a_measured_precision_and_folders_keep_theirs(tmp_path, monkeypatch, small_matrix):
    timed = []

    def choose(experiment, data, variants):
        timed.append(experiment.name)
        return Choice("bfloat16", False, {"float32": 0.2, "bfloat16": 0.1})

    def in_this_process(function, *arguments, workers, folder):
        with owned(folder / ".session"):
            function(*arguments, folder / ".session", 0)
        return ""

    monkeypatch.setattr(precision_choice, "fastest", choose)
    monkeypatch.setattr(worker_backends, "work", in_this_process)
    monkeypatch.setattr(room, "_rounds", lambda to_do, *rest: [])
    (tmp_path / "runs" / ".session").mkdir(parents=True)
    Run.create(tmp_path / "runs" / "mae-digits-smoke-seed0", tiny())
    undecided = jobs(small_matrix, 2, tmp_path, precision="auto")
    for _ in range(2):
        assert run_all(undecided, None, 1) == []
        assert timed == ["vae-digits-smoke", "mae-digits-smoke"]
    runs = {job.name: Run(job.folder) for job in undecided}
    precisions = {name: run.experiment.training.precision for name, run in runs.items()}
    assert precisions.pop("mae-digits-smoke-seed0") == "float32"
    assert set(precisions.values()) == {"bfloat16"}
    assert runs["vae-digits-smoke-seed1"].manifest["fastest_step"]["step_seconds"] == {"float32": 0.2, "bfloat16": 0.1}
    assert "fastest_step" not in runs["mae-digits-smoke-seed0"].manifest


def test_recipes_that_differ_in_the_weights_of_mae_alone_share_a_measurement(tmp_path):
    """What is timed has the most of MAE's terms."""
    experiments = matrix("minutes", ("mnist",))
    undecided = jobs(experiments, 2, tmp_path, precision="auto")
    steps = {job.experiment.model: matrix_precision.step_of(job) for job in undecided}
    shared = {"vlae", "mae", "mae-no-smoothness", "mae-no-diversity"}
    assert len({steps[model] for model in shared}) == 1
    assert len(set(steps.values())) == 3
    assert {e.model: matrix_precision.mae_terms(e) for e in experiments}["mae"] == 2


def test_a_given_precision_is_in_the_command_of_each_run(tmp_path, small_matrix):
    job = jobs(small_matrix, 1, tmp_path, precision="bfloat16")[0]
    assert job.experiment.training.precision == "bfloat16"
    assert job.command.endswith(" --training.precision bfloat16 --training.no-compile")
    assert "--training.precision" not in jobs(small_matrix, 1, tmp_path, precision="auto")[0].command
