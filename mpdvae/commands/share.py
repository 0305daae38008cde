"""Commands that export a model."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from mpdvae.system.untrusted_text import tell


def export(source: Positional[str], out: Path, part: Literal["encoder", "decoder"] = "encoder") -> None:
    """Export the encoder, or a decoder with independent pixels, as an ONNX file.

    Before the file is written, its outputs in onnxruntime are compared with those of the model.

    The graph of a conditional model has the inputs labels and covariates, too.

    Args:
        source: Folder of a run or of a model, name of a model that comes with the package (`mpdvae models`), or owner/name
            of a model on the Hugging Face Hub.
        out: Path of the ONNX file.
        part: encoder (mean, log_variance), or decoder (pixel probabilities).
    """
    from mpdvae import load
    from mpdvae.sharing.onnx_export import export as write
    from mpdvae.workflows.progress_display import busy

    vae = load(source)
    with busy(f"exporting the {part} of {source}"):
        write(vae, out, part)
    tell(str(out))
