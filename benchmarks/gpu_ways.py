"""Ways to run the networks of a training step on a GPU: as they are, compiled, or as CUDA graphs.

CUDA graphs are made in two ways, of each network by `torch.cuda.make_graphed_callables`, and by torch's compiler in mode
"reduce-overhead".
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor, nn

from mpdvae.models.decoders import AutoregressiveDecoder, IndependentDecoder
from mpdvae.models.encoders import GaussianEncoder
from mpdvae.vae import VAE

WAYS = {
    (precision, way): f"{precision}, {way}"
    for way in ("uncompiled", "graphed callables", "compiled", "reduce-overhead")
    for precision in ("float32", "bfloat16")
}
"""Variants of the training step: precision of the networks, and how they are called."""


def speed_up(vae: VAE, way: str, x: Tensor) -> None:
    """Makes the networks of encoder and decoder run in the given way, in place; `x` is a batch like those of training."""
    if way == "compiled":
        for network in networks(vae):
            network.compile()
    elif way == "reduce-overhead":
        for network in networks(vae):
            network.compile(mode="reduce-overhead")
    elif way == "graphed callables":
        if x.device.type != "cuda":
            raise RuntimeError(f"CUDA graphs need a CUDA device, not {x.device.type!r}")
        for network, arguments in _arguments(vae, x):
            torch.cuda.make_graphed_callables(network, arguments, allow_unused_input=True)


def networks(vae: VAE) -> Iterator[nn.Module]:
    """Yields the networks that `mpdvae.models.acceleration` compiles."""
    for module in vae.modules():
        if isinstance(module, GaussianEncoder | IndependentDecoder):
            yield module.body
        elif isinstance(module, AutoregressiveDecoder):
            yield module.network


def _arguments(vae: VAE, x: Tensor) -> list[tuple[nn.Module, tuple[Tensor, ...]]]:
    """Returns the networks and tensors like those that they are given in training on `x`."""
    seen: list[tuple[nn.Module, tuple[Tensor, ...]]] = []

    def note(network: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen.append((network, tuple(a.detach().clone().requires_grad_(a.requires_grad) for a in arguments)))

    hooks = [network.register_forward_pre_hook(note) for network in networks(vae)]
    vae.elbo(x)
    for hook in hooks:
        hook.remove()
    return seen


@contextmanager
def networks_run(way: str, x: Tensor) -> Iterator[None]:
    """Makes the loop speed up the networks in the given way where it would compile them, if it does not know that way."""
    if way in ("uncompiled", "compiled"):
        yield
        return

    def instead(vae: VAE, fixed_sizes: bool = False) -> bool:
        if not fixed_sizes:  # those of validation
            speed_up(vae.train(), way, x)
        return True

    with patch("mpdvae.training.loop.compile_networks", instead):
        yield
