"""Gives a file to a reader, which must take it or refuse it in one sentence, soon and without taking memory."""

from pathlib import Path

from limits import MEMORY, bounds
from strangers import Reader

from mpdvae.errors import InputError, RunError


def answered(reader: Reader, folder: Path, content: bytes) -> bool:
    """Returns whether the reader takes `content`; anything but a value or one sentence fails."""
    reader.beside(folder)
    path = folder / reader.name
    path.write_bytes(reader.seal(content))
    try:
        with bounds(MEMORY + path.stat().st_size):
            reader.read(path)
    except (InputError, RunError) as error:
        said = str(error)
        assert 0 < len(said) < 2_000, said[:200]
        assert said.isprintable(), repr(said)
        return False
    return True
