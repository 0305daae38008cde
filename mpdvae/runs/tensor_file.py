"""Reads a safetensors file of a model in two steps: its header, which says what is in it, then the numbers.

    8 bytes: N, little-endian    N bytes: JSON {"name": {"dtype", "shape", "data_offsets"}, "__metadata__": ...}    numbers

The header is small, and from it follows what the file must hold: a file that claims more than the reader expects is refused
before memory is taken (https://huggingface.co/docs/safetensors).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpdvae.errors import InputError
from mpdvae.system.closed_folder import Inside
from mpdvae.system.regular_files import File, read_whole
from mpdvae.system.untrusted_files import LARGEST_JSON, in_short, parse_json

if TYPE_CHECKING:
    from torch import Tensor

METADATA = "__metadata__"
WIDEST = 8
"""Bytes of the widest number."""


def apart(tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Returns the tensors on the CPU, each with memory of its own: the format has no place for weights that parts of a model
    share, which are written once for each."""
    seen: set[int] = set()
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        here = tensor.detach().cpu().contiguous()
        at = here.untyped_storage().data_ptr()
        result[name] = here.clone() if at in seen else here
        seen.add(at)
    return result


@dataclass(frozen=True)
class Header:
    """What a file says about its content."""

    content: bytes
    """The header with its length, as it is in the file."""
    metadata: dict[str, str]
    shapes: dict[str, list[int]]


def read_header(file: File, path: Inside) -> Header:
    """Returns the header of an open safetensors file. Raises `InputError` if it is none."""
    length = file.read(8)
    size = int.from_bytes(length, "little")
    if len(length) < 8 or size > LARGEST_JSON:
        raise _unreadable(path, "it has no header")
    text = file.read(size)
    try:
        found = parse_json(text)
        metadata = found.pop(METADATA, None) or {}
        shapes = {name: _shape(about) for name, about in found.items()}
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("metadata that are not text")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _unreadable(path, error) from None
    return Header(length + text, metadata, shapes)


def read_tensors(file: File, header: Header, path: Inside) -> "dict[str, Tensor]":
    """Returns the tensors of a file whose header has been read and found as expected. Raises `InputError` if it holds other
    numbers than its header says."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    largest = WIDEST * sum(map(math.prod, header.shapes.values()))
    try:
        return load(header.content + read_whole(file, path, largest))
    except (SafetensorError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from None


def _shape(about: Any) -> list[int]:
    shape = about["shape"]
    if not isinstance(shape, list) or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"the shape {in_short(shape, 60)}")
    return shape


def _unreadable(path: Inside, reason: object) -> InputError:
    return InputError(f"{path}: not a readable safetensors file ({in_short(reason)}).", topic="damaged")
