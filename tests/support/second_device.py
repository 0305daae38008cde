"""A second device for machines without a GPU: code that obeys the rules of GPUs runs on it, code that mixes devices fails.

Its tensors are in CPU memory, but torch treats them as tensors of another device, named "elsewhere", and rejects what it
rejects for a GPU: combining them with CPU tensors (except for scalars, indices and copies), drawing them from a CPU
generator, and passing them to numpy. Kernels and random numbers are those of the CPU, so results are equal byte for byte.

This runs `mpdvae train ...` on the device:

    python tests/support/second_device.py train mae-digits-smoke --out DIR --device elsewhere

With STAND_IN_WITHOUT_FLOAT64=1 in the environment it has no float64, like Apple's MPS.

A process can register only one such device, and cannot remove it, so tests start a separate process for it.
"""

import os
import sys
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_iter, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from mpdvae.networks.on_cpu import CPU_LIKE
from mpdvae.system.devices import WITHOUT_FLOAT64

NAME = "elsewhere"
LACKS_FLOAT64 = bool(os.environ.get("STAND_IN_WITHOUT_FLOAT64"))
ATEN = torch.ops.aten
COPIES = {ATEN._to_copy.default, ATEN.copy_.default}
INDEXED = {ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default, ATEN._index_put_impl_.default}
READ_BY_HOST = {ATEN._local_scalar_dense.default}


class _Backend:
    """The functions that torch calls in the module of a device."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """Does nothing: the random numbers are those of the CPU, which is seeded anyway."""


class There(Tensor):
    """A tensor of the second device, which wraps the CPU tensor that holds its data."""

    here: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def __new__(cls, here: Tensor) -> "There":
        if LACKS_FLOAT64 and here.dtype == torch.float64:
            raise TypeError(f"device {NAME!r} has no float64")
        form: dict[str, Any] = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        tensor = Tensor._make_wrapper_subclass(cls, here.size(), device=torch.device(NAME, 0), **form)
        tensor.here = here
        return tensor

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _perform(operation, args, kwargs or {})


def _perform(operation: Any, args: Any, kwargs: Any) -> Any:
    """Performs an operation on tensors of either device."""
    there = {id(t.here): t for t in tree_iter((args, kwargs)) if isinstance(t, There)}
    asked = kwargs.get("device")
    goes_there = torch.device(asked).type == NAME if asked is not None else bool(there)
    if operation not in COPIES:
        _refuse_mixture(operation, args, kwargs, goes_there or bool(there))
    if asked is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    args_here, kwargs_here = tree_map_only(There, lambda t: t.here, (args, kwargs))
    result = operation(*args_here, **kwargs_here)
    if operation is ATEN.copy_.default:
        return args[0]
    if not goes_there or operation in READ_BY_HOST:
        return result
    return tree_map_only(Tensor, lambda t: there.get(id(t)) if id(t) in there else There(t), result)


def _refuse_mixture(operation: Any, args: Any, kwargs: Any, involved: bool) -> None:
    if not involved:
        return
    parts = list(tree_iter((args, kwargs)))
    indices = [id(t) for t in args[1]] if operation in INDEXED else []
    near = [t for t in parts if isinstance(t, Tensor) and not isinstance(t, There) and t.ndim and id(t) not in indices]
    if near:
        raise RuntimeError(f"{operation}: a tensor of the CPU, {tuple(near[0].shape)}, among those of device {NAME!r}")
    if any(isinstance(part, torch.Generator) for part in parts):
        raise RuntimeError(f"{operation}: a generator of the CPU draws for device {NAME!r}")


_setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
CPU_LIKE.add(NAME)
if LACKS_FLOAT64:
    WITHOUT_FLOAT64.add(NAME)
_library = torch.library.Library("_", "IMPL")
_library.fallback(lambda operation, *args, **kwargs: _perform(operation, args, kwargs), "PrivateUse1")


if __name__ == "__main__":
    from mpdvae.commands.cli import main

    sys.exit(main(sys.argv[1:]))
