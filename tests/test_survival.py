"""Runs that survive: killed at any moment, told to stop, without room or right to write, without their folder. What is there
at the end is the same bytes as of a run to which nothing happened."""

import errno
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from command_line import call, start
from constructors import DECODERS, MAP_DECODERS, shaken, with_maps
from small_runs import digits, files, results, tiny, trained

from mpdvae.errors import InputError, RunError
from mpdvae.evaluation.resumable_parts import ResumableParts
from mpdvae.evaluation.run_evaluation import evaluate
from mpdvae.evaluation.run_likelihood import Request, measure, partial_results, prepare
from mpdvae.measures.encoder_lag import EncoderLag
from mpdvae.measures.memory_budget import Budget, NoiseOfAll, drawn_in_pieces, in_pieces, shortage_told
from mpdvae.runs.model_folder import load
from mpdvae.runs.run_folder import Run
from mpdvae.seeding import seeded
from mpdvae.system.closed_folder import Inside
from mpdvae.system.folder_lock import owned
from mpdvae.system.signals import Stop, Stopped, heeded
from mpdvae.training import loop
from mpdvae.training.loop import train
from mpdvae.training.validation import Probe, validate
from mpdvae.workflows.job import complete

NINE = {"training__steps": 9}
CPU_WORDS = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1000000000000 bytes."
VECTORS = [
    pytest.param(lambda images=images: images.build(images.takes[0], 3), images.takes[0], (3,), id=name)
    for name, images in DECODERS.items()
]
"""Decoders of codes that are vectors, with a shape and the shape of codes."""
KILLED_OFTEN = Path(__file__).parent / "support" / "killed_often.py"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The results of a run of 9 steps to which nothing happens, in the folder `run` of where it is called."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        complete(Run.create(Path("run"), tiny(**NINE)), digits(), "mpdvae train")
        return results(Path("run"))


def write_experiment(folder: Path) -> Path:
    path = folder / "nine.json"
    path.write_text(tiny(**NINE).to_json())
    return path


def wait_for(condition, process) -> None:
    """Until it holds, while the process runs."""
    until = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def test_the_page_names_tests_that_exist():
    here = Path(__file__).parent
    named = re.findall(r"`(test_\w+)`", (here.parent / "docs" / "reliability.md").read_text())
    there = "".join(path.read_text() for path in here.rglob("test_*.py"))
    assert len(named) > 20
    assert [name for name in named if f"def {name}(" not in there] == []


# -- killed ------------------------------------------------------------------------------------------------------------


