"""GPUs among the workers of a matrix or a search.

"cuda" means all GPUs that a worker sees: worker i takes number i modulo their count, so that workers share them evenly on one
machine. A cluster that shows each worker a GPU of its own (Ray does, dask-cuda does) comes to the same. Any other device,
"cuda:1" for instance, is that of every worker.
"""

from math import ceil

ALL = "cuda"


def are_shared(device: str | None) -> bool:
    """Whether workers divide the GPUs among them."""
    return device == ALL


def here() -> int:
    """GPUs that this process sees."""
    import torch

    return torch.cuda.device_count()


def of_worker(device: str | None, worker: int) -> str | None:
    """The device of worker number `worker`, from 0, where `device` was asked for."""
    count = here() if are_shared(device) else 0
    return f"cuda:{worker % count}" if count else device


def share(workers: int, gpus: int) -> float:
    """The part of a GPU for each of `workers`, 1 or 1/2 or 1/3 ..., so that all find room on `gpus` of them."""
    return 1 / ceil(workers / gpus) if workers > gpus else 1.0
