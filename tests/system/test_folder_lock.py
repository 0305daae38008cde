"""A folder has one owner at a time, owners that are gone are recognised, and of many that want it one gets it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mpdvae.errors import RunError
from mpdvae.system import folder_lock as room
from mpdvae.system.folder_lock import FILE, InUse, Owner, owned, owner_of

HOLD = """
import sys, time
from pathlib import Path
from mpdvae.system.folder_lock import owned
with owned(Path(sys.argv[1])):
    print("owned", flush=True)
    time.sleep(60)
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Another process that owns `folder`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "owned\n"
    return process


def write(folder: Path, owner: Owner, age_seconds: float = 0.0) -> None:
    """The file of an owner that last renewed it so long ago."""
    (folder / FILE).write_text(json.dumps(asdict(owner)))
    then = time.time() - age_seconds
    os.utime(folder / FILE, (then, then))


def elsewhere(age_seconds: float) -> tuple[Owner, float]:
    return replace(room._this_process(), host="far", machine="another boot"), age_seconds


def test_the_file_is_there_inside_and_gone_after(tmp_path):
    with owned(tmp_path) as ownership:
        found = json.loads((tmp_path / FILE).read_text())
        assert (found["pid"], found["host"]) == (os.getpid(), os.uname().nodename)
        assert owner_of(tmp_path) == ownership.owner
        ownership.confirm()
    assert list(tmp_path.iterdir()) == []
    assert owner_of(tmp_path) is None


def test_the_file_is_gone_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), owned(tmp_path):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_this_process_cannot_own_a_folder_twice(tmp_path):
    with owned(tmp_path), pytest.raises(InUse, match=rf"is in use by process {os.getpid()} on "), owned(tmp_path):
        pass
    assert issubclass(InUse, RunError)


def test_a_running_owner_is_named_and_one_that_was_killed_is_followed(tmp_path):
    process = hold(tmp_path)
    try:
        with pytest.raises(InUse, match=f"{tmp_path}: is in use by process {process.pid} on "), owned(tmp_path):
            pass
        os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.2)  # nobody has waited for it: a zombie, which still has its id
        os.kill(process.pid, 0)
        said: list[str] = []
        with owned(tmp_path, said.append):
            pass
        assert said == [f"{tmp_path}: taken over from process {process.pid} on {os.uname().nodename}, which is gone"]
    finally:
        process.kill()
        process.communicate()


def test_an_id_that_was_used_again_is_another_process(tmp_path):
    write(tmp_path, replace(room._this_process(), started="long ago"))
    assert owner_of(tmp_path) is None
    with owned(tmp_path):
        pass


@pytest.mark.parametrize(("age", "taken"), [(0.0, True), (250.0, True), (350.0, False)])
def test_owners_on_other_machines_are_judged_by_their_renewals(tmp_path, age, taken):
    write(tmp_path, *elsewhere(age))
    assert (owner_of(tmp_path) is not None) == taken
    if taken:
        with pytest.raises(InUse, match=r"is in use by process \d+ on far;"), owned(tmp_path):
            pass
    else:
        with owned(tmp_path):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ([FILE] if taken else [])


def test_a_clock_that_goes_back_takes_no_folder_from_its_owner(tmp_path):
    """What was renewed in the future is not stale, however often one looks."""
    write(tmp_path, *elsewhere(-10_000.0))
    with pytest.raises(InUse, match=r"is in use by process \d+ on far;"), owned(tmp_path):
        pass
    assert owner_of(tmp_path) is not None


@pytest.mark.parametrize("content", ["", "{", '{"pid": "x"}', "[]", '{"pid": 3}'])
@pytest.mark.parametrize(("age", "taken"), [(0.0, True), (350.0, False)])
def test_a_broken_file_has_an_owner_until_it_is_stale(tmp_path, content, age, taken):
    (tmp_path / FILE).write_text(content)
    then = time.time() - age
    os.utime(tmp_path / FILE, (then, then))
    if taken:
        with pytest.raises(InUse, match="is in use by another process;"), owned(tmp_path):
            pass
    else:
        with owned(tmp_path):
            pass


def test_owners_renew(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "RENEWAL_SECONDS", 0.05)
    with owned(tmp_path):
        os.utime(tmp_path / FILE, (1e9, 1e9))
        until = time.monotonic() + 10
        while (tmp_path / FILE).stat().st_mtime < 2e9 / 2 + 1:
            assert time.monotonic() < until
            time.sleep(0.02)


def lose_by_deletion(folder: Path) -> None:
    (folder / FILE).unlink()


def lose_to_another(folder: Path) -> None:
    write(folder, *elsewhere(0.0))


@pytest.mark.parametrize(
    ("lose", "why"), [(lose_by_deletion, "was deleted"), (lose_to_another, r"was taken over by process \d+ on far")]
)
def test_an_owner_learns_that_the_folder_was_lost_and_leaves_it_alone(tmp_path, monkeypatch, lose, why):
    monkeypatch.setattr(room, "RENEWAL_SECONDS", 0.05)
    with owned(tmp_path) as ownership:
        lose(tmp_path)
        until = time.monotonic() + 10
        while not ownership._lost:
            assert time.monotonic() < until
            time.sleep(0.02)
        with pytest.raises(RunError, match=why):
            ownership.confirm()
    assert (tmp_path / FILE).exists() == (lose is lose_to_another)


def test_of_many_that_find_a_stale_owner_one_takes_over(tmp_path):
    """Two hundred times four at once; who gets it keeps it until all know."""
    gate, known = threading.Barrier(4, timeout=30), threading.Barrier(4, timeout=30)

    def contend(folder: Path) -> int:
        gate.wait()
        try:
            with owned(folder):
                known.wait()
                return 1
        except InUse:
            known.wait()
            return 0

    with ThreadPoolExecutor(4) as pool:
        for i in range(200):
            folder = tmp_path / str(i)
            folder.mkdir()
            write(folder, *elsewhere(1000.0))
            assert sum(pool.map(contend, [folder] * 4)) == 1
            assert list(folder.iterdir()) == []


def test_what_was_left_while_asking_for_the_time_is_removed_by_the_next_owner(tmp_path):
    """Killed between the two halves of a question, a process leaves a file of a random name."""
    asked, other = tmp_path / f".{FILE}.0123456789abcdef", tmp_path / ".notes.json.0123456789abcdef"
    asked.touch()
    other.touch()
    with owned(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, FILE]


def test_a_process_whose_clock_the_owner_removed_takes_it_for_a_running_one(tmp_path, monkeypatch):
    write(tmp_path, *elsewhere(1000.0))
    assert owner_of(tmp_path) is None
    monkeypatch.setattr(Path, "touch", lambda path, **_: None)  # gone before it can be looked at
    assert owner_of(tmp_path) is not None
