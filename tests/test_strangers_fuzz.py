"""Hostile inputs to all readers and all commands, a seed a night: each is answered in a sentence, within `SECONDS` of
computation, without `MEMORY` beyond the size of the input, and without a change to any file outside its folder.

    MPDVAE_FUZZ_CASES   number of inputs; default: 1,000; nightly: 10,000
    MPDVAE_FUZZ_SEED    seed; default: 0

Half of them are files for a reader (strangers.py), half are folders for a command (hostile_folders.py). A failure names its
case; `PIECE=... CASE=...` in its note draws it again.
"""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from answering import answered
from command_line import code_of
from hostile_folders import COMMANDS, SUBJECTS, Command, attack, listing, write_files
from limits import MEMORY, ExceededError, bounds, memory_bytes, start_counting_memory
from strangers import READERS
from structural import STRUCTURAL

CASES = int(os.environ.get("MPDVAE_FUZZ_CASES", "1000"))
SEED = int(os.environ.get("MPDVAE_FUZZ_SEED", "0"))
PIECES = 10
LIBRARIES = 1 << 29
"""Bytes of address space that threads and libraries of a command reserve, beyond what it uses."""


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mpdvae explore` prepares its model and serves no page."""
    for name in ("check_panel", "check_port", "serve"):
        monkeypatch.setattr(f"mpdvae.commands.explorer_page.{name}", lambda *_: None)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with neighbours, none of which may change."""
    write_files(tmp_path / "around" / "neighbour", {"manifest.json": b"{}", "private.png": b"x", "a/b.txt": b"secret"})
    (tmp_path / "around" / "work").mkdir()
    monkeypatch.chdir(tmp_path / "around" / "work")
    before = listing(tmp_path / "around")
    yield tmp_path
    assert listing(tmp_path / "around") == before


def read_one(place: Path, chance: random.Random) -> None:
    """Gives a damaged file to a reader."""
    reader = READERS[chance.choice(sorted(READERS))]
    (place / "given").mkdir()
    answered(reader, place / "given", reader.damage(reader.base(), chance))


def arguments_of(command: Command, place: Path) -> list[str]:
    return [word.format(here=place / "given", out=place / "out") for word in command.words]


def run_one(place: Path, command: Command, chance: random.Random, capfd: pytest.CaptureFixture[str]) -> None:
    """Gives a damaged folder to a command."""
    here = place / "given"
    write_files(here, SUBJECTS[command.subject]())
    attack(here, command, chance, STRUCTURAL)
    given = sum(512 * path.lstat().st_blocks for path in here.rglob("*"))
    arguments = arguments_of(command, place)
    start_counting_memory()
    before = memory_bytes(peak=False)
    with bounds(MEMORY + LIBRARIES + given):
        code = code_of(arguments)
    used = memory_bytes(peak=True) - before
    out, err = capfd.readouterr()
    assert code in (0, 1, 2)
    assert "Traceback" not in out + err
    assert all(line.isprintable() for line in err.split("\n")), repr(err[:500])
    assert (code == 0) or err.strip(), arguments
    assert used < MEMORY + given, f"{used:,} bytes for {given:,}"


def one(place: Path, case: str, capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(case)
    if chance.random() < 0.5:
        read_one(place, chance)
    else:
        (command,) = chance.choices(COMMANDS, [command.share for command in COMMANDS])
        run_one(place, command, chance, capfd)


def clear(place: Path) -> None:
    for name in ("given", "out"):
        shutil.rmtree(place / name, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("piece", range(PIECES))
def test_hostile_inputs_hurt_nobody(place, capfd, piece):
    for command in COMMANDS:  # loads what they need: libraries are not counted
        if piece == 0 or command.share > 1:
            write_files(place / "given", SUBJECTS[command.subject]())
            code_of(arguments_of(command, place))
            clear(place)
    for number in range(piece, CASES, PIECES):
        case = f"{SEED} {number}"
        try:
            before = listing(place / "around")
            one(place, case, capfd)
            assert listing(place / "around") == before
        except BaseException as error:
            error.add_note(f"in case {case!r}")
            raise
        finally:
            clear(place)


def endless() -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("act", "error"),
    [(endless, ExceededError), (lambda: input(), ExceededError), (lambda: bytearray(40 * MEMORY), MemoryError)],
)
def test_limits_are_limits(act, error):
    """Otherwise the damaged inputs would test nothing. Memory that was freed before and is kept may exceed the limit, but
    not by so much."""
    with pytest.raises(error), bounds(seconds=0.2):
        act()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.words[:2]))
def test_intact_folders_are_answered(place, capfd, command):
    """Otherwise the damaged ones would test nothing."""
    write_files(place / "given", SUBJECTS[command.subject]())
    refused = command.subject in ("own", "data", "released") or command.words[0] == "train"
    assert (code_of(arguments_of(command, place)) == 0) != refused, capfd.readouterr().err
