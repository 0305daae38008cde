"""Sums gradients over processes while the backward pass is still going on.

The gradients of a decoder are known before those of the encoder. They are sent in messages of about `MESSAGE_BYTES`, each as
soon as its gradients are complete, so that most of the communication takes place beside computation (Li et al. 2020,
PyTorch Distributed, https://arxiv.org/abs/2006.15704). The order of messages is that of the backward pass, which is the same
on all processes, as they compute the same function of different images.

Sums over the batch inside the objective (`mpdvae.system.batch_sharding`) are sent during the same pass, in the same order on
all processes.
"""

from typing import TYPE_CHECKING, NamedTuple

from mpdvae.system.process_group import loss_is_told, world

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.distributed import Work

MESSAGE_BYTES = 1 << 20
"""Size from which gradients are sent together: small models take a few messages, large ones many."""


def backward(loss: "Tensor", moving: "list[nn.Parameter]") -> None:
    """Sets the gradient of `loss`, which is the same on every process, in the parameters `moving`.

    Each process backpropagates an equal share of the loss through the images that it holds; the sum over processes is the
    gradient, the same bits on all of them. Raises `LostProcess` if another process has ended.
    """
    if world() == 1:
        loss.backward(inputs=moving)
        return
    sums = _GradientSums()
    hooks = [parameter.register_post_accumulate_grad_hook(sums.add) for parameter in moving]
    try:
        (loss / world()).backward(inputs=moving)
    finally:
        for hook in hooks:
            hook.remove()
    sums.finish()


class _Message(NamedTuple):
    gradients: "list[Tensor]"
    numbers: "Tensor"
    """Those of all gradients, one after the other; their sum over processes once `work` is done."""
    work: "Work"


class _GradientSums:
    """The gradients of one backward pass: complete ones wait for others, to be sent together."""

    def __init__(self) -> None:
        self._complete: list[Tensor] = []
        self._sent: list[_Message] = []

    def add(self, parameter: "Tensor") -> None:
        """Takes the gradient of a parameter, which is complete in this process."""
        assert parameter.grad is not None
        self._complete.append(parameter.grad)
        if sum(gradient.nbytes for gradient in self._complete) >= MESSAGE_BYTES:
            self._send()

    def finish(self) -> None:
        """Sends what is left, and replaces all gradients by their sums."""
        if self._complete:
            self._send()
        for message in self._sent:
            with loss_is_told():
                message.work.wait()
            sizes = [gradient.numel() for gradient in message.gradients]
            for gradient, part in zip(message.gradients, message.numbers.split(sizes), strict=True):
                gradient.copy_(part.view_as(gradient))

    def _send(self) -> None:
        import torch
        import torch.distributed as dist

        numbers = torch.cat([gradient.flatten() for gradient in self._complete])
        with loss_is_told():
            work = dist.all_reduce(numbers, async_op=True)
        assert work is not None
        self._sent.append(_Message(self._complete, numbers, work))
        self._complete = []
