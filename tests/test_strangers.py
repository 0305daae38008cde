"""Files from strangers: whatever is in them, a reader returns or raises `InputError` or `RunError` in one sentence, soon and
without taking memory. The readers are in strangers.py, the damage in mutations.py."""

import json
import random
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import damaged_json
from strangers import READERS, SURE_TO_ANSWER, cases

from mpdvae.errors import InputError, RunError

SECONDS = 10
"""For one file; all of them take milliseconds."""
MEMORY = 1 << 30
"""Bytes of address space beyond what the tests have, for one file; none of them has more than some thousand bytes."""


@contextmanager
def bounds() -> Iterator[None]:
    """Inside, time and memory are short."""

    def hang(*_: object) -> None:
        raise AssertionError(f"took more than {SECONDS} seconds")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    former = signal.signal(signal.SIGALRM, hang)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        resource.setrlimit(resource.RLIMIT_AS, before)


def answered(name: str, folder: Path, content: bytes) -> bool:
    """Whether the reader `name` takes `content`; anything but a value or one sentence fails."""
    reader = READERS[name]
    reader.beside(folder)
    path = folder / reader.name
    path.write_bytes(reader.seal(content))
    try:
        with bounds():
            reader.read(path)
    except (InputError, RunError) as error:
        said = str(error)
        assert 0 < len(said) < 2_000, said[:200]
        assert said.isprintable(), repr(said)
        return False
    return True


def fuzz(name: str, folder: Path, cases: int, seed: int) -> int:
    """Reads the whole file and `cases` damaged ones; returns how many were refused."""
    reader, whole = READERS[name], READERS[name].base()
    assert answered(name, folder, whole)
    refused = 0
    for case in range(cases):
        chance = f"{name} {seed} {case}"
        try:
            refused += not answered(name, folder, reader.damage(whole, random.Random(chance)))
        except BaseException as error:
            error.add_note(f"in case {chance!r}")
            raise
    return refused


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_refused_in_one_sentence(name, tmp_path):
    assert (fuzz(name, tmp_path, cases=50, seed=0) == 0) == (name in SURE_TO_ANSWER)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_thousands_of_damaged_files_are_refused_in_one_sentence(name, tmp_path):
    assert (fuzz(name, tmp_path, cases(name), seed=1) == 0) == (name in SURE_TO_ANSWER)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.damage is damaged_json])
@settings(max_examples=10)
@given(value=JSON)
def test_any_json_is_answered(name, tmp_path, value):
    answered(name, tmp_path, json.dumps(value).encode())


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.damage is not damaged_json])
@settings(max_examples=10)
@given(content=st.binary(max_size=100))
def test_any_bytes_are_answered(name, tmp_path, content):
    answered(name, tmp_path, content)
