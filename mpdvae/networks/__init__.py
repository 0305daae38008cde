"""Networks that know no distributions: weight normalisation, causal convolutions, residual and dense blocks, PixelCNN, MADE.

For anyone who builds a decoder or a flow. A causal network evaluates whole images, or one position at a time inside
`networks.incremental`, with the same result; a new causal layer implements `CausalLayer`. Names of parameters are part of
the model folder's format.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
