"""`mpdvae explore` in a real browser: every control changes an image, nothing goes wrong, nothing leaves this machine."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from command_line import start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def page(finished: Path, port: int) -> Iterator[Any]:
    """The page of the shared run, and after the tests a look at what it said and asked for."""
    pytest.importorskip("panel", reason="needs panel: pip install 'mpdvae[explore]'")
    server = start("explore", finished, "--port", str(port))
    try:
        with chromium() as browser:
            _wait_for(port)
            page = browser.new_page()
            page.set_default_timeout(60_000)
            wrong: list[str] = []
            page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("request", lambda r: None if _is_local(r.url, port) else wrong.append(r.url))
            page.goto(f"http://127.0.0.1:{port}/")
            page.locator("img").nth(3).wait_for()
            yield page
            assert wrong == []
    finally:
        server.terminate()
        server.communicate()  # closes its pipes too


def _wait_for(port: int) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("nothing is served")


def _is_local(url: str, port: int) -> bool:
    return url.startswith((f"http://127.0.0.1:{port}/", "data:", "blob:"))


def images(page: Any) -> list[str]:
    """Of the chosen point, along a dimension, mixed, samples."""
    return [image.get_attribute("src") for image in page.locator("img").all()]


@pytest.mark.parametrize(
    ("slider", "key", "changing"),
    [(0, "ArrowRight", {0, 1, 2}), (1, "End", {1}), (2, "ArrowRight", {2}), (3, "ArrowRight", {3})],
    ids=["image", "along a dimension", "other image", "temperature"],
)
def test_sliders_change_their_images(page: Any, slider: int, key: str, changing: set[int]) -> None:
    before = images(page)
    page.locator(".noUi-handle").nth(slider).focus()
    page.keyboard.press(key)
    for _ in range(300):
        after = images(page)
        if len(after) == 4 and {i for i in range(4) if before[i] != after[i]} == changing:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"expected {changing} to change")
