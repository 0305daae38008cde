"""Making the networks of a model faster without changing what they compute: `torch.compile`, and bfloat16 by autocast.

*Compiled*, a network makes fewer passes over memory between its convolutions. On a CPU torch's compiler writes C++ and needs
a C++ compiler; on a GPU it needs Triton. Where either is missing models run as they are: `compile_networks` tries it out on
a trifle first and says whether it worked. Compiled and uncompiled networks agree to rounding, not bit by bit. The first pass
takes up to a minute; torch keeps what it compiled on disk.

*In bfloat16*, convolutions and matrix products have 8 bits of precision; what a network gives is float32 again, and so are
likelihoods, divergences and sums over them.

Either changes the call of a network in place; weights, names and files stay the same. Evaluation position by position
(`mpdvae.networks.incremental`) is never compiled. Only speed on CPUs was measured (docs/performance.md).
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


def compile_networks(model: nn.Module) -> bool:
    """Compiles the networks of the encoders and decoders within `model`, in place.

    Returns:
        Whether it was possible. If not, a warning says why, and the model runs as it did.
    """
    device = next(model.parameters()).device
    try:
        torch.compile(_trifle)(torch.zeros(2, device=device))
    except Exception as error:  # the compiler's own errors have no common kind
        reason = str(error).strip().split("\n")[0]
        sentence = f"torch.compile does not work here ({reason}); the model runs uncompiled."
        warnings.warn(f"{sentence} {said_by('no-compiler')}", stacklevel=2)
        return False
    for network in _networks(model):
        network.compile()
    return True


def run_in_bfloat16(model: nn.Module) -> None:
    """Lets the networks of the encoders and decoders within `model` run under autocast to bfloat16, in place."""
    device = next(model.parameters()).device
    for network in _networks(model):
        network.forward = _in_bfloat16(network.forward, device.type)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Inside, compiled networks run as they were before: for what must see every operation."""
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
