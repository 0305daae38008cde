from .acceleration import compile_networks, run_in_bfloat16, uncompiled
from .decoders import (
    AutoregressiveDecoder,
    IndependentDecoder,
    colour_resnet_decoder,
    convnet_decoder,
    mlp_decoder,
    pixelcnn_decoder,
    pixelcnnpp_decoder,
    resnet_decoder,
)
from .encoders import (
    GaussianEncoder,
    colour_resnet_encoder,
    convnet_encoder,
    densenet_encoder,
    mlp_encoder,
    resnet_encoder,
)
from .flows import AutoregressiveFlow, map_flow, vector_flow
from .injective import injective_decoder, injective_pixelcnn_decoder
from .posterior_heads import BatchNormHead, DeltaHead, DUHead
from .priors import AR1Prior, FlowPrior, StandardNormal, VampPrior
from .semi_amortised import SemiAmortised

__all__ = [
    "AR1Prior",
    "AutoregressiveDecoder",
    "AutoregressiveFlow",
    "BatchNormHead",
    "DUHead",
    "DeltaHead",
    "FlowPrior",
    "GaussianEncoder",
    "IndependentDecoder",
    "SemiAmortised",
    "StandardNormal",
    "VampPrior",
    "colour_resnet_decoder",
    "colour_resnet_encoder",
    "compile_networks",
    "convnet_decoder",
    "convnet_encoder",
    "densenet_encoder",
    "injective_decoder",
    "injective_pixelcnn_decoder",
    "map_flow",
    "mlp_decoder",
    "mlp_encoder",
    "pixelcnn_decoder",
    "pixelcnnpp_decoder",
    "resnet_decoder",
    "resnet_encoder",
    "run_in_bfloat16",
    "uncompiled",
    "vector_flow",
]
