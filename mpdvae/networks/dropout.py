"""Dropout whose mask does not depend on how a batch is divided among processes.

Each process draws the mask of the whole batch and takes the part for its own images (`mpdvae.system.batch_sharding`). In a
single process this is torch's dropout (Srivastava et al., JMLR 2014).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from mpdvae.system.batch_sharding import is_divided, like_all, own


class Dropout(nn.Dropout):
    """Sets a share `p` of the values to zero in training, and multiplies the others by 1 / (1 - p)."""

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and is_divided()):
            return super().forward(x)
        return x * own(dropout(torch.ones_like(like_all(x)), self.p))
