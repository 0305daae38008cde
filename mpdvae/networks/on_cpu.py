"""Where this package's own implementations of torch's functions apply: those that take less time on a CPU, in training."""

import torch
from torch import Tensor

CPU_LIKE = {"cpu"}
"""Types of devices whose operations are a CPU's."""


def learning_on_cpu(x: Tensor) -> bool:
    """Returns whether torch records gradients, and `x` is on a CPU."""
    return x.device.type in CPU_LIKE and torch.is_grad_enabled()
