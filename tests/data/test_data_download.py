"""Downloads from a server on this machine: whole, resumed, from servers that cannot, and everything that fails."""

from collections.abc import Iterator
from hashlib import md5, sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from mpdvae.data import Lines, Listener, progress
from mpdvae.data.download import Unreachable, download
from mpdvae.data.files import has_digest
from mpdvae.data.progress import shown
from mpdvae.errors import InputError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
DIGEST = f"sha256:{sha256(CONTENT).hexdigest()}"


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT in the way that the path names, and notes which ranges were asked for."""

    asked: list[str | None]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if self.path == "/absent":
            self.send_error(404)
        elif self.path == "/whole-only":
            self.answer(200, CONTENT)
        elif (self.path == "/breaks" and len(self.asked) == 1) or self.path == "/always-breaks":
            self.answer(206 if start else 200, CONTENT[start : start + (1 << 18)], start)
        elif self.path == "/other":
            self.answer(200, b"<html>please log in</html>")
        elif start >= len(CONTENT):
            self.send_error(416)
        else:
            self.answer(206 if start else 200, CONTENT[start:], start)

    def answer(self, status: int, content: bytes, start: int = 0) -> None:
        claimed = len(CONTENT) - start if status == 206 or self.path.endswith("breaks") else len(content)
        self.send_response(status)
        self.send_header("Content-Length", str(claimed))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None: ...


class Server:
    """An address, and the ranges that were asked for there."""

    def __init__(self, address: str, asked: list[str | None]) -> None:
        self.address, self.asked = address, asked


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "127.0.0.1")
    handler = type("NotingHandler", (Handler,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Server(f"http://127.0.0.1:{running.server_port}", handler.asked)
        finally:
            running.shutdown()
            thread.join()


class Notes(Listener):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[tuple[str, int, int | None]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def progress(self, name: str, done: int, total: int | None) -> None:
        self.steps.append((name, done, total))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_whole(server: Server, tmp_path: Path) -> None:
    notes = Notes()
    download(f"{server.address}/file", tmp_path / "new" / "data.zip", DIGEST, notes)
    assert (tmp_path / "new" / "data.zip").read_bytes() == CONTENT
    assert names(tmp_path / "new") == ["data.zip"]
    assert notes.steps[-1] == ("data.zip", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in notes.steps] == sorted(done for _, done, _ in notes.steps)


def test_a_partial_file_is_resumed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.part").write_bytes(CONTENT[:1000])
    notes = Notes()
    download(f"{server.address}/file", tmp_path / "data", DIGEST, notes)
    assert server.asked == ["bytes=1000-"]
    assert (tmp_path / "data").read_bytes() == CONTENT
    assert notes.steps[0][1] > 1000
    assert notes.steps[-1][1:] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("kept", [CONTENT[:1000], CONTENT, CONTENT + b"more", b"x" * 1000], ids=len)
@pytest.mark.parametrize("path", ["/file", "/whole-only"])
def test_whatever_was_left_behind_the_file_is_right(server: Server, tmp_path: Path, kept: bytes, path: str) -> None:
    (tmp_path / "data.part").write_bytes(kept)
    download(f"{server.address}{path}", tmp_path / "data", DIGEST)
    assert (tmp_path / "data").read_bytes() == CONTENT
    assert names(tmp_path) == ["data"]


def test_a_broken_connection_is_taken_up_again(server: Server, tmp_path: Path) -> None:
    download(f"{server.address}/breaks", tmp_path / "data", DIGEST)
    assert server.asked == [None, f"bytes={1 << 18}-"]
    assert (tmp_path / "data").read_bytes() == CONTENT


def test_what_came_before_the_last_break_is_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(
        Unreachable, match=r"the connection was lost; 0.8 MB are kept, run the same command again to resume"
    ):
        download(f"{server.address}/always-breaks", tmp_path / "data", DIGEST)
    assert len(server.asked) == 3
    assert names(tmp_path) == ["data.part"]
    download(f"{server.address}/file", tmp_path / "data", DIGEST)
    assert server.asked[-1] == f"bytes={3 << 18}-"


def test_another_file_is_not_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"the server has a different file \(its sha256 is not "):
        download(f"{server.address}/other", tmp_path / "data", DIGEST)
    assert names(tmp_path) == []


def test_reasons_are_given_in_words(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="the server returned 404 Not Found"):
        download(f"{server.address}/absent", tmp_path / "data", DIGEST)
    with pytest.raises(Unreachable, match="no connection"):
        download("http://127.0.0.1:9/file", tmp_path / "data", DIGEST)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write to the data folder"):
        download(f"{server.address}/file", tmp_path / "file" / "data", DIGEST)


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello\n")
    git = "ce013625030ba8dba906f756967f9e9ca394464a"  # `git hash-object` of it
    assert git == sha1(b"blob 6\0hello\n").hexdigest()
    assert has_digest(tmp_path / "file", f"git-blob:{git}")
    assert has_digest(tmp_path / "file", "md5:" + md5(b"hello\n").hexdigest())
    assert not has_digest(tmp_path / "file", f"sha256:{'0' * 64}")
    with pytest.raises(InputError, match=r"cannot read .*absent"):
        has_digest(tmp_path / "absent", "sha256:00")


def test_progress_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with shown() as listener:
        assert isinstance(listener, Lines)
        listener.every_seconds = 0
        listener.say("Tiny: fetching")
        listener.progress("a.zip", 1_500_000, 3_000_000)
        listener.progress("b.zip", 170_000_000, None)
        listener.every_seconds = 60
        listener.progress("b.zip", 180_000_000, None)
    assert capsys.readouterr().out == "Tiny: fetching\n  a.zip: 1.5 MB of 3.0 MB (50%)\n  b.zip: 170 MB\n"


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress.sys.stdout, "isatty", lambda: True)
    with shown() as listener:
        listener.progress("a.zip", 1, 2)
        listener.progress("a.zip", 2, 2)
        listener.say("done [1/2]")
    assert "done [1/2]" in capsys.readouterr().out
