"""Models that travel: `load` and `save_pretrained`, the models that come with the package, the hub, ONNX, and models of the
authors' released code.

For anyone who takes a model out of the package or brings one in. `VAE.save_pretrained` and `VAE.push_to_hub` call this
package by name (`VAE.sharing`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
