from .onnx_export import export
from .pretrained import load, push_to_hub, save_pretrained
from .released_import import from_official
from .shipped import trained_models

__all__ = [
    "export",
    "from_official",
    "load",
    "push_to_hub",
    "save_pretrained",
    "trained_models",
]
