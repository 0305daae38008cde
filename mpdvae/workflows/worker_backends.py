"""Where the jobs of a matrix or of a search are worked on: this machine and a Ray cluster, through joblib, or a Dask cluster.

    loky    processes of this machine               no address
    ray     a cluster that runs at `address`, or one of this machine that lasts as long as the work
    dask    the same; workers should have one thread each (`dask worker --nthreads 1`)

Machines of a cluster share the folder of the runs and that of the data, and have the same version of this package. Clusters
that are started here listen on this machine alone, have no dashboard and send no statistics.
"""

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

from mpdvae.errors import InputError, RunError
from mpdvae.system.folder_lock import left_by, owned
from mpdvae.system.process_group import usable_cores
from mpdvae.workflows import gpu_assignment

Backend = Literal["loky", "ray", "dask"]
OBJECT_STORE_BYTES = 100_000_000
"""Of a Ray cluster of this machine: jobs exchange files, not objects."""
START_SECONDS = 120
SESSION = ".session-"
"""Name of the folder of a call begins like this."""


def work(function: Callable[..., None], *arguments: Any, workers: int, folder: Path) -> str:
    """Calls `function(*arguments, session, number)` once in each of `workers` processes of the backend in force, which
    are numbered from 0, and waits for all.

    A worker is in the folder of this process, to which paths can be relative, and calls in one process take turns: models
    draw from torch's generator, which is the process's.

    `session` is a folder below `folder` which this process owns (`mpdvae.system.folder_lock`): workers on other machines do
    not hear when it is interrupted, and stop once `owner_of(session)` is None.

    Returns why a worker ended before `function` did (it was killed, for instance), in one line; "" where none did.
    """
    _remove_left(folder)
    made = TemporaryDirectory(prefix=SESSION, dir=folder, ignore_cleanup_errors=True)
    with made as name, owned(Path(name)):
        common = (function, Path.cwd(), *arguments, Path(name).absolute())
        try:
            results = _call.get()([(*common, number) for number in range(workers)])
        except Exception as error:  # each backend has errors of its own
            return _in_a_line(error)
    # Ray's pool hands over the error of a process that died as its result.
    broken = [result for result in results or () if isinstance(result, BaseException)]
    return _in_a_line(broken[0]) if broken else ""


_alone = threading.Lock()
"""Of a worker process."""


def _in_turn(function: Callable[..., None], folder: Path, *arguments: Any) -> None:
    with _alone:
        os.chdir(folder)  # a worker of a cluster, or one that served another call, may be elsewhere
        function(*arguments)


Calls = Sequence[tuple[Any, ...]]
"""Arguments of `_in_turn`, for each worker."""


def _by_joblib(calls: Calls) -> Any:
    """Their results, from the backend that joblib is configured for."""
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=_processes(len(calls)), batch_size=1, pre_dispatch="all")  # pyright: ignore[reportArgumentType]
    return parallel([delayed(_in_turn)(*call) for call in calls])


_call: ContextVar[Callable[[Calls], Any]] = ContextVar("call", default=_by_joblib)


def _processes(workers: int) -> int:
    """Asked for one process, joblib would call the function in this one, which must outlive its workers."""
    return max(2, workers)


def _remove_left(folder: Path) -> None:
    """Removes the folders of calls that were killed."""
    for session in folder.glob(f"{SESSION}*"):
        if left_by(session) is not None:
            shutil.rmtree(session, ignore_errors=True)


def check(name: Backend, workers: int | None, address: str | None) -> None:
    """Raises `InputError` where the number of workers is below 1, or an address was given to loky."""
    if workers is not None and workers < 1:
        raise InputError(f"--jobs: expected a number >= 1, got {workers}.")
    if name == "loky" and address is not None:
        raise InputError(
            f"--address: loky is processes of this machine, got {address!r}; choose --backend ray or dask."
        )


