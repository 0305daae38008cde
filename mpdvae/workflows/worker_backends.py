"""Backends that run the workers of a matrix or a search: this machine and Ray clusters, through joblib, or Dask clusters.

    loky    processes of this machine; takes no address
    ray     a running cluster at `address`, or a temporary one on this machine
    dask    the same; workers should have one thread each (`dask worker --nthreads 1`)

The machines of a cluster share the folder of the runs and that of the data, and have the same version of this package.
Clusters that are started here listen on this machine only, have no dashboard and send no usage statistics.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

from mpdvae.errors import InputError, RunError
from mpdvae.system.closed_folder import Inside
from mpdvae.system.folder_lock import left_by, owned, remove_owner
from mpdvae.system.process_group import usable_cores
from mpdvae.workflows import gpu_assignment

Backend = Literal["loky", "ray", "dask"]
OBJECT_STORE_BYTES = 100_000_000
"""Size of the object store of a Ray cluster on this machine; small, since jobs exchange files, not objects."""
START_SECONDS = 120
"""Timeout for reaching a Dask cluster, and for its first worker."""
SESSION = ".session-"
"""Prefix of the name of a call's session folder."""


def work(function: Callable[..., None], *arguments: Any, workers: int, folder: Path) -> str:
    """Calls `function(*arguments, session, number)` once in each of `workers` processes of the current backend, with
    `number` counted from 0, and waits for all of them.

    Workers use the working directory of this process, so that paths can be relative. Calls in one process take turns, since
    models draw from torch's generator, which belongs to the process.

    `session` is a folder below `folder` that this process owns (`mpdvae.system.folder_lock`). Workers on other machines are
    not notified if this process is interrupted; they stop once `owner_of(session)` is None.

    Returns why a worker ended before `function` did (for instance, because it was killed), in one line; "" if none did.
    """
    _remove_left(folder)
    made = TemporaryDirectory(prefix=SESSION, dir=folder, ignore_cleanup_errors=True)
    with made as name, owned(Path(name)):
        common = (function, Path.cwd(), *arguments, Path(name).absolute())
        try:
            results = _call.get()([(*common, number) for number in range(workers)])
        except Exception as error:  # each backend has its own errors
            return _in_a_line(error)
    # Ray's pool returns the error of a process that died as its result.
    broken = [result for result in results or () if isinstance(result, BaseException)]
    return _in_a_line(broken[0]) if broken else ""


_alone = threading.Lock()
"""Lock of a worker process: one call runs at a time."""


def _in_turn(function: Callable[..., None], folder: Path, *arguments: Any) -> None:
    with _alone:
        os.chdir(folder)  # cluster workers, or workers that served another call, may have another one
        function(*arguments)


Calls = Sequence[tuple[Any, ...]]
"""Arguments of `_in_turn` for each worker."""


def _by_joblib(calls: Calls) -> Any:
    """Runs the calls on the backend that joblib is configured for, and returns their results."""
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=_processes(len(calls)), batch_size=1, pre_dispatch="all")  # pyright: ignore[reportArgumentType]
    return parallel([delayed(_in_turn)(*call) for call in calls])


_call: ContextVar[Callable[[Calls], Any]] = ContextVar("call", default=_by_joblib)


def _processes(workers: int) -> int:
    """Returns at least 2: with 1, joblib would call the function in this process, which must outlive its workers."""
    return max(2, workers)


def _remove_left(folder: Path) -> None:
    """Removes the session folders of calls that were killed."""
    for session in Inside(folder).folders():
        if session.name.startswith(SESSION) and left_by(session.path) is not None:
            remove_owner(session.path)
            session.rmdir()


def check(name: Backend, workers: int | None, address: str | None) -> None:
    """Raises `InputError` if the number of workers is below 1, or an address is given for loky."""
    if workers is not None and workers < 1:
        raise InputError(f"--jobs: expected a number >= 1, got {workers}.")
    if name == "loky" and address is not None:
        raise InputError(
            f"--address: expected none, because loky runs on this machine, got {address!r}; choose --backend ray or dask."
        )


@contextmanager
def backend(name: Backend, workers: int | None, address: str | None, by_gpu: bool = False) -> Iterator[int]:
    """Makes `work` use this backend within the context. Yields the number of workers: `workers` if given, otherwise the
    number of cores or, with `by_gpu`, of GPUs.

    Raises:
        InputError: if `workers` is below 1, an address is given for loky, or an extra is not installed.
        RunError: if there is no cluster at the address.
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
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # the future default; silences a notice in each worker
    if address is None:
        os.environ.setdefault(
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"
        )  # on every system, it stays on the loopback interface
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
        # Without a share of the GPUs, Ray might place all workers on one machine.
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
                    dashboard_address=None,  # pyright: ignore[reportArgumentType] - None: no dashboard
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

        former = _call.set(by_client)  # with a cluster of one thread, joblib would run the work in this process
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
    """Returns the number of workers for this machine: one per GPU, or one per core."""
    return gpu_assignment.here() if by_gpu else usable_cores()


def _missing(extra: str) -> InputError:
    return InputError(
        f"--backend {extra}: needs packages that are not installed; run `pip install 'mpdvae[{extra}]'`.",
        topic="extras",
    )


def _unreachable(what: str, address: str | None, error: Exception) -> RunError:
    where = f"on this machine could not be started ({_in_a_line(error)})"
    if address is not None:
        where = f"at {address} does not answer ({_in_a_line(error)}); check that --address is that of its head"
    return RunError(f"the {what} cluster {where}.", topic="workers")


def _in_a_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
