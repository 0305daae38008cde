"""A headless browser for tests of pages: Debian's chromium, driven by playwright. Pages may make no network requests."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Opened:
    """An open page, with its errors and requests."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    """URLs that the page requested, other than its own."""

    def value(self, expression: str) -> Any:
        """Returns the value of a JavaScript expression."""
        return self.page.evaluate(expression)

    def wait(self, expression: str) -> None:
        """Waits until an expression is true. playwright's own method evaluates text in the page, which the page forbids."""
        for _ in range(600):
            if self.value(f"Boolean({expression})"):
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"never true: {expression}")


@contextmanager
def chromium() -> Iterator[Any]:
    """Yields a browser; skips the test if there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install 'mpdvae[test-browser]'"
    )
    if CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, address: str, width: int = 1200, height: int = 900, scheme: str = "light") -> Iterator[Opened]:
    """Yields the page at `address`; afterwards asserts that it had no errors and made no other requests."""
    size = {"width": width, "height": height}
    # Smooth scrolling would move elements that are about to be clicked.
    context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    found = Opened(context.new_page())
    found.page.set_default_timeout(60_000)
    found.page.on("console", lambda message: found.errors.append(message.text) if message.type == "error" else None)
    found.page.on("pageerror", lambda error: found.errors.append(str(error)))

    def refuse(route: Any) -> None:
        if route.request.url.partition("#")[0] == address.partition("#")[0]:
            route.continue_()
        else:
            found.requests.append(route.request.url)
            route.abort()

    context.route("**/*", refuse)
    try:
        found.page.goto(address)
        yield found
        assert found.errors == []
        assert found.requests == []
    finally:
        context.close()
