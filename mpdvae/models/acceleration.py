"""Speeds up a model's networks without changing what they compute: `torch.compile`, and bfloat16 by autocast.

*Compiled*, a network makes fewer passes over memory between its convolutions. On a CPU torch's compiler generates C++ and
needs a C++ compiler; on a GPU it needs Triton. If either is missing, models run unchanged: `compile_networks` first
compiles a trivial function and reports whether it worked. Compiled and uncompiled networks agree up to rounding, not bit
for bit. The first pass takes up to a minute; torch caches compiled code on disk.

*In bfloat16*, convolutions and matrix products have 8 bits of precision; the output of a network is float32 again, and so
are likelihoods, divergences and sums over them.

Both change how a network is called, in place; weights, names and files stay the same. Evaluation position by position
(`mpdvae.networks.incremental`) is never compiled. Speed was measured only on CPUs (docs/performance.md).
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

import torch
from torch import Tensor, nn

from mpdvae.errors import said_by
from mpdvae.models.decoders import AutoregressiveDecoder, IndependentDecoder
from mpdvae.models.encoders import GaussianEncoder


def compile_networks(model: nn.Module, fixed_sizes: bool = False) -> bool:
    """Compiles the networks of the encoders and decoders within `model`, in place.

    Arguments:
        model: the model.
        fixed_sizes: whether to compile again for each batch size. Otherwise the second size gets code for all sizes,
            which is slower on a CPU.

    Returns:
        Whether it was possible. If not, a warning gives the reason, and the model runs uncompiled.
    """
    device = next(model.parameters()).device
    try:
        torch.compile(_trifle)(torch.zeros(2, device=device))
    except Exception as error:  # the compiler's own errors have no common base class
        reason = str(error).strip().split("\n")[0]
        sentence = f"torch.compile does not work here ({reason}); the model runs uncompiled."
        warnings.warn(f"{sentence} {said_by('no-compiler')}", stacklevel=2)
        return False
    for network in _networks(model):
        network.compile(dynamic=False if fixed_sizes else None)
    return True


def is_compiled(model: nn.Module) -> bool:
    """Returns whether `compile_networks` compiled `model`."""
    return any(network._compiled_call_impl is not None for network in _networks(model))


def run_in_bfloat16(model: nn.Module) -> None:
    """Makes the networks of the encoders and decoders within `model` run under autocast to bfloat16, in place."""
    device = next(model.parameters()).device
    for network in _networks(model):
        network.forward = _in_bfloat16(network.forward, device.type)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Context in which compiled networks run uncompiled, for code that must see every operation."""
    if "torch._dynamo" in sys.modules:  # without it nothing is compiled, and importing it takes seconds
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield


def _networks(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        if isinstance(module, GaussianEncoder | IndependentDecoder):
            yield module.body
        elif isinstance(module, AutoregressiveDecoder):
            yield module.network


def _in_bfloat16(forward: Callable[..., Tensor], device_type: str) -> Callable[..., Tensor]:
    @wraps(forward)
    def run(*arguments: Tensor) -> Tensor:
        with torch.autocast(device_type, torch.bfloat16):
            return forward(*arguments).float()

    return run


def _trifle(x: Tensor) -> Tensor:
    return x.exp() + 1
