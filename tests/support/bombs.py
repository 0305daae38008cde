"""Small files that unpack to far more than memory holds, or nest deeper than a stack."""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from functools import cache

GIBIBYTE = 1 << 30


def png_header(width: int, height: int, pixels: bytes = b"") -> bytes:
    """Returns a grey PNG that claims this size, with `pixels` as its packed content."""
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    chunks = (header, b"IDAT" + pixels, b"IEND")
    packed = (len(c[4:]).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@cache
def png_of(side: int) -> bytes:
    """Returns a black PNG."""
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side))
    return png_header(side, side, rows + packer.flush())


def npy_header(shape: str, dtype: str = "|u1") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


@cache
def npz_of(size: int, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Returns an archive with `size` black pixels, in images of 1024 x 1024."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method, compresslevel=1) as archive, archive.open("x.npy", "w") as member:
        member.write(npy_header(f"({size >> 20}, 1024, 1024)"))
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))
    return packed.getvalue()


@cache
def gz_of(size: int, start: bytes = b"") -> bytes:
    """Returns `start` and zeros up to `size`, gzipped."""
    piece = gzip.compress(bytes(1 << 20), 1)
    return gzip.compress(start) + piece * (size >> 20)


def zip_of(name: str, content: bytes, method: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def damaged_lzma(name: str, content: bytes) -> bytes:
    """Returns an archive whose member is packed by lzma, with damage inside."""
    data = bytearray(zip_of(name, content, zipfile.ZIP_LZMA))
    at = data.index(name.encode()) + len(name) + 9
    data[at : at + 12] = b"\xff" * 12
    return bytes(data)


def nested_tar(kind: bytes, depth: int = 3_000) -> bytes:
    """Returns an archive of headers that each announce another one."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = kind, 5
    block = member.tobuf(tarfile.GNU_FORMAT) + b"a".ljust(512, b"\0")
    return gzip.compress(block * depth, 1)