def killed_often(folder: Path, seed: int, kills: int, how: str, least: float, most: float) -> tuple[float, int]:
    """`mpdvae train` in `folder`, killed so often and called again, to its end; returns how many seconds the last process
    lived and how many were killed."""
    command = [sys.executable, str(KILLED_OFTEN), str(seed), str(kills), how, str(least), str(most), "--"]
    command += ["train", str(write_experiment(folder)), "--out", "run", "--threads", "1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    lived, killed = done.stdout.splitlines()[-1].removeprefix("lived ").split(" s, killed ")
    return float(lived), int(killed.split()[0])


@pytest.mark.slow
def test_killed_while_it_writes_a_run_ends_with_the_same_bytes(tmp_path, whole):
    assert killed_often(tmp_path, seed=0, kills=4, how="writes", least=1, most=30)[1] >= 2
    assert results(tmp_path / "run") == whole


@pytest.mark.slow
def test_killed_at_twenty_random_moments_runs_end_with_the_same_bytes(tmp_path, whole):
    """Moments are spread over all of a run, whose length this machine tells first."""
    (tmp_path / "timed").mkdir()
    (seconds, _), kills = killed_often(tmp_path / "timed", seed=0, kills=0, how="seconds", least=0, most=1), 0
    for seed in range(40):
        folder = tmp_path / str(seed)
        folder.mkdir()
        kills += killed_often(folder, seed, 5, "seconds", 0.0, seconds / 2)[1]
        assert results(folder / "run") == whole
        if kills >= 20:
            return
    raise AssertionError(f"only {kills} kills")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_while_they_write_runs_end_with_the_same_bytes(tmp_path, whole, seed):
    assert killed_often(tmp_path, seed, kills=8, how="writes", least=1, most=20)[1] >= 4
    assert results(tmp_path / "run") == whole


def matrix(folder: Path) -> subprocess.Popen[bytes]:
    """`mpdvae reproduce`, with its workers in a group of their own."""
    command = [
        sys.executable,
        "-m",
        "mpdvae.commands.cli",
        "reproduce",
        "--scale",
        "smoke",
        "--seeds",
        "1",
        "--jobs",
        "2",
    ]
    null = subprocess.DEVNULL
    return subprocess.Popen([*command, "--out", "out"], cwd=folder, stdout=null, stderr=null, start_new_session=True)


@pytest.mark.slow
def test_a_matrix_that_is_killed_ends_with_the_same_bytes(tmp_path):
    folders = [tmp_path / name for name in ("intact", "killed")]
    for folder in folders:
        folder.mkdir()
    assert matrix(folders[0]).wait(600) == 0
    for trained_runs in (1, 4):
        process = matrix(folders[1])
        wait_for(lambda n=trained_runs: len(list(folders[1].glob("out/runs/*/model"))) >= n, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert matrix(folders[1]).wait(600) == 0
    assert (folders[1] / "out" / "report.html").exists()
    intact, killed = ({path.name: results(path) for path in (folder / "out" / "runs").iterdir()} for folder in folders)
    assert killed == intact


def test_what_a_killed_writer_left_aside_is_removed_by_the_next_owner(own_copy):
    before = files(own_copy)
    asides = (".manifest.json.123", ".owner.json.77", "checkpoints/.step-00000009.json.77")
    for name in (*asides, "checkpoints/step-00000009.safetensors"):
        (own_copy / name).write_bytes(b"half")
    (own_copy / "progress.json").write_text("{}")
    (own_copy / ".owner.json.0123456789abcdef").write_bytes(b"of one who waits")
    Run(own_copy).tidy()
    assert files(own_copy) == before | {".owner.json.0123456789abcdef": b"of one who waits"}


def test_a_folder_whose_first_write_was_killed_is_taken(tmp_path):
    (tmp_path / ".experiment.json.123").write_text("{")
    assert Run.create(tmp_path, tiny()).status == "new"


# -- told to stop ------------------------------------------------------------------------------------------------------


def stopped_and_resumed(folder: Path, experiment, *steps: int) -> Run:
    """A run that is told to stop at each of `steps`, and goes on every time."""
    for at in steps:
        run, stop = Run.create(folder, experiment), Stop()
        with pytest.raises(Stopped, match="SIGTERM"):
            train(
                run, digits(), lambda done, entry, at=at, stop=stop: at == done and stop.note(signal.SIGTERM), stop=stop
            )
        found = run.load_checkpoint()
        assert found is not None
        assert found[1]["step"] == at
    return trained(folder, experiment)


@pytest.mark.parametrize("steps", [(1,), (3,), (5,), (9,), (1, 2, 4, 7, 8)], ids=str)
def test_told_to_stop_a_run_loses_no_step_and_ends_with_the_same_bytes(tmp_path, whole, steps):
    of_training = {
        name: content for name, content in whole.items() if name.startswith(("history", "model", "checkpoints"))
    }
    made = results(stopped_and_resumed(tmp_path / "run", tiny(**NINE), *steps).path)
    assert {name: content for name, content in made.items() if name != "experiment.json"} == of_training


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_process_that_is_told_to_stop_says_how_to_go_on(tmp_path, name):
    endless = tmp_path / "endless.json"
    endless.write_text(tiny(training__steps=10**6, training__evaluate_every=10**6).to_json())
    process = start("train", endless, "--out", tmp_path / "run", "--threads", "1")
    wait_for((tmp_path / "run" / "progress.json").exists, process)
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert f"mpdvae: {tmp_path / 'run'}: stopped by {name}; " in err
    assert f"`mpdvae resume {tmp_path / 'run'}` resumes the run." in err
    assert "Traceback" not in err
    assert [path.name.split("-")[0] for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["passing"] * 2
    assert not (tmp_path / "run" / "owner.json").exists()


@pytest.mark.parametrize("phase", ["density", "representation"])
@pytest.mark.slow
def test_told_to_stop_while_it_measures_a_run_ends_with_the_same_bytes(tmp_path, monkeypatch, whole, phase):
    monkeypatch.chdir(tmp_path)
    run = Run.create(Path("run"), tiny(**NINE))
    with pytest.raises(RunError, match=r"run: stopped by SIGTERM; .*`mpdvae resume run` resumes the run"):
        complete(run, digits(), "mpdvae train", say=lambda what: what == phase and signal.raise_signal(signal.SIGTERM))
    complete(run, digits(), "mpdvae resume")
    assert results(run.path) == whole


def test_handlers_of_before_are_back():
    heard: list[int] = []
    reached: list[None] = []
    former = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with heeded(), pytest.raises(Stopped, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
        with heeded() as stop, pytest.raises(Stopped, match="SIGTERM"), stop.deferred():
            reached.append(signal.raise_signal(signal.SIGTERM))
        assert (heard, len(reached)) == ([], 1)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert heard == [signal.SIGTERM]


# -- checkpoints that are damaged --------------------------------------------------------------------------------------


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("ending", ["safetensors", "json"])
def test_a_damaged_checkpoint_is_named_once_and_the_one_before_is_used(tmp_path, ending):
    experiment = tiny(**NINE)
    intact = results(trained(tmp_path / "intact", experiment).path)
    run, said = trained(tmp_path / "run", experiment), []
    damage(run.path / "checkpoints" / f"step-00000009.{ending}")
    train(run, digits(), say=said.append)
    (line,) = said
    assert "step-00000009" in line
    assert "this checkpoint is damaged; resuming from that of step 6" in line
    assert run.manifest["damaged_checkpoints"] == ["step-00000009"]
    assert results(run.path) == intact


# -- no room, no right, no folder --------------------------------------------------------------------------------------


def full_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """From then on the disk is full."""
    fsync, left = os.fsync, [writes]

    def refuse(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)


@pytest.mark.parametrize("writes", [0, 9, 40])
def test_a_full_disk_is_told_and_costs_nothing_that_was_written(tmp_path, monkeypatch, whole, writes):
    monkeypatch.chdir(tmp_path)
    run = Run.create(Path("run"), tiny(**NINE))
    with monkeypatch.context() as patch:
        full_after(patch, writes)
        with pytest.raises(
            RunError, match=r"no space left on device: free some disk space; .*`mpdvae resume run` resumes the run"
        ):
            complete(run, digits(), "mpdvae train")
    assert not [path for path in run.path.rglob(".*") if path.is_file()]
    complete(run, digits(), "mpdvae resume")
    assert results(run.path) == whole


@contextmanager
def small_disk(folder: Path, kilobytes: int):
    """A file system of that size on `folder`; skips the test where it may not be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs more rights than this process has")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full_indeed(tmp_path):
    with small_disk(tmp_path / "disk", kilobytes=400):
        run = Run.create(tmp_path / "disk" / "run", tiny(**NINE))
        with pytest.raises(RunError, match="no space left on device: free some disk space"):
            complete(run, digits(), "mpdvae train")
        assert not [path for path in run.path.rglob(".*") if path.is_file()]


def test_a_limit_on_the_size_of_files_is_told(tmp_path):
    run, (soft, hard) = Run.create(tmp_path / "run", tiny()), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(RunError, match="file too large: raise the limit on file size"):
            complete(run, digits(), "mpdvae train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [path for path in run.path.rglob(".*") if path.is_file()]
    assert run.load_checkpoint() is None


def test_a_folder_that_cannot_be_written_to_is_told_on_the_command_line(own_copy, capsys, monkeypatch):
    def refuse(*arguments: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(own_copy / "owner.json"))

    Run(own_copy).note(status="trained")
    monkeypatch.setattr("mpdvae.system.folder_lock._create", refuse)
    code, _, err = call(capsys, "resume", own_copy, "--threads", 1)
    assert code == 1
    assert "permission denied: make the folder writable, or choose another; everything written before is intact" in err


def test_a_folder_that_is_deleted_under_a_run_is_not_made_again(tmp_path):
    run = Run.create(tmp_path / "run", tiny(**NINE))
    with pytest.raises(RunError, match=r"run: the folder was deleted or moved while it was in use"):
        complete(
            run, digits(), "mpdvae train", watch=lambda done, entry: done == 4 and run.path.rename(tmp_path / "away")
        )
    assert not run.path.exists()
    (tmp_path / "away").rename(run.path)
    assert [entry["step"] for entry in trained(run.path, run.experiment).history] == [3, 6, 9]


@pytest.mark.parametrize("phase", ["density", "representation"])
def test_a_folder_that_is_deleted_under_a_measurement_is_not_made_again(tmp_path, phase):
    run = Run.create(tmp_path / "run", tiny())
    with pytest.raises(RunError, match=r"run: the folder was deleted or moved while it was in use"):
        complete(run, digits(), "mpdvae train", say=lambda what: what == phase and run.path.rename(tmp_path / "away"))
    assert not run.path.exists()


def test_a_folder_that_takes_the_place_of_a_deleted_one_is_left_alone(tmp_path):
    run = Run.create(tmp_path / "run", tiny(**NINE))

    def replace(done: int, entry: object) -> None:
        if done == 4:
            shutil.rmtree(run.path)
            Run.create(run.path, run.experiment)

    with pytest.raises(RunError, match=r"run: the folder was deleted or moved while it was in use"):
        complete(run, digits(), "mpdvae train", watch=replace)
    assert [path.name for path in run.path.iterdir()] == ["experiment.json"]


# -- several at once -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_a_second_process_on_a_folder_is_refused(own_copy, capsys, command):
    before = results(own_copy)
    Run(own_copy).note(status="trained")
    with owned(own_copy):
        code, _, err = call(capsys, command, own_copy, *(("--threads", 1) if command == "resume" else ()))
    assert code == 1
    assert f"mpdvae: {own_copy}: is in use by process {os.getpid()} on " in err
    assert "; wait for it, stop it, or choose another folder." in err
    assert results(own_copy) == before


def test_of_ten_that_start_at_one_moment_one_experiment_has_the_folder(tmp_path):
    """Five times; each of the ten wants another experiment, or half of them the same."""
    gate = threading.Barrier(10, timeout=60)

    def start(place: tuple[Path, int]) -> str:
        experiment = tiny(training__steps=place[1])
        gate.wait()
        try:
            run = Run.create(place[0], experiment)
        except InputError as error:
            return str(error)
        assert run.experiment == experiment
        return "has it"

    with ThreadPoolExecutor(10) as pool:
        for attempt, kinds in enumerate((10, 10, 10, 2, 2)):
            folder = tmp_path / str(attempt)
            answers = list(pool.map(start, [(folder, 3 * (1 + i % kinds)) for i in range(10)]))
            assert answers.count("has it") == 10 // kinds
            assert all(
                "already holds another run (it differs in training.steps)" in a for a in answers if a != "has it"
            )
            assert [path.name for path in folder.iterdir()] == ["experiment.json"]


@pytest.mark.slow
def test_of_ten_commands_that_start_at_one_moment_one_trains(tmp_path, whole):
    path = write_experiment(tmp_path)
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "mpdvae", "train", str(path), "--out", "run", "--threads", "1"],
            cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(10)
    ]  # fmt: skip
    ended = [(process.communicate(timeout=900)[1], process.returncode) for process in started]
    assert 0 in [code for _, code in ended]
    assert all("run: is in use by process" in said for said, code in ended if code)
    assert results(tmp_path / "run") == whole


# -- no memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(CPU_WORDS), MemoryError()], ids=repr
)
def test_without_memory_a_measurement_goes_on_in_smaller_pieces(tmp_path, monkeypatch, finished, error):
    """The decoder refuses more than 8 images at a time. Noise belongs to images: only rounding tells the difference."""
    decoder = type(load(finished).decoder)
    forward, refused = decoder.forward, []

    def refuse(self, z):
        if len(z.flatten(0, -2)) > 8:
            refused.append(len(z))
            raise error
        return forward(self, z)

    folder, said = Path(shutil.copytree(finished, tmp_path / "run")), []
    monkeypatch.setattr(decoder, "forward", refuse)
    run = Run(folder)
    measurement = prepare(run, digits(), "test", Request())
    with shortage_told(said.append):
        found = measure(load(folder), measurement, partial_results(run, measurement), lambda *_: None)
    monkeypatch.undo()
    assert refused
    assert said == ["out of memory: continuing with smaller chunks, as small as necessary"]
    intact = measure(load(folder), measurement, ResumableParts(Inside(tmp_path / "other"), {}), lambda *_: None)
    for name, value in intact.tensors().items():
        torch.testing.assert_close(found.tensors()[name], value, equal_nan=True, rtol=1e-4, atol=1e-4)


def small_memory(monkeypatch: pytest.MonkeyPatch, vae, images: int, codes: int) -> list[int]:
    """Lets encoders and decoders of the kinds of `vae` take so many images or codes at a time, and lists what they
    refused."""
    refused: list[int] = []

    def limit(kind: type, most: int, event_ndim: int) -> None:
        forward = kind.forward

        def refuse(self, x):
            rows = math.prod(x.shape[:-event_ndim])
            if rows > most:
                refused.append(rows)
                raise MemoryError
            return forward(self, x)

        monkeypatch.setattr(kind, "forward", refuse)

    limit(type(vae.encoder), images, 3)
    limit(type(vae.decoder), codes, 1)
    return refused


def numbers(content: object) -> list[float]:
    """All numbers of a JSON file, in order."""
    if isinstance(content, dict | list):
        return [
            number
            for value in (content.values() if isinstance(content, dict) else content)
            for number in numbers(value)
        ]
    return [] if content is None or isinstance(content, str) else [float(content)]  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_without_memory_an_evaluation_is_that_with_it(tmp_path, monkeypatch, finished):
    """Likelihoods, referee, diagnostics, code use, representation, pictures, map and walks."""
    folders = [Path(shutil.copytree(finished, tmp_path / name)) for name in ("short", "intact")]
    said: list[str] = []
    with monkeypatch.context() as patch:
        probed = patch_out_gradients(patch)
        refused = small_memory(patch, load(finished), images=9, codes=17)
        evaluate(Run(folders[0]), digits(), referee_images=2, referee_steps=3, say=said.append)
    assert len(refused) > 10
    assert probed
    assert sum("out of memory" in line for line in said) == 1
    with monkeypatch.context() as patch:
        patch_out_gradients(patch)
        evaluate(Run(folders[1]), digits(), referee_images=2, referee_steps=3)
    for path in sorted(folders[1].glob("*.json")):
        if path.name not in ("manifest.json", "experiment.json"):
            read = [json.loads((folder / path.name).read_text()) for folder in folders]
            for content in read:
                content.get("maps", {}).pop("tsne", None)  # which rounding can turn over
            short, intact = map(numbers, read)
            assert short == pytest.approx(intact, rel=1e-3, abs=0.011), path.name
    for path in sorted((folders[1] / "figures").iterdir()):
        assert path.read_bytes() == (folders[0] / "figures" / path.name).read_bytes(), path.name


def patch_out_gradients(patch: pytest.MonkeyPatch) -> list[int]:
    """Replaces what an evaluation finds by gradients of a batch, which need the whole of it; lists its calls."""
    calls: list[int] = []

    def probe(vae, objective, x, *_):
        calls.append(len(x))
        return Probe({"total": 0.0}, EncoderLag(0.0, 0.0, 0.0, 0, 0), 0.0)

    patch.setattr("mpdvae.evaluation.run_evaluation.probe", probe)
    return calls


@pytest.mark.parametrize("name", ["mae-digits-smoke", "vae-digits-smoke"])
def test_without_memory_a_validation_is_that_with_it(monkeypatch, name):
    vae, said = tiny(name).build((1, 8, 8)).eval(), []
    x = (torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.6).float()
    vae.initialise(x)
    intact = validate(vae, x, samples=2, seed=3)
    with monkeypatch.context() as patch, shortage_told(said.append):
        refused = small_memory(patch, vae, images=7, codes=11)
        short = validate(vae, x, samples=2, seed=3)
    assert refused
    assert len(said) == 1
    assert numbers(asdict(short)) == pytest.approx(numbers(asdict(intact)), rel=1e-5, abs=1e-5)


def test_where_nothing_fits_it_is_told():
    def never(budget: int) -> None:
        if budget < 2**20:
            raise InputError("memory_budget: too small.")
        raise MemoryError

    with pytest.raises(RunError, match="out of memory, even with the smallest chunks"):
        Budget().spend(never)


@pytest.mark.parametrize("call", [Budget().spend, lambda never: in_pieces(never, 100)], ids=["budget", "pieces"])
def test_where_there_is_no_memory_at_all_it_ends(call):
    def never(_: object) -> torch.Tensor:
        raise MemoryError

    with pytest.raises(RunError, match="out of memory, even with the smallest chunks"):
        call(never)


@pytest.mark.parametrize("shortage", [MemoryError(), RuntimeError(CPU_WORDS)], ids=["python", "torch"])
def test_a_step_without_memory_ends_in_a_sentence(tmp_path, monkeypatch, shortage):
    """And the run goes on from its checkpoint as if nothing had been."""
    runs = [Run.create(tmp_path / name, tiny(**NINE)) for name in ("short", "intact")]
    step, calls = loop.training_step, []

    def short(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise shortage
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "training_step", short)
        with pytest.raises(RunError, match=r"out of memory; close other programs and resume .*training.batch_size"):
            train(runs[0], digits())
    for run in runs:
        train(run, digits())
    assert results(runs[0].path) == results(runs[1].path)


@pytest.mark.parametrize("call", [Budget().spend, lambda broken: in_pieces(broken, 100)], ids=["budget", "pieces"])
def test_other_errors_are_no_lack_of_memory(call):
    def broken(_: object) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    with shortage_told(lambda line: pytest.fail(line)), pytest.raises(RuntimeError, match="shapes do not fit"):
        call(broken)


@pytest.mark.parametrize("rows", [0, 1, 7, 16])
@pytest.mark.parametrize("fits", [1, 3, 16])
def test_pieces_are_put_together_in_order(rows, fits):
    x = torch.arange(2 * rows).view(2, rows)

    def twice(of: slice) -> torch.Tensor:
        if x[:, of].shape[1] > fits:
            raise torch.OutOfMemoryError
        return 2 * x[:, of]

    assert torch.equal(in_pieces(twice, rows, axis=1), 2 * x)


@pytest.mark.parametrize(("build", "shape", "codes"), [*VECTORS, *with_maps(MAP_DECODERS)])
@pytest.mark.parametrize("fits", [1, 2, 4])
def test_pieces_of_what_is_drawn_are_those_of_the_whole(build, shape, codes, fits):
    torch.manual_seed(0)
    decoder, z = shaken(build().double()).eval(), torch.randn(5, *codes, dtype=torch.float64)

    def draw(of: slice) -> torch.Tensor:
        if len(z[of]) > fits:
            raise torch.OutOfMemoryError
        return decoder(z[of]).sample()

    state = torch.get_rng_state()
    with torch.no_grad(), seeded("drawn", 1):
        whole = decoder(z).sample()
    with torch.no_grad():
        assert torch.equal(drawn_in_pieces(draw, 5, "drawn", 1), whole)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_that_is_not_known_is_refused():
    with pytest.raises(NotImplementedError, match="cannot draw randperm in chunks"), NoiseOfAll(slice(0, 2), 5):
        torch.randperm(3)


# -- clocks ------------------------------------------------------------------------------------------------------------


def test_a_clock_that_goes_back_changes_nothing(tmp_path, monkeypatch, whole):
    monkeypatch.chdir(tmp_path)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600 * random.random())
    run = Run.create(Path("run"), tiny(**NINE))
    complete(run, digits(), "mpdvae train")
    assert results(run.path) == whole
    assert run.manifest["training_seconds"] >= 0
    assert run.manifest["evaluation_seconds"] >= 0