@contextmanager
def backend(name: Backend, workers: int | None, address: str | None, by_gpu: bool = False) -> Iterator[int]:
    """Inside, `work` uses this backend. Yields the number of workers: as asked for, or as many as there are cores, or, with
    `by_gpu`, GPUs.

    Raises:
        InputError: the number is below 1, an address was given to loky, or an extra is not installed.
        RunError: there is no cluster at the address.
    """
    check(name, workers, address)
    with _MADE[name](workers, address, by_gpu) as found:
        yield found


@contextmanager
def _loky(workers: int | None, address: str | None, by_gpu: bool) -> Iterator[int]:
    from joblib import parallel_config

    try:
        with parallel_config("loky", inner_max_num_threads=1):
            yield workers or _here(by_gpu)
    except KeyboardInterrupt:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=False, kill_workers=True)
        raise


@contextmanager
def _ray(workers: int | None, address: str | None, by_gpu: bool) -> Iterator[int]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # to come; saying so to each worker is not needed
    if address is None:
        os.environ.setdefault(
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"
        )  # everywhere, it stays on the loopback interface
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise _missing("ray") from None
    from joblib import parallel_config

    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    own: dict[str, Any] = {
        "address": "local",
        "num_cpus": _processes(workers or _here(by_gpu)),
        "num_gpus": gpu_assignment.here() if by_gpu else 0,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }
    where: dict[str, Any] = own if address is None else {"address": address}
    try:
        ray.init(**quiet, **where)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _unreachable("Ray", address, error) from None
    register_ray()
    try:
        found = int(ray.cluster_resources().get("GPU" if by_gpu else "CPU", 0))
        if by_gpu and not found:
            raise RunError(
                "--device cuda: the Ray cluster has no GPUs; start its machines with --num-gpus.", topic="device"
            )
        count = workers or found
        # Without a share of the GPUs, Ray would let workers crowd on one machine.
        needs = {"num_gpus": gpu_assignment.share(_processes(count), found)} if by_gpu else None
        with parallel_config("ray", ray_remote_args=needs):
            yield count
    finally:
        ray.shutdown()


@contextmanager
def _dask(workers: int | None, address: str | None, by_gpu: bool) -> Iterator[int]:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise _missing("dask") from None

    with ExitStack() as stack:
        try:
            if address is None:
                cluster = LocalCluster(
                    n_workers=workers or _here(by_gpu),
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address=None,  # pyright: ignore[reportArgumentType] - which starts none
                    memory_limit=None,
                    silence_logs=logging.CRITICAL,
                )
                client = stack.enter_context(Client(stack.enter_context(cluster)))
            else:
                client = stack.enter_context(Client(address, timeout=START_SECONDS))
                client.wait_for_workers(1, timeout=START_SECONDS)
        except (OSError, ValueError, TimeoutError) as error:
            raise _unreachable("Dask", address, error) from None

        def by_client(calls: Calls) -> Any:
            return client.gather([client.submit(_in_turn, *call, pure=False) for call in calls])

        former = _call.set(by_client)  # joblib would do the work of a cluster of one thread in this process
        try:
            yield workers or len(cast(dict[str, int], client.ncores()))
        finally:
            _call.reset(former)


_MADE: Mapping[str, Callable[[int | None, str | None, bool], AbstractContextManager[int]]] = {
    "loky": _loky,
    "ray": _ray,
    "dask": _dask,
}


def _here(by_gpu: bool) -> int:
    """Workers that this machine has GPUs, or cores, for."""
    return gpu_assignment.here() if by_gpu else usable_cores()


def _missing(extra: str) -> InputError:
    return InputError(
        f"--backend {extra}: needs what is not installed; `pip install 'mpdvae[{extra}]'` installs it.", topic="extras"
    )


def _unreachable(what: str, address: str | None, error: Exception) -> RunError:
    where = f"of this machine could not be started ({_in_a_line(error)})"
    if address is not None:
        where = f"at {address} does not answer ({_in_a_line(error)}); is --address that of its head?"
    return RunError(f"the {what} cluster {where}.", topic="workers")


def _in_a_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
