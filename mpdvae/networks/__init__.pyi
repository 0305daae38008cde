from .blocks import DenseBlock, DownBlock, UpBlock, conv2d, linear
from .incremental import CausalLayer
from .made import MADE
from .made2d import MADE2d
from .masked import CausalConv2d, ConditionedCausalConv2d, MaskedLinear
from .pixelcnn import PixelCNN
from .pixelcnnpp import PixelCNNPP
from .weight_norm import initialising_by_data

__all__ = [
    "MADE",
    "CausalConv2d",
    "CausalLayer",
    "ConditionedCausalConv2d",
    "DenseBlock",
    "DownBlock",
    "MADE2d",
    "MaskedLinear",
    "PixelCNN",
    "PixelCNNPP",
    "UpBlock",
    "conv2d",
    "initialising_by_data",
    "linear",
]
