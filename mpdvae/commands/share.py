"""Commands that pass a model on."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional


def export(directory: Positional[str], out: Path, part: Literal["encoder", "decoder"] = "encoder") -> None:
    """Write the encoder, or a decoder with independent pixels, as an ONNX file.

    The file is checked with onnxruntime against the model before it is written.

    Args:
        directory: folder of a run or of a model, or owner/name of a model on the Hugging Face hub.
        out: the ONNX file.
        part: encoder (mean, log_variance), or decoder (pixel probabilities).
    """
    from mpdvae import load
    from mpdvae.sharing.onnx_export import export as write
    from mpdvae.workflows.progress_display import busy

    vae = load(directory)
    with busy(f"exporting the {part} of {directory}"):
        write(vae, out, part)
    print(out)
