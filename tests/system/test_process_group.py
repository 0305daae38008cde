"""One run on several processes: the same curve, whatever their number; a death that is told; going on with another number."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import call, start
from hypothesis import given
from hypothesis import strategies as st
from small_runs import TINY_OPTIONS, files, tiny

from mpdvae.commands.several import how_to_go_on, processes_asked_for
from mpdvae.errors import InputError
from mpdvae.runs.run_folder import Run
from mpdvae.system import process_group
from mpdvae.system.batch_sharding import check_batch, share_of

RECIPE = "mae-digits-smoke"
STARTERS = {
    "torchrun": ("-m", "torch.distributed.run", "--nproc-per-node", "3"),
    "accelerate launch": (
        *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "3", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no"),
    ),
}
"""How others start three processes. accelerate's way for GPUs is the one that starts several, CPUs or not."""
LAST_DIGITS = 1e-5


def done(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, output and errors of a process, when it has ended."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def losses(folder: Path) -> list[tuple[float, float]]:
    """Loss and validation at each evaluation point."""
    return [(entry["loss_nats"], entry["negative_elbo_nats"]) for entry in Run(folder).history]


def column(folder: Path, name: str) -> list[float]:
    """A column of density.csv."""
    with (folder / "density.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def assert_alike(folder: Path, expected: Path) -> None:
    for found, of_one in zip(losses(folder), losses(expected), strict=True):
        assert found == pytest.approx(of_one, rel=LAST_DIGITS)


@pytest.mark.slow
def test_two_processes_train_and_measure_like_one(tmp_path, finished):
    code, out, err = done(start("train", RECIPE, *TINY_OPTIONS, "--out", tmp_path / "two", "--processes", "2"))
    assert (code, err) == (0, "")
    assert out.count("run folder: ") == 1  # the other one is silent
    assert_alike(tmp_path / "two", finished)
    for name in ("log_prob_nats", "elbo_nats"):
        assert column(tmp_path / "two", name) == pytest.approx(column(finished, name), rel=LAST_DIGITS)
    assert files(tmp_path / "two").keys() == files(finished).keys()
    assert Run(tmp_path / "two").manifest["processes"] == 2


# Longer runs, one evaluation point for each step

EVERY_STEP = ("--training.evaluate-every", "1", "--training.validation-samples", "1", "--training.batch-size", "50")
"""With batches of 20 the steps of Adam, for which a gradient near zero is as good as any, make last digits grow: there even
two numbers of threads differ by 1e-5 after eight steps."""


@pytest.fixture(scope="module")
def by_one(tmp_path_factory) -> Path:
    """A run of 12 steps by one process."""
    folder = tmp_path_factory.mktemp("processes") / "one"
    assert done(start(*_train(folder)))[0] == 0
    return folder


def _train(folder: Path, *more: str) -> list[str | Path]:
    return ["train", RECIPE, *TINY_OPTIONS, *EVERY_STEP, "--training.steps", "12", *more, "--out", folder]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_the_curve_does_not_depend_on_the_number_of_processes(count, tmp_path, by_one):
    code, _, err = done(start(*_train(tmp_path / "run"), "--processes", str(count)))
    assert (code, err) == (0, "")
    assert len(losses(tmp_path / "run")) == 12
    assert_alike(tmp_path / "run", by_one)


@pytest.mark.slow
@pytest.mark.parametrize("starter", STARTERS)
def test_others_start_it(starter, tmp_path, by_one):
    pytest.importorskip(starter.split()[0].replace("torchrun", "torch"))
    ours = map(str, _train(tmp_path / "run", "--device", "cpu"))  # 50 images: 17, 17 and 16
    command = [sys.executable, *STARTERS[starter], "-m", "mpdvae", *ours]
    done_ = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done_.returncode == 0, done_.stderr
    assert_alike(tmp_path / "run", by_one)


@pytest.mark.slow
def test_likelihoods_are_the_same_bytes(tmp_path, by_one):
    """Three parts of at most 4 images, of which the first process measures the first and the last."""
    tables = []
    for count in (1, 2):
        folder = Path(shutil.copytree(by_one, tmp_path / str(count)))
        options = ("--images", "10", "--samples", "4096", "--processes", str(count))
        code, _, err = done(start("evaluate", folder, *options, OMP_NUM_THREADS="1"))
        assert (code, err) == (0, "")
        assert not (folder / "partial").exists()
        tables.append((folder / "density.csv").read_bytes())
    assert tables[0] == tables[1]
    assert tables[0].count(b"\n") == 11


def _members(launcher: int) -> list[int]:
    """Process ids of what the process `launcher` started."""
    return [int(pid) for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()]


def _wait_for_step(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    checkpoint = folder / "checkpoints" / f"step-{step:08d}.json"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes by /proc")
def test_a_killed_process_ends_the_run_which_goes_on_with_another_number(tmp_path, by_one):
    folder = tmp_path / "run"
    two = start(*_train(folder), "--processes", "2")
    _wait_for_step(folder, 3, two)
    victim = _members(two.pid)[1]
    os.kill(victim, signal.SIGKILL)
    code, _, err = done(two)
    go_on = f"`mpdvae resume {folder} --processes 2` resumes from the saved state"
    sentence = f"process 1 (pid {victim}) was ended by SIGKILL; {go_on}."
    assert (code, err) == (1, f"mpdvae: {sentence} `mpdvae explain workers` says more.\n")

    one = start("resume", folder)
    _wait_for_step(folder, 6, one)
    one.send_signal(signal.SIGINT)
    assert done(one)[0] == 1

    four = start("resume", folder, "--processes=4")
    _wait_for_step(folder, 9, four)
    four.send_signal(signal.SIGINT)
    code, _, err = done(four)
    go_on = f"`mpdvae resume {folder} --processes=4` resumes from the saved state"
    assert (code, err) == (1, f"mpdvae: interrupted; {go_on}.\n")

    code, _, err = done(start("resume", folder, "--processes", "4"))
    assert (code, err) == (0, "")
    assert_alike(folder, by_one)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes by /proc")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_processes_end_with_the_one_that_started_them(name, tmp_path):
    folder = tmp_path / "run"
    two = start(*_train(folder, "--training.steps", "1000"), "--processes", "2")
    _wait_for_step(folder, 2, two)
    members = _members(two.pid)
    two.send_signal(getattr(signal, name))
    code, _, err = done(two)
    assert (code, err.count("\n")) == (1, 1)
    assert f"`mpdvae resume {folder} --processes 2` resumes" in err
    assert len(members) == 2
    assert [pid for pid in members if Path(f"/proc/{pid}").exists()] == []


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not bind processes to cores")
def test_cores_are_those_that_the_process_may_use():
    bound = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    command = [sys.executable, "-c", f"{bound}; from mpdvae.system.process_group import cores; print(cores())"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1\n"


def test_what_is_wrong_is_told_once(tmp_path):
    code, _, err = done(start("train", RECIPE, *TINY_OPTIONS, "--seed", "-1", "--out", tmp_path, "--processes", "2"))
    assert code == 2
    assert err.startswith("mpdvae: --seed: ")
    assert err.count("\n") == 1


# Without starting any


@given(images=st.integers(1, 300), world=st.integers(2, 40))
def test_shares_are_a_partition_into_equal_parts(images, world):
    shares = [share_of(images, rank, world) for rank in range(world)]
    if images < world:
        assert shares == [None] * world
        return
    held = [range(share.start, share.stop) for share in shares if share]
    assert [i for part in held for i in part] == list(range(images))
    assert max(map(len, held)) - min(map(len, held)) <= 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "r", "--processes", "3"], 3),
        (["resume", "DIR", "--processes=3"], 3),
        (["evaluate", "DIR"], 1),
        (["evaluate", "DIR", "--processes"], 1),
        (["evaluate", "DIR", "--processes", "many"], 1),  # for the parser to refuse
        (["reproduce", "--processes", "3"], 1),
        ([], 1),
    ],
)
def test_how_many_processes_are_asked_for(arguments, expected):
    assert processes_asked_for(arguments) == expected


