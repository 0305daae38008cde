"""What a result depends on besides its configuration, data and weights: versions, machine, threads, precision.

The same configuration gives the same bytes in the same environment. In another environment, the last digits of float32 sums
change with the order of their terms, which libraries choose by their version, the processor's instructions and the number
of threads (https://pytorch.org/docs/stable/notes/randomness.html). The manifest therefore records each environment that was
used for a run, so that different environments can be distinguished:

    manifest["environments"] = [{"used_for": ["training", "evaluation"], "from_step": 0, "fields": {name: value}}, ...]
"""

import os
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mpdvae.version import __version__

Fields = dict[str, Any]
"""Names and plain values: text, numbers, booleans, None if unknown."""

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "joblib", "pillow", "safetensors")
VARIABLES = ("OMP_", "MKL_", "KMP_", "ONEDNN_", "DNNL_", "OPENBLAS_", "BLIS_", "CUBLAS_", "CUDNN_", "NVIDIA_TF32_")
"""Prefixes of environment variables that change how libraries compute."""
SET_BY_LIBRARIES = {"KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"}
"""Variables that libraries set when they are imported."""
HARMLESS = {"release", "cores"}
"""Fields that are recorded for human readers only: results do not depend on them."""
TRAINING, EVALUATION = "training", "evaluation"


def describe(device: Any = "cpu") -> Fields:
    """Returns the environment of this process, for computations on `device` (a torch device or its name)."""
    return _software() | _machine() | _computing() | _device(device) | _variables()


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Returns the names of fields that may affect results and that both environments record, with different values."""
    return [name for name in one if name in other and name not in HARMLESS and one[name] != other[name]]


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Returns whether both are known to be the same environment, so that the same computation gives the same bytes."""
    return one.keys() - HARMLESS == other.keys() - HARMLESS and not differing(one, other)


def noted(environments: Sequence[Mapping[str, Any]], fields: Fields, stage: str, step: int) -> list[dict[str, Any]]:
    """Returns the manifest's list `environments` after `fields` was used for `stage`, from `step` on. A new environment is
    appended."""
    kept = [{**entry} for entry in environments]
    for entry in kept:
        if entry["fields"] == fields:
            entry["used_for"] = list(dict.fromkeys([*entry["used_for"], stage]))
            return kept
    return [*kept, {"used_for": [stage], "from_step": step, "fields": fields}]


def recorded(manifest: Mapping[str, Any], stage: str) -> list[Fields]:
    """Returns the environments that `manifest` records for `stage`, in order; for a run of an earlier version, the few
    fields that it recorded."""
    entries = manifest.get("environments")
    if entries is None:
        known = ("version", "python", "torch", "platform", "processor", "cores")
        return [{name: manifest[name] for name in known if name in manifest}]
    return [dict(entry["fields"]) for entry in entries if stage in entry["used_for"]]


def most_threads() -> int:
    """Returns the largest number of threads that this machine is asked for: far more would end the process."""
    return max(256, os.cpu_count() or 1)


def threads_of(fields: Mapping[str, Any], name: str = "threads") -> int | None:
    """Returns the number of threads recorded for an environment; None if there is no such record, or this machine cannot
    have so many."""
    noted = fields.get(name)
    return noted if type(noted) is int and 1 <= noted <= most_threads() else None


@cache
def source_hash() -> str:
    """Returns the SHA-256 of this package's code, on which results depend, too."""
    package = Path(__file__).parents[1]
    return sha256(b"".join(path.read_bytes() for path in sorted(package.rglob("*.py")))).hexdigest()


def _software() -> Fields:
    versions = {name: _version(name) for name in PACKAGES}
    return {"version": __version__, "source": source_hash()[:16], "python": platform.python_version()} | versions


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _machine() -> Fields:
    return {
        "platform": platform.system(),
        "release": platform.release(),
        "processor": platform.machine(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
    }


def _cpu() -> str | None:
    """Returns the model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _computing() -> Fields:
    """Returns the settings by which torch and numpy compute."""
    import torch

    return {
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "libraries": _libraries(torch.__config__.show()),
        **_blas(),
        "onednn": torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        # torch can set this but not report it: half of the smallest normal number is 0 if subnormal numbers are flushed.
        "flush_denormal": torch.tensor(2.0**-1022, dtype=torch.float64).mul(0.5).item() == 0.0,
    }


def _libraries(configuration: str) -> str:
    """Returns the libraries that torch was built with, from `torch.__config__.show()`."""
    lines = [line.strip().removeprefix("- ") for line in configuration.splitlines()]
    wanted = ("Intel(R) oneAPI", "Intel(R) MKL-DNN", "OpenMP", "LAPACK", "CUDA Runtime", "CuDNN")
    return "; ".join(line for line in lines if line.startswith(wanted))


def _blas() -> Fields:
    """Returns the libraries with which numpy and SciPy multiply matrices, and their number of threads."""
    import numpy  # noqa: F401 - loads its library, which is inspected below
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_info

    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    names = {" ".join(str(blas.get(key)) for key in ("internal_api", "version", "architecture")) for blas in found}
    return {
        "blas": "; ".join(sorted(names)),
        "blas_threads": max((blas["num_threads"] for blas in found), default=None),
    }


def _device(device: Any) -> Fields:
    import torch

    used = torch.device(device)
    if used.type != "cuda":
        return {"device": used.type}
    return {
        "device": f"{used.type}: {torch.cuda.get_device_name(used)}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
    }


def _variables() -> Fields:
    """Returns the relevant environment variables, without numbers of threads: `threads` records their effect."""
    chosen = {name for name in os.environ if name.startswith(VARIABLES) and not name.endswith("_NUM_THREADS")}
    return {f"${name}": os.environ[name] for name in sorted(chosen - SET_BY_LIBRARIES)}
