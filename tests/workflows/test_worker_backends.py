"""The same matrix on every backend, with workers that are killed: the same bytes. Real clusters, of this machine."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster_matrix import small_jobs
from command_line import call
from small_runs import results

from mpdvae.errors import InputError, RunError
from mpdvae.runs.run_folder import Run
from mpdvae.system.folder_lock import FILE
from mpdvae.workflows import matrix as matrix_of_runs
from mpdvae.workflows import worker_backends
from mpdvae.workflows.worker_backends import backend, work

SCRIPT = Path(__file__).parents[1] / "support" / "cluster_matrix.py"
BACKENDS = [
    "loky",
    *(
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                importlib.util.find_spec(module) is None, reason=f"pip install 'mpdvae[{name}]' for this test"
            ),
        )
        for name, module in (("ray", "ray"), ("dask", "distributed"))
    ),
]


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """Files of the runs, done one after the other in this process."""
    out = tmp_path_factory.mktemp("expected")
    matrix = small_jobs(out)
    for index, job in enumerate(matrix):
        Run.create(job.folder, job.experiment)
        assert matrix_of_runs._run_one(index, job, None) == (index, "")
    return files_of(out)


def files_of(out: Path) -> dict[str, dict[str, bytes]]:
    """Files of all runs below `out`, free of its name, which commands in them have. Hidden ones are what a process that was
    killed was about to write."""
    return {
        job.name: {
            name: content.replace(str(out).encode(), b"")
            for name, content in results(job.folder).items()
            if not Path(name).name.startswith(".")
        }
        for job in small_jobs(out)
    }


def start(name: str, out: Path, workers: int, mark: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), name, str(out), str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"MPDVAE_TEST": mark, "PYTHONPATH": os.pathsep.join([str(SCRIPT.parent), *sys.path])},
    )


def running(mark: str) -> list[str]:
    """Processes that were started, at whatever remove, with this mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_text())
        except OSError:
            continue
    return found


def kill_a_worker(out: Path, matrix: subprocess.Popen[str]) -> int:
    """Kills the owner of the first run that has a checkpoint and is not finished."""
    until = time.monotonic() + 110
    while time.monotonic() < until and matrix.poll() is None:
        for path in out.glob(f"runs/*/{FILE}"):
            try:
                pid = json.loads(path.read_text())["pid"]
            except (OSError, ValueError):
                continue
            if list(path.parent.glob("checkpoints/*.json")):
                os.kill(pid, signal.SIGKILL)
                return pid
        time.sleep(0.02)
    raise AssertionError(f"no run began: {matrix.communicate()}")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("name", BACKENDS)
def test_a_worker_is_killed_and_the_matrix_ends_with_the_same_bytes(tmp_path, expected, name):
    mark = uuid.uuid4().hex
    matrix = start(name, tmp_path, 2, mark)
    pid = kill_a_worker(tmp_path, matrix)
    out, _ = matrix.communicate(timeout=300)
    assert matrix.returncode == 0, out
    assert files_of(tmp_path) == expected
    assert pid != matrix.pid
    assert not list(tmp_path.glob("runs/.session-*"))
    until = time.monotonic() + 20
    while running(mark) and time.monotonic() < until:
        time.sleep(0.1)
    assert running(mark) == []


@pytest.mark.slow
def test_two_calls_share_a_matrix(tmp_path, expected):
    mark = uuid.uuid4().hex
    both = [start("loky", tmp_path, 1, mark) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert files_of(tmp_path) == expected


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="pip install 'mpdvae[dask]' for this test")
def test_a_dask_worker_of_one_thread_works_itself_and_in_the_folder_of_the_call(tmp_path, monkeypatch):
    from distributed import LocalCluster

    def note(session: Path, number: int) -> None:  # inside, so that it is sent to workers as it is
        Path(f"worker-{number}").write_text(str(os.getpid()))

    (tmp_path / "folder").mkdir()
    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:  # pyright: ignore[reportArgumentType]
        monkeypatch.chdir(tmp_path / "folder")
        with backend("dask", 1, cluster.scheduler_address) as count:
            assert work(note, workers=count, folder=tmp_path) == ""
    assert int((tmp_path / "folder" / "worker-0").read_text()) != os.getpid()


def test_calls_in_one_process_take_turns(tmp_path, monkeypatch):
    """Threads of a worker, of which each would disturb the random numbers of the other."""
    monkeypatch.chdir(tmp_path)
    at_work: list[int] = []

    def do(number: int) -> None:
        at_work.append(number)
        time.sleep(0.05)
        assert at_work == [number]
        assert Path.cwd() == tmp_path
        at_work.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: worker_backends._in_turn(do, tmp_path, number), range(4)))


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--address", "far:6379"),
            "mpdvae: --address: expected none, because loky runs on this machine, got 'far:6379'; choose",
        ),
        (("--jobs", "0"), "mpdvae: --jobs: expected a number >= 1, got 0."),
    ],
)
def test_options_that_do_not_go_together(tmp_path, capsys, options, sentence):
    code, _, err = call(capsys, "reproduce", "--scale", "smoke", "--seeds", "1", "--out", tmp_path, *options)
    assert code == 2
    assert sentence in err


@pytest.mark.parametrize(("name", "module"), [("ray", "ray"), ("dask", "distributed")])
def test_a_missing_extra_is_named(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"pip install 'mpdvae\[{name}\]'"), backend(name, 1, None):
        pass


def test_work_that_breaks_is_told_and_leaves_no_session(tmp_path, monkeypatch):
    import joblib

    class Broken:
        def __init__(self, **options: object) -> None:
            pass

        def __call__(self, calls: list) -> list:
            assert len(calls) == 3
            assert len(list(tmp_path.glob(".session-*"))) == 1
            return [None, ConnectionError("the actor died\nat length"), None]

    monkeypatch.setattr(joblib, "Parallel", Broken)
    assert work(print, workers=3, folder=tmp_path) == "ConnectionError: the actor died"
    assert list(tmp_path.iterdir()) == []


# -- GPUs --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ray_gives_each_worker_a_gpu(tmp_path, monkeypatch):
    """Two GPUs that Ray is told of, which nothing computes on; three workers, of which two share one."""
    pytest.importorskip("ray", reason="pip install 'mpdvae[ray]' for this test")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)

    def note(session: Path, number: int) -> None:  # inside, so that it is sent to workers as it is
        (tmp_path / str(number)).write_text(os.environ["CUDA_VISIBLE_DEVICES"])

    with backend("ray", 3, None, by_gpu=True) as count:
        assert work(note, workers=count, folder=tmp_path) == ""
    seen = [(tmp_path / str(number)).read_text() for number in range(3)]
    assert sorted(seen) in (["0", "0", "1"], ["0", "1", "1"])


@pytest.mark.slow
def test_ray_without_gpus_says_so(monkeypatch):
    pytest.importorskip("ray", reason="pip install 'mpdvae[ray]' for this test")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(RunError, match="--device cuda: the Ray cluster has no GPUs"), backend("ray", 1, None, True):
        pass


@pytest.mark.parametrize(("by_gpu", "expected_count"), [(True, 3), (False, 5)])
def test_as_many_workers_as_gpus_or_cores(by_gpu, expected_count, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr("mpdvae.workflows.worker_backends.usable_cores", lambda: 5)
    with backend("loky", None, None, by_gpu) as count:
        assert count == expected_count
