"""Files from strangers: whatever is in them, a reader returns or raises `InputError` or `RunError` in one sentence, soon and
without taking memory. The readers are in strangers.py, the damage in mutations.py."""

import random
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from strangers import READERS

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


def fuzz(name: str, folder: Path, cases: int, seed: int) -> int:
    """Reads `cases` damaged files; returns how many were refused."""
    reader = READERS[name]
    whole, path, refused = reader.base(), folder / reader.name, 0
    reader.beside(folder)
    path.write_bytes(reader.seal(whole))
    reader.read(path)
    for case in range(cases):
        content = reader.seal(reader.damage(whole, random.Random(f"{name} {seed} {case}")))
        path.write_bytes(content)
        with bounds():
            try:
                reader.read(path)
            except (InputError, RunError) as error:
                refused += 1
                said = str(error)
                assert 0 < len(said) < 2_000, f"case {case}: {said[:200]}"
                assert said.isprintable(), f"case {case}: {said!r}"
    return refused


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_refused_in_one_sentence(name, tmp_path):
    assert fuzz(name, tmp_path, cases=50, seed=0) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_two_thousand_damaged_files_each(name, tmp_path):
    assert fuzz(name, tmp_path, cases=2_000, seed=1) > 0
