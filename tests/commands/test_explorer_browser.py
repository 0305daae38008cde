"""`mpdvae explore` in a real browser: every control changes an image, nothing goes wrong, nothing leaves this machine."""

import socket
import time
from collections.abc import Callable, Iterator
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
            page.locator("img").nth(4).wait_for()
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


ORIGINAL, DECODED, MOVED, MIXED, SAMPLES = (
    "the image",
    "its code, decoded",
    "moved along a dimension",
    "from one image to the other",
    "samples",
)


def images(page: Any) -> dict[str, str | None]:
    """The bytes of every image of the page, by what it is called."""
    return {image.get_attribute("alt"): image.get_attribute("src") for image in page.locator("img").all()}


def expect(page: Any, changing: set[str], by: Callable[[], Any]) -> None:
    """Does something, after which these images are others, and only these."""
    before = images(page)
    assert set(before) == {ORIGINAL, DECODED, MOVED, MIXED, SAMPLES}
    by()
    for _ in range(600):
        after = images(page)
        if {name for name in before if before[name] != after.get(name)} == changing:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"expected {changing} to change")


def press(page: Any, slider: int, key: str) -> None:
    page.locator(".noUi-handle").nth(slider).focus()
    page.keyboard.press(key)


@pytest.mark.parametrize(
    ("slider", "key", "changing"),
    [
        (0, "ArrowRight", {ORIGINAL, DECODED, MOVED, MIXED}),
        (1, "End", {MOVED}),
        (2, "ArrowRight", {MIXED}),
        (3, "ArrowRight", {SAMPLES}),
    ],
    ids=["image", "along a dimension", "other image", "temperature"],
)
def test_sliders_change_their_images(page: Any, slider: int, key: str, changing: set[str]) -> None:
    expect(page, changing, lambda: press(page, slider, key))


def test_another_dimension(page: Any) -> None:
    """Moved away from the middle: there, all dimensions show the same."""
    dimension = page.locator("select")
    assert dimension.locator("option").count() == 8
    expect(page, {MOVED}, lambda: press(page, 1, "Home"))  # at the end or in the middle before, as tests are shared out
    expect(page, {MOVED}, lambda: dimension.select_option(index=5))


def test_another_seed(page: Any) -> None:
    def type_it() -> None:
        seed = page.get_by_label("Seed")
        seed.fill("7")
        seed.press("Enter")

    expect(page, {SAMPLES}, type_it)


def test_a_press_on_the_map_decodes_what_is_there(page: Any) -> None:
    """Every point is some image: a press on the chosen one's neighbour changes what comes of the chosen one."""
    where = page.evaluate(
        """() => {
            const views = Object.values(Bokeh.index).flatMap((view) => [...view.owner.all_views()]);
            const plot = views.find((view) => view.model.type === "Figure");
            const { x, y } = plot.model.renderers[0].data_source.data;
            const chosen = plot.model.renderers[1].data_source.data.x[0];
            const far = (i) => Math.abs(x[i] - chosen);
            const i = [...x.keys()].reduce((a, b) => (far(b) > far(a) ? b : a));
            const box = plot.canvas_view.el.getBoundingClientRect();
            const frame = plot.frame;
            return [box.x + frame.x_scale.compute(x[i]), box.y + frame.y_scale.compute(y[i])];
        }"""
    )
    expect(page, {ORIGINAL, DECODED, MOVED, MIXED}, lambda: page.mouse.click(*where))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_reader(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(253, 253, 251)", "dark": "rgb(20, 23, 26)"}[scheme]


def test_a_small_screen_shows_all_without_scrolling_sideways(page: Any) -> None:
    page.set_viewport_size({"width": 380, "height": 800})
    for _ in range(100):
        if page.evaluate("document.documentElement.scrollWidth") <= 380:
            return
        page.wait_for_timeout(100)
    raise AssertionError("wider than the screen")


def test_nobody_else_is_served(page: Any, port: int) -> None:
    """Any other address of this machine, all of 127/8 included, has nobody who answers."""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), 5)


def test_a_second_one_is_told_that_the_port_is_taken(page: Any, port: int, finished: Path) -> None:
    second = start("explore", finished, "--port", str(port))
    output, said = second.communicate(timeout=300)
    assert (second.returncode, output) == (1, "")
    assert said.strip().splitlines() == [
        f"mpdvae: --port: {port} is taken by another program; give another, such as --port {port + 1}. "
        "`mpdvae explain port` says more."
    ]