def test_the_command_that_goes_on():
    asked = ["train", "r", "--out", "r", "--processes", "2", "--seed", "3", "--device", "cpu"]
    assert how_to_go_on(asked) == "`mpdvae resume r --device cpu --processes 2` resumes from the saved state"
    assert how_to_go_on(["train", "r", "--out", "a b"]) == "`mpdvae resume 'a b'` resumes from the saved state"
    assert how_to_go_on(["evaluate", "d", "--processes=2"]).startswith("`mpdvae evaluate d --processes=2`")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--processes", "0"), "--processes: expected a number >= 1, got 0."),
        (("--processes", "-2"), "--processes: expected a number >= 1, got -2."),
        (("--processes", "many"), "processes"),
    ],
)
def test_numbers_of_processes_that_are_none(arguments, message, tmp_path, capsys):
    for command in (("train", RECIPE, "--out", tmp_path), ("resume", tmp_path)):
        code, _, err = call(capsys, *command, *arguments)
        assert code == 2
        assert message in err


def test_a_batch_that_is_too_small_to_be_divided():
    with process_group._at(process_group.Place(0, 4)):
        check_batch(4)
        with pytest.raises(InputError, match=r"training\.batch_size: a batch of 3 images cannot be .* 4 processes"):
            check_batch(3)


def test_commands_for_one_process_say_so(capsys):
    with process_group._at(process_group.Place(0, 2)):
        code, _, err = call(capsys, "recipes")
    assert (code, err) == (2, "mpdvae: recipes: expected a single process, got 2; start this command only once.\n")


@pytest.mark.parametrize(
    ("asked", "found"),
    [("cpu", "cpu"), (None, "cpu"), ("cuda", "need as many GPUs, found 0"), ("cuda:1", "a GPU each")],
)
def test_the_device_of_one_of_several(asked, found, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with process_group._at(process_group.Place(1, 2, 1, 2)):
        if found == "cpu":
            assert process_group.own_device(asked) == "cpu"
        else:
            with pytest.raises(InputError, match=found):
                process_group.own_device(asked)
    assert process_group.own_device(asked) == asked  # alone


def test_each_process_has_its_part_of_the_cores(monkeypatch):
    monkeypatch.setattr("mpdvae.system.process_group.usable_cores", lambda: 5)
    assert process_group.cores() == 5
    with process_group._at(process_group.Place(1, 4, 1, 2)):
        assert process_group.cores() == 2


def test_tiny_batches_are_whole():
    """Of the tests themselves: what is compared is a batch that 3 processes cannot divide equally."""
    assert tiny().training.batch_size % 3
