"""Compiling the networks of a model with `torch.compile`: fewer passes over memory between convolutions.

On a CPU torch's compiler writes C++ and needs a C++ compiler; on a GPU it needs Triton. Where either is missing, or on a
system that it does not know, models run as they are: `compile_networks` tries it out on a trifle first and says whether it
worked. Compiled and uncompiled networks agree to rounding, not bit by bit. The first pass takes up to a minute; torch keeps
what it compiled on disk.

What is compiled is the call of a network. Weights, names and files stay the same, and evaluation position by position
(`mpdvae.networks.incremental`) runs uncompiled.
"""

import warnings
from collections.abc import Iterator

import torch
from torch import nn

from mpdvae.decoders import AutoregressiveDecoder, IndependentDecoder
from mpdvae.encoders import GaussianEncoder


def compile_networks(model: nn.Module) -> bool:
    """Compiles the networks of encoders and decoders within `model`, in place; their first calls take up to a minute.

    Returns:
        Whether it was possible. If not, a warning says why, and the model runs as it did.
    """
    device = next(model.parameters()).device
    try:
        torch.compile(_trifle)(torch.zeros(2, device=device))
    except Exception as error:  # the compiler's own errors have no common kind
        reason = str(error).strip().split("\n")[0]
        warnings.warn(f"torch.compile does not work here ({reason}); the model runs uncompiled.", stacklevel=2)
        return False
    for network in _networks(model):
        network.compile()
    return True


def _networks(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        if isinstance(module, GaussianEncoder | IndependentDecoder):
            yield module.body
        elif isinstance(module, AutoregressiveDecoder):
            yield module.network


def _trifle(x: torch.Tensor) -> torch.Tensor:
    return x.exp() + 1
