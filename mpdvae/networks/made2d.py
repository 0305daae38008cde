"""MADE for maps: from [channel height width] to the same shape, each position depending on those before it in raster order.

    h = ReLU( maskA(y) )        h = ReLU( maskB(h) + h ), several times        out = maskB(h) + maskA(y)

The masks let through all channels of an earlier position, and none of the position itself: channels of one position are
conditionally independent. The last summand is a direct connection, as in MADE. For the opposite order, rotate the maps by
180 degrees before and after.

Network as in the released code of MAE (Ma, Zhou & Hovy, 2019).
"""

from jaxtyping import Float
from torch import Tensor, nn

from mpdvae.errors import InputError
from mpdvae.networks.masked import CausalConv2d


class MADE2d(nn.Module):
    """Causal residual network with a direct connection.

    Arguments:
        channels: of the maps, in and out.
        hidden_channels: of the hidden layers.
        hidden_layers: residual mask-B layers, >= 0.
        kernel_size: odd.
        init_scale: output standard deviation after data-dependent initialisation.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int = 128,
        hidden_layers: int = 2,
        kernel_size: int = 3,
        init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if min(channels, hidden_channels, hidden_layers + 1) < 1:
            raise InputError(
                "channels, hidden_channels: expected numbers >= 1, and hidden_layers >= 0, "
                f"got {channels}, {hidden_channels}, {hidden_layers}."
            )
        self.first = CausalConv2d(channels, hidden_channels, kernel_size, "A", init_scale)
        self.hidden = nn.ModuleList(
            CausalConv2d(hidden_channels, hidden_channels, kernel_size, "B", init_scale) for _ in range(hidden_layers)
        )
        self.last = CausalConv2d(hidden_channels, channels, kernel_size, "B", init_scale)
        self.direct = CausalConv2d(channels, channels, kernel_size, "A", init_scale)

    def forward(
        self, y: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "... batch channel rows columns"]:
        """Returns the outputs of all positions; in an incremental evaluation, of the current one, given the earlier `y`."""
        h = self.first(y).relu()
        for layer in self.hidden:
            h = (layer(h) + h).relu()
        return self.last(h) + self.direct(y)
