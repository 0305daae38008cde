"""The report in a real browser: every control changes what is shown, nothing goes wrong, nothing is asked of a network."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Opened, chromium, opened
from report_folders import EXPLORED_POINTS, edit, make_matrix, make_run

from mpdvae import report
from mpdvae.report.palette import SYMBOLS

pytestmark = pytest.mark.slow

MODELS = ("mae", "vlae", "vae-pixelcnn", "vae", "mae-no-smoothness", "mae-no-diversity")
"""In the order in which they are shown."""
DATASETS = ("mnist", "omniglot", "cifar10")
CUT = "[...document.querySelectorAll('.scroll, .across')].filter((e) => e.scrollWidth > e.clientWidth + 1)"
"""Tables of which something is out of sight."""
OPEN_ALL = "document.querySelectorAll('details').forEach((part) => { part.open = true; })"
PLOT = "document.querySelector('.map-plot')"
FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""After two frames what came into sight is known to be there."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of six models with two seeds."""
    root = tmp_path_factory.mktemp("browser")
    html = root / "report.html"
    report.write(make_matrix(root / "runs", MODELS, seeds=2), html=html, command="mpdvae report runs/*")
    return html.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def shared(browser: Any, address: str) -> Iterator[Opened]:
    """One page for all tests of controls: loading it takes longest."""
    with opened(browser, address) as found:
        yield found


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of three data sets, on each of which six models have five seeds."""
    root = tmp_path_factory.mktemp("several")
    folders = [f for d in DATASETS for f in make_matrix(root / d, MODELS, seeds=5, dataset=d)]
    report.write(folders, html=root / "report.html", command="mpdvae report runs/*")
    return (root / "report.html").as_uri()


def unfold(tab: Opened, name: str) -> None:
    """Follows the link to a section, which opens it."""
    tab.page.locator(f'nav a[href="#study1-{name}"]').click()
    tab.wait(f"document.getElementById('study1-{name}').open")
    tab.value(FRAMES)


@pytest.fixture
def tab(shared: Opened) -> Opened:
    """The shared page with its explorer in sight."""
    shared.page.locator(".explore").scroll_into_view_if_needed()
    shared.wait(f"{PLOT}.data?.length === 3")
    return shared


def points(tab: Opened) -> dict[str, Any]:
    """The points of the map as they are drawn."""
    return tab.value(f"(({{x, y, customdata, marker}}) => ({{x, y, customdata, marker}}))({PLOT}.data[0])")


def rings(tab: Opened) -> int:
    return tab.value(f"{PLOT}.data[2].x.length")


def place(tab: Opened, index: int) -> tuple[float, float]:
    """Where a point of the map is on the screen."""
    tab.page.locator(".map-plot").scroll_into_view_if_needed()
    box = tab.value(
        f"""(() => {{
            const path = document.querySelectorAll(".map-plot .trace")[0].querySelectorAll("path.point")[{index}];
            const {{ x, y, width, height }} = path.getBoundingClientRect();
            return [x + width / 2, y + height / 2];
        }})()"""
    )
    return box[0], box[1]


def pixels(tab: Opened, selector: str) -> str:
    return tab.value(f"document.querySelector('{selector}').toDataURL()")


def changed(tab: Opened, what: Callable[[], Any], by: Callable[[], Any]) -> Any:
    """Does something and returns what has become of `what`, which must be something else than before."""
    before = what()
    by()
    for _ in range(1200):
        if (after := what()) != before:
            return after
        tab.page.wait_for_timeout(50)
    raise AssertionError("nothing has changed")


def choose(tab: Opened, name: str, value: str) -> None:
    tab.page.locator(f'.explore input[data-choose="{name}"][value="{value}"]').check(force=True)


def own(tab: Opened) -> str:
    return tab.page.locator(".detail .own").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_small_screen_shows_all_without_scrolling_sideways(browser: Any, address: str, scheme: str) -> None:
    with opened(browser, address, width=380, height=800, scheme=scheme) as small:
        small.value(OPEN_ALL)
        height = small.value("document.body.scrollHeight")
        for y in range(0, height, 700):
            small.value(f"scrollTo(0, {y})")
            small.value(FRAMES)
            assert small.value("document.documentElement.scrollWidth") <= 380, y
        small.wait("document.querySelectorAll('.main-svg').length > 10")
        ground = small.value("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(253, 253, 251)", "dark": "rgb(20, 23, 26)"}[scheme]


def test_a_reader_sees_the_answer_first_and_scrolls_little(browser: Any, address: str) -> None:
    """At 1,280 pixels the samples begin on the first screen, no table is cut, folded or not, and the page is short."""
    with opened(browser, address, width=1280, height=900) as wide:
        wide.wait("document.querySelectorAll('.opening .main-svg').length")
        assert wide.value("document.documentElement.scrollHeight") <= 8000
        assert wide.value("document.querySelector('.samples').getBoundingClientRect().top") < 850
        wide.value(OPEN_ALL)
        wide.value(FRAMES)
        assert wide.value(f"{CUT}.map((e) => e.getAttribute('aria-label'))") == []
    with opened(browser, address, width=380, height=800) as small:
        small.value("document.querySelector('.opening .plot').scrollIntoView()")  # charts are drawn when they are seen
        small.wait("document.querySelectorAll('.opening .main-svg').length")
        assert small.value("document.documentElement.scrollHeight") <= 12_000


@pytest.mark.parametrize("width", [380, 1280])
def test_names_of_many_models_are_not_broken(browser: Any, tmp_path: Path, width: int) -> None:
    """In no table a word has two lines; at 1,280 pixels nothing is cut, and the page is short."""
    folders = [make_run(tmp_path / f"{i}", f"latent-reconstruction-{i:02d}") for i in range(26)]
    for i, folder in enumerate(folders):
        edit(folder / "experiment.json", latent_dim=8 + i)
    report.write(folders, html=tmp_path / "report.html", command="mpdvae report runs/*")
    broken = """[...document.querySelectorAll('#study1-table .aligned th')].filter((head) => {
        const node = document.createTreeWalker(head, NodeFilter.SHOW_TEXT).nextNode();
        return node && [...node.data.matchAll(/[\\w]+/g)].some(({ index, 0: word }) => {
            const range = document.createRange();
            range.setStart(node, index);
            range.setEnd(node, index + word.length);
            return range.getClientRects().length > 1;
        });
    }).map((head) => head.textContent)"""
    with opened(browser, (tmp_path / "report.html").as_uri(), width=width, height=900) as tab:
        if width == 1280:
            assert tab.value("document.documentElement.scrollHeight") <= 8000
        tab.value(OPEN_ALL)
        tab.value(FRAMES)
        assert tab.value(broken) == []
        assert width == 380 or tab.value(f"{CUT}.map((e) => e.getAttribute('aria-label'))") == []


@pytest.mark.parametrize("width", [320, 380, 1280])
def test_texts_in_the_plane_overlap_nothing(browser: Any, address: str, width: int) -> None:
    """Neither names and numbers of contours each other, nor markers, nor the axes."""
    boxes = """(selector) => [...document.querySelectorAll(`#study1-plane ${selector}`)].map((e) => {
        const b = e.getBoundingClientRect();
        return [e.textContent, b.left, b.top, b.right, b.bottom];
    })"""
    with opened(browser, address, width=width, height=800) as tab:
        tab.page.locator("#study1-plane").scroll_into_view_if_needed()
        tab.wait("document.querySelector('#study1-plane .annotation-text')")
        texts = tab.page.evaluate(boxes, ".annotation-text")
        markers = tab.page.evaluate(boxes, ".points path")
        ((_, left, top, right, bottom),) = tab.page.evaluate(boxes, ".nsewdrag")
        legend = tab.page.locator("#study1-plane .keys li").all_inner_texts()
    assert sorted([name for name, *_ in texts if name in MODELS] + [text.split()[-1] for text in legend]) == sorted(
        MODELS
    )
    for i, (_, *one) in enumerate(texts):
        assert left - 1 <= one[0] < one[2] <= right + 1
        assert top - 1 <= one[1] < one[3] <= bottom + 1
        for name, *other in (*texts[:i], *markers):
            apart = min(one[2], other[2]) <= max(one[0], other[0]) or min(one[3], other[3]) <= max(one[1], other[1])
            assert apart, (texts[i], name, other)


def test_several_data_sets_are_read_as_soon(browser: Any, several: str) -> None:
    """The claims across them begin on the first screen, the rest is folded, and nothing is cut, folded or not."""
    with opened(browser, several, width=1280, height=900) as wide:
        wide.wait("document.querySelectorAll('.glance .main-svg').length")
        assert wide.value("document.querySelector('.across').getBoundingClientRect().top") < 500
        assert wide.value("document.documentElement.scrollHeight") <= 8000
        assert wide.value("document.querySelectorAll('.in-full[open]').length") == 0
        wide.value(OPEN_ALL)
        wide.value(FRAMES)
        assert wide.value(f"{CUT}.map((e) => e.getAttribute('aria-label'))") == []
        assert wide.value("document.documentElement.scrollWidth") <= 1280
    with opened(browser, several, width=380, height=800) as small:
        assert small.value("document.documentElement.scrollHeight") <= 12_000
        small.page.locator("#study3-plane").scroll_into_view_if_needed()
        small.wait("document.querySelectorAll('#study3-plane .main-svg').length")
        assert small.value("document.documentElement.scrollWidth") <= 380


def test_links_lead_into_folded_data_sets(browser: Any, several: str) -> None:
    with opened(browser, several, width=1280, height=900) as tab:
        tab.page.locator('.across a[href="#study2-C1"]').click()
        tab.wait("document.getElementById('study2-in-full').open")
        tab.value(FRAMES)
        assert 0 <= tab.value("document.getElementById('study2-C1').getBoundingClientRect().top") < 900
        assert tab.value("document.querySelectorAll('.in-full[open]').length") == 1
    with opened(browser, f"{several}#study3-learning", width=1280, height=900) as tab:
        tab.wait("document.getElementById('study3-learning').open && document.getElementById('study3-in-full').open")


def test_charts_of_folded_data_sets_fit_whenever_they_are_unfolded(browser: Any, several: str) -> None:
    """Drawn in a wide window, folded, and unfolded in a narrow one; or first drawn in the narrow one."""
    first, second = "#study1-learning .plot", "#study2-learning .plot"
    misfit = """[...document.querySelectorAll('.plot')].filter((e) => e.drawn && e.checkVisibility()).filter((e) =>
        Math.abs(e.querySelector('.main-svg').getBoundingClientRect().width - e.clientWidth) > 1).length"""
    with opened(browser, several, width=1280, height=900) as tab:
        for selector, width in ((first, 1280), (second, 380), (first, 380)):
            tab.value("document.querySelectorAll('.in-full').forEach((part) => { part.open = false; })")
            tab.page.set_viewport_size({"width": width, "height": 800})
            tab.value(f"location.hash = '{selector.split()[0]}'")
            tab.wait(f"document.querySelector('{selector}').checkVisibility()")
            tab.page.locator(selector).first.scroll_into_view_if_needed()
            tab.wait(f"document.querySelector('{selector} .main-svg')")
            tab.wait(f"{misfit} === 0")
            assert tab.value("document.documentElement.scrollWidth") <= width


def test_printing_unfolds_data_sets_and_folds_them_again(browser: Any, several: str) -> None:
    folded = "document.querySelectorAll('details:is(.in-full, .part):not([open])').length"
    with opened(browser, several, width=1280, height=900) as tab:
        before = tab.value(folded)
        tab.value("dispatchEvent(new Event('beforeprint'))")
        assert tab.value(folded) == 0 < before
        assert tab.value("[...document.querySelectorAll('.plot')].every((plot) => plot.drawn)")
        tab.value("dispatchEvent(new Event('afterprint'))")
        assert tab.value(folded) == before


def test_data_sets_unfold_without_scripts(browser: Any, several: str) -> None:
    context = browser.new_context(viewport={"width": 380, "height": 800}, java_script_enabled=False)
    page = context.new_page()
    page.goto(several)
    page.locator('.across a[href="#study2-C1"]').click()
    page.locator("#study2-in-full[open] #study2-C1").wait_for()
    page.locator("#study1-in-full > summary").click()
    page.locator("#study1-in-full[open] #study1-C1").wait_for()
    context.close()


def test_a_link_to_a_run_opens_what_it_is_folded_into(tab: Opened) -> None:
    unfold(tab, "points")
    tab.page.locator('#study1-points a[href="#run3"]').click()
    tab.wait("document.getElementById('run3').closest('details').open && document.getElementById('again').open")
    top = tab.value("document.getElementById('run3').getBoundingClientRect().top")
    assert 0 <= top < 900


def test_it_opens_soon(browser: Any, address: str) -> None:
    """The best of three, of a page as large as it gets: plotly is the most of it, and waits for the first paint."""
    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    times = []
    for _ in range(3):
        with opened(browser, address) as fresh:
            fresh.wait(paint)
            times.append(
                max(
                    fresh.value(paint),
                    fresh.value("performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart"),
                )
            )
            fresh.wait("typeof Plotly === 'object'")
            assert fresh.value(paint) < fresh.value("performance.getEntriesByName('plotly')[0].startTime")
    assert min(times) < 2000, times
    assert Path(address.removeprefix("file://")).stat().st_size < 15e6


def test_the_switch_of_colours(tab: Opened) -> None:
    def ground() -> str:
        return tab.value("getComputedStyle(document.body).backgroundColor")

    def ink() -> str:
        return tab.value(f"{PLOT}.layout.font.color")

    light = ink()
    tab.page.locator('input[name="scheme"][value="dark"]').check(force=True)
    assert ground() == "rgb(20, 23, 26)"
    assert ink() != light
    tab.page.locator('input[name="scheme"][value="light"]').check(force=True)
    assert (ground(), ink()) == ("rgb(253, 253, 251)", light)


def test_the_switch_of_models(tab: Opened) -> None:
    select = tab.page.locator('select[data-choose="model"]')
    assert select.locator("option").all_inner_texts() == [f"{model}, seed 0" for model in MODELS]
    changed(tab, lambda: points(tab)["x"], lambda: select.select_option("3"))
    changed(tab, lambda: points(tab)["x"], lambda: select.select_option("0"))


def test_the_switch_of_maps(tab: Opened) -> None:
    note = tab.page.locator(".map-note")
    assert note.inner_text() == "27% of the variance"
    changed(tab, lambda: points(tab)["x"], lambda: choose(tab, "map", "tsne"))
    assert note.inner_text() == ""
    choose(tab, "map", "pca")


@pytest.mark.parametrize("colouring", ["kl", "distortion"])
def test_the_switch_of_colourings(tab: Opened, colouring: str) -> None:
    classes = tab.page.locator(".legend.classes button")
    assert classes.count() == 10
    by_class = points(tab)["marker"]["color"]
    marker = changed(tab, lambda: points(tab)["marker"], lambda: choose(tab, "colouring", colouring))
    assert marker["color"] != by_class
    assert len(set(marker["color"])) > 10
    assert marker["showscale"]
    assert classes.count() == 0
    choose(tab, "colouring", "class")
    assert points(tab)["marker"]["color"] == by_class


@pytest.mark.parametrize("dragging", ["zoom", "pan"])
def test_the_switch_of_dragging(tab: Opened, dragging: str) -> None:
    assert tab.value(f"{PLOT}.layout.dragmode") == "select"
    choose(tab, "dragging", dragging)
    assert tab.value(f"{PLOT}.layout.dragmode") == dragging
    choose(tab, "dragging", "select")


def test_the_legend_of_classes_has_their_shapes(tab: Opened) -> None:
    """Colours alone do not tell ten classes apart."""
    swatches = tab.page.locator(".legend.classes i")
    shapes = swatches.evaluate_all(
        "all => all.map((i) => [i.className, getComputedStyle(i).clipPath, getComputedStyle(i).borderRadius])"
    )
    assert [shape for shape, *_ in shapes] == SYMBOLS
    assert len({tuple(style) for _, *style in shapes}) == len(SYMBOLS) - 1  # x is a cross that is turned


def test_classes_are_hidden_and_shown(tab: Opened) -> None:
    button = tab.page.locator(".legend.classes button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    left = points(tab)["customdata"]
    assert left == [i for i in range(EXPLORED_POINTS) if i % 10 != 0]
    button.click()
    assert len(points(tab)["customdata"]) == EXPLORED_POINTS


def test_the_image_of_a_point_under_the_pointer(tab: Opened) -> None:
    peek = tab.page.locator(".peek")
    tab.page.mouse.move(*place(tab, 13))
    peek.wait_for(state="visible")
    assert peek.inner_text().strip() == "class 3"
    assert tab.value("document.querySelector('.peek canvas').getContext('2d').getImageData(9, 11, 1, 1).data[0]") == 255
    tab.page.mouse.move(5, 5)
    peek.wait_for(state="hidden")


def test_a_press_shows_the_nearest_images(tab: Opened) -> None:
    changed(tab, lambda: own(tab), lambda: tab.page.mouse.click(*place(tab, 14)))
    assert own(tab).splitlines()[0] == "class 4"
    tiles = tab.page.locator(".detail .near button")
    assert tiles.count() == 3
    assert rings(tab) == 4
    image = pixels(tab, ".detail .own canvas")
    changed(tab, lambda: pixels(tab, ".detail .own canvas"), lambda: tiles.nth(1).click())
    assert image != pixels(tab, ".detail .own canvas")


def test_the_keyboard_goes_on_from_neighbour_to_neighbour(tab: Opened) -> None:
    """The images under the focus are replaced: the focus goes to the first of the new ones."""
    tab.page.locator(".code-map").focus()
    tab.page.keyboard.press("Escape")
    tab.page.keyboard.press("ArrowRight")
    for _ in range(2):
        tiles = tab.page.locator(".detail .near button")
        tiles.nth(1).focus()
        wanted = tiles.nth(1).locator("canvas").get_attribute("data-index")
        changed(tab, lambda: pixels(tab, ".detail .own canvas"), lambda: tab.page.keyboard.press("Enter"))
        assert tab.page.locator(".detail .own canvas").get_attribute("data-index") == wanted
        assert tab.value("document.activeElement === document.querySelector('.detail .near button')")


def test_a_brush_shows_what_it_covers_until_a_double_click(tab: Opened) -> None:
    tab.page.locator(".map-plot").scroll_into_view_if_needed()
    box = tab.page.locator(".map-plot").bounding_box()
    assert box is not None
    tab.page.mouse.move(box["x"] + 12, box["y"] + 12)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 14, steps=5)
    tab.page.mouse.up()
    heading = tab.page.locator(".detail .brushed h3")
    heading.wait_for()
    count = int(heading.inner_text().split()[0])
    assert 0 < count < EXPLORED_POINTS
    assert tab.page.locator(".detail .brushed button").count() == count
    tab.page.mouse.dblclick(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2)
    heading.wait_for(state="detached")


def test_the_map_by_keyboard(tab: Opened) -> None:
    tab.page.locator(".code-map").focus()
    moved = 0
    for key, (axis, sign) in {
        "ArrowRight": ("x", 1),
        "ArrowLeft": ("x", -1),
        "ArrowUp": ("y", 1),
        "ArrowDown": ("y", -1),
    }.items():
        last = f"{PLOT}.data[2].{axis}.at(-1)"
        before = tab.value(last)
        tab.page.keyboard.press(key)
        step = sign * (tab.value(last) - before)
        assert step >= 0
        moved += step > 0
    assert moved >= 3  # at a border there is nowhere to go
    tab.page.keyboard.press("Escape")
    assert own(tab) == ""
    assert rings(tab) == 0
    tab.page.keyboard.press("ArrowRight")
    assert own(tab).startswith("class")


@pytest.mark.parametrize(
    ("control", "key", "canvas"),
    [("step", "ArrowRight", "between"), ("row", "ArrowUp", "inside"), ("column", "ArrowLeft", "inside")],
)
def test_sliders_walk(tab: Opened, control: str, key: str, canvas: str) -> None:
    slider = tab.page.locator(f'[data-walk="{control}"]')
    slider.focus()
    said = slider.get_attribute("aria-valuetext")
    changed(tab, lambda: pixels(tab, f'[data-walk="{canvas}"]'), lambda: tab.page.keyboard.press(key))
    assert slider.get_attribute("aria-valuetext") != said


def test_another_pair_to_walk_between(tab: Opened) -> None:
    select = tab.page.locator('[data-walk="walk"]')
    changed(tab, lambda: pixels(tab, '[data-walk="start"]'), lambda: select.select_option("1"))


def test_the_cursor_of_all_curves(tab: Opened) -> None:
    unfold(tab, "learning")
    unfold(tab, "development")
    sliders, readouts = tab.page.locator(".cursor input"), tab.page.locator(".readout")
    assert (sliders.count(), readouts.count()) == (2, 7)
    sliders.first.scroll_into_view_if_needed()
    before = readouts.all_inner_texts()
    sliders.first.focus()
    tab.page.keyboard.press("Home")
    assert [slider.input_value() for slider in sliders.all()] == ["0", "0"]
    after = readouts.all_inner_texts()
    assert all(a != b for a, b in zip(before, after, strict=True) if "lag" in b or "Negative" in b)
    assert before != after
    panel = tab.page.locator("#study1-learning .plot").first
    box = panel.bounding_box()
    assert box is not None
    changed(
        tab,
        lambda: sliders.last.input_value(),
        lambda: tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4),
    )


def column(tab: Opened, selector: str, index: int) -> list[str]:
    return [cell.strip() for cell in tab.page.locator(f"{selector} tbody tr > :nth-child({index})").all_inner_texts()]


def test_rows_are_sorted_by_a_column(tab: Opened) -> None:
    unfold(tab, "collapse")
    table = "#study1-collapse table"
    head = tab.page.locator(f"{table} thead th").nth(2)
    head.locator("button").focus()
    tab.page.keyboard.press("Enter")
    steps = [float(text) for text in column(tab, table, 3)]
    assert steps == sorted(steps)
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    assert [float(text) for text in column(tab, table, 3)] == sorted(steps, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    tab.page.locator(f"{table} thead th button").first.click()
    assert column(tab, table, 1) == sorted(MODELS)
    assert head.get_attribute("aria-sort") is None


def test_models_are_sorted_by_a_row(tab: Opened) -> None:
    table = tab.page.locator("#study1-table table").first
    head = table.locator('th[scope="row"]').filter(has_text="NLL").first
    head.locator("button").click()
    cells = [float(text.split(" ±")[0]) for text in head.locator("xpath=../td").all_inner_texts()]
    assert cells == sorted(cells)
    models = [text.strip() for text in table.locator("thead th").all_inner_texts()][1:]
    assert models[0] == "vlae"
    assert models[-1] == "vae"
    assert head.get_attribute("aria-sort") == "ascending"


def test_legends_hide_curves(tab: Opened) -> None:
    unfold(tab, "learning")
    button = tab.page.locator("#study1-learning .legend button").first
    plot = "document.querySelector('#study1-learning .plot')"
    tab.page.locator("#study1-learning .plot").first.scroll_into_view_if_needed()
    tab.wait(f"{plot}.data?.length > 3")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert tab.value(f"{plot}.data.filter((trace) => trace.meta === 'mae').every((trace) => trace.visible === false)")
    button.click()
    assert tab.value(f"{plot}.data.every((trace) => trace.visible !== false)")
