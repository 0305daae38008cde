"""Below a closed folder there are regular files and folders only: nothing else is followed, read, replaced or removed."""

import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpdvae.errors import InputError
from mpdvae.system import closed_folder
from mpdvae.system.atomic_files import read_json, remove_asides, write_atomically, write_json, write_once
from mpdvae.system.closed_folder import Inside
from mpdvae.system.folder_lock import FILE, left_by, owned, owner_of
from mpdvae.system.turn_lock import turn_lock
from mpdvae.system.untrusted_files import read_bytes

LARGEST = 1 << 20


@pytest.fixture(params=["openat", "lstat"], autouse=True)
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every law holds with and without openat."""
    monkeypatch.setattr(closed_folder, "HAS_OPENAT", request.param == "openat")


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder of the user's, of which nothing may be read, changed or removed."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("a.json", "step-00000003.json", "step-00000003.safetensors", ".a.json.123"):
        (folder / name).write_text('{"secret": 1}')
    before = contents(folder)
    yield folder
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


ACTIONS: dict[str, Callable[[Inside], object]] = {
    "exists": Inside.exists,
    "is_file": Inside.is_file,
    "is_dir": Inside.is_dir,
    "read": lambda path: path.read_bytes(LARGEST),
    "read_bytes": lambda path: read_bytes(path, LARGEST),
    "read_json": read_json,
    "write": lambda path: write_atomically(path, "mine"),
    "write_json": lambda path: write_json(path, {}),
    "turn_lock": turn_lock,
}
"""What may be done with a path that is a link, or leads through one."""


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("target", ["outside/a.json", "outside", "outside/new.json"])
def test_a_link_is_refused_whatever_is_asked_of_it(tmp_path, outside, action, target):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.json").symlink_to(Path("..") / target)
    with pytest.raises(InputError, match=r"run/a\.json: is a link, which is neither followed nor replaced there"):
        ACTIONS[action](Inside(tmp_path / "run") / "a.json")
    assert (tmp_path / "run" / "a.json").is_symlink()


@pytest.mark.parametrize("action", ACTIONS)
def test_a_link_on_the_way_is_refused(tmp_path, outside, action):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to("../outside")
    with pytest.raises(InputError, match=r"run/model: is a link"):
        ACTIONS[action](Inside(tmp_path / "run") / "model" / "a.json")


def test_the_folder_itself_may_be_reached_through_links(tmp_path):
    (tmp_path / "disk" / "run").mkdir(parents=True)
    (tmp_path / "runs").symlink_to("disk")
    path = Inside(tmp_path / "runs" / "run") / "model" / "a.json"
    write_json(path, [1])
    assert read_json(path) == [1]
    assert [str(file) for file in path.parent.files()] == [str(path)]


def test_lists_leave_links_out_and_nothing_is_removed_through_them(tmp_path, outside):
    run = tmp_path / "run"
    run.mkdir()
    (run / "folder").symlink_to("../outside")
    (run / "link.json").symlink_to("../outside/a.json")
    (run / ".a.json.12").symlink_to("../outside/a.json")
    (run / "file.json").write_text("[]")
    (run / ".file.json.12-0123abcd").write_text("half")
    folder = Inside(run)
    assert [path.name for path in folder.files()] == [".file.json.12-0123abcd", "file.json"]
    assert folder.folders() == []
    remove_asides(folder)
    for name in ("folder", "link.json", "file.json"):
        (folder / name).unlink()
        (folder / name).rmdir()
    assert sorted(path.name for path in run.iterdir()) == [".a.json.12", "folder", "link.json"]


@pytest.mark.parametrize("name", [".notes.2024", ".backup.12", ".env.1", "a.json", ".a.json"])
def test_no_file_of_the_user_is_taken_for_a_temporary_one(tmp_path, name):
    (tmp_path / name).write_text("mine")
    remove_asides(Inside(tmp_path))
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", ".."])
def test_names_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="expected a name inside"):
        Inside(tmp_path) / name


def test_what_the_standard_library_would_open_is_no_path(tmp_path):
    with pytest.raises(TypeError):
        open(Inside(tmp_path) / "a")  # type: ignore[call-overload] # noqa: SIM115


def within_seconds(action: Callable[[], object]) -> BaseException | None:
    """Returns the error that `action` raises; fails if it hangs."""
    errors: list[BaseException] = []

    def act() -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "hangs"
    return errors[0] if errors else None


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_device(path: Path) -> None:
    """/dev/zero, by another name."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        path.open("rb").close()
    except OSError:
        pytest.skip("devices need more rights than this process has")


def make_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 42)


SPECIAL = {"fifo": make_fifo, "device": make_device, "sparse": make_sparse}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("of", ["stranger", "user"])
def test_what_is_no_file_of_a_sane_size_is_refused_at_once(tmp_path, kind, of):
    SPECIAL[kind](tmp_path / "a.json")
    path = Inside(tmp_path) / "a.json" if of == "stranger" else tmp_path / "a.json"
    error = within_seconds(lambda: read_bytes(path, LARGEST))
    assert isinstance(error, InputError)
    assert "expected at most" in str(error) if kind == "sparse" else "move it away" in str(error)


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("ask", [owner_of, left_by, lambda folder: owned(folder).__enter__()])
def test_an_owner_that_is_no_file_is_refused_at_once(tmp_path, kind, ask):
    SPECIAL[kind](tmp_path / FILE)
    assert isinstance(within_seconds(lambda: ask(tmp_path)), InputError)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_an_owner_that_is_a_link_is_left_alone(tmp_path, outside):
    run = tmp_path / "run"
    run.mkdir()
    (run / FILE).symlink_to("../outside/a.json")
    with pytest.raises(InputError, match="is a link"), owned(run):
        pass


def test_what_is_written_once_is_written_by_one(tmp_path, monkeypatch):
    for number, links in enumerate((True, False)):
        if not links:

            def refuse(*_: object, **__: object) -> None:
                raise PermissionError(1, "no hard links here")

            monkeypatch.setattr(os, "link", refuse)
        path = Inside(tmp_path) / f"{number}.json"
        assert write_once(path, "one")
        assert not write_once(path, "two")
        assert path.read_bytes(LARGEST) == b"one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.json", "1.json"]
