"""Assigns GPUs to the workers of a matrix or a search.

"cuda" stands for all GPUs that a worker sees: worker i uses GPU number i modulo their count, so that the workers of one
machine share its GPUs evenly. Clusters that show each worker a GPU of its own (as Ray and dask-cuda do) lead to the same
result. Any other device, such as "cuda:1", is used by every worker.
"""

from math import ceil

ALL = "cuda"


def are_shared(device: str | None) -> bool:
    """Returns whether the workers share the GPUs among them."""
    return device == ALL


def here() -> int:
    """Returns the number of GPUs that this process sees."""
    import torch

    return torch.cuda.device_count()


def of_worker(device: str | None, worker: int) -> str | None:
    """Returns the device of worker number `worker`, counted from 0, if `device` was requested."""
    count = here() if are_shared(device) else 0
    return f"cuda:{worker % count}" if count else device


def share(workers: int, gpus: int) -> float:
    """Returns the fraction of a GPU for each of `workers`, one of 1, 1/2, 1/3, ..., such that all fit on `gpus` GPUs."""
    return 1 / ceil(workers / gpus) if workers > gpus else 1.0
