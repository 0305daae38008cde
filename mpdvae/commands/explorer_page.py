"""The local web page of `mpdvae explore`, built with panel (https://panel.holoviz.org): controls around a `Live` model.

The page is served on 127.0.0.1 only and cannot be reached from other machines. Colours follow the reader's light or dark
colour scheme: panel's own variables are set once, for the whole page (explorer_page.css).
"""

import socket
from importlib.resources import files
from typing import Any

from mpdvae.commands.explorer_model import DRAWS, Live
from mpdvae.errors import InputError, RunError
from mpdvae.report.palette import class_style
from mpdvae.system.untrusted_text import escape

ADDRESS = "127.0.0.1"
SAMPLES, MIX_STEPS = 16, 8
CODE_REACH = 3.0
"""Range of the slider, in standard deviations to either side."""
MARKERS = {
    "triangle-up": "triangle",
    "triangle-down": "inverted_triangle",
    "x": "square_pin",
    "cross": "plus",
    "hexagon": "hex",
    "pentagon": "triangle_pin",
}
"""Bokeh's names for shapes of the palette, or for the most similar shapes that it has."""
DRAWN = (
    "The pixels of this model depend on each other and are drawn anew for each image: what several images of one code share "
    "comes from the code."
)
MEANS = "Images are the means of the pixels, given the code."
MAP = "Each point is an image, where the two directions in which codes differ most put its code. Click on one."
MOST_NAMED = 12
"""Classes that the map's legend has room for."""
WIDE: dict[str, Any] = {"sizing_mode": "stretch_width"}
ARROWS = """
select.bk-input { appearance: auto !important; background-image: none !important; }
.bk-spin-btn-up:before { border-bottom-color: currentColor !important; }
.bk-spin-btn-down:before { border-top-color: currentColor !important; }
"""
"""Bokeh draws the arrows of its widgets in black; this gives them the colour of the text."""


def check_panel() -> None:
    """Raises `InputError` if panel is not installed."""
    from importlib.util import find_spec

    if find_spec("panel") is None:
        raise InputError(
            "explore: requires the package panel; install it with pip install 'mpdvae[explore]'.", topic="extras"
        )


def check_port(port: int) -> None:
    """Raises `InputError` if the number is not a valid port, and `RunError` if another program uses the port."""
    if not 1 <= port <= 65535:
        raise InputError(f"--port: expected a number from 1 to 65535, got {port}.", topic="port")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            raise RunError(
                f"--port: {port} is taken by another program; give another, such as --port {port % 65535 + 1}.",
                topic="port",
            ) from None


def serve(live: Live, port: int) -> None:
    """Serves `live` until interrupted."""
    import panel

    panel.extension(raw_css=[files("mpdvae.commands").joinpath("explorer_page.css").read_text()])
    origins = [f"{name}:{port}" for name in (ADDRESS, "localhost")]
    print(f"http://{ADDRESS}:{port}  (press Ctrl-C to stop)", flush=True)
    panel.serve(  # until Ctrl-C
        lambda: page(live),
        address=ADDRESS,
        port=port,
        show=False,
        websocket_origin=origins,
        verbose=False,
        title=f"{live.experiment.name} - mpdvae explore",
    )
    print("\nServer stopped.", flush=True)


def page(live: Live) -> Any:
    """Returns the page for one visitor."""
    import panel as pn

    chosen = pn.widgets.IntSlider(name="Image", start=0, end=len(live.x) - 1, value=0, **WIDE)
    whose = f"{live.experiment.name}, seed {live.experiment.seed}"
    return pn.Column(
        pn.pane.Markdown(f"# {whose}\n\n{DRAWN if live.pixels_are_drawn else MEANS}", margin=(0, 5)),
        pn.FlexBox(
            _column(_part("Choose an image", _map(live, chosen), _caption(MAP), chosen, _pair(live, chosen))),
            _column(
                _part("Move along a dimension", *_along(live, chosen)),
                _part("Mix it with another", *_mix(live, chosen)),
            ),
            _column(_part("Sample", *_samples(live))),
            gap="16px",
            align_items="flex-start",
        ),
        sizing_mode="stretch_width",
        css_classes=["explore"],
    )


def _column(*parts: Any) -> Any:
    """Returns one of the columns that stand side by side where there is room, and share it."""
    import panel as pn

    return pn.Column(*parts, styles={"flex": "1 1 340px", "min-width": "0", "gap": "16px"})


def _part(title: str, *content: Any) -> Any:
    import panel as pn

    heading = pn.pane.Markdown(f"## {title}", margin=(0, 5))
    return pn.Column(heading, *content, sizing_mode="stretch_width", css_classes=["part"])


def _map(live: Live, chosen: Any) -> Any:
    """Returns a map with a point for each image: a click selects an image, and a ring marks the selected one."""
    from bokeh.models import ColumnDataSource
    from bokeh.plotting import figure

    count = len(live.x)
    styles = [("#888888", "circle")] * count if live.classes is None else [class_style(c) for c in live.classes]
    data = {
        "x": live.places[:, 0],
        "y": live.places[:, 1],
        "colour": [colour for colour, _ in styles],
        "marker": [MARKERS.get(symbol, symbol) for _, symbol in styles],
        "label": [live.called(i) for i in range(count)],
    }
    source = ColumnDataSource(data)
    ring = ColumnDataSource(_place(live, chosen.value))
    clear = {"background_fill_alpha": 0, "border_fill_alpha": 0, "outline_line_color": "#888888"}
    plot = figure(
        sizing_mode="stretch_width",
        height=320,
        tools="tap,pan,wheel_zoom,reset",
        tooltips="@label",
        toolbar_location=None,
        **clear,
    )
    plot.axis.visible = plot.grid.visible = False
    points = plot.scatter(
        "x", "y", source=source, color="colour", marker="marker", size=7, nonselection_alpha=1, selection_alpha=1
    )
    if live.classes is not None:
        _add_legend(plot, points, data["label"])
    plot.scatter("x", "y", source=ring, marker="circle", size=18, fill_alpha=0, line_color="#888888", line_width=3)

    def press(attribute: str, old: list[int], new: list[int]) -> None:
        if new:
            chosen.value = new[0]

    source.selected.on_change("indices", press)
    chosen.param.watch(lambda event: ring.data.update(_place(live, event.new)), "value")
    return plot


def _add_legend(plot: Any, points: Any, labels: list[str]) -> None:
    """Names the classes beside the map, if there are few."""
    from bokeh.models import Legend, LegendItem

    first = {label: labels.index(label) for label in sorted(set(labels))}
    if len(first) > MOST_NAMED:
        return
    items = [LegendItem(label=label, renderers=[points], index=index) for label, index in first.items()]
    look: dict[str, Any] = {
        "padding": 0,
        "background_fill_alpha": 0,
        "border_line_alpha": 0,
        "label_text_color": "#888888",
    }
    plot.add_layout(Legend(items=items, label_text_font_size="12px", spacing=0, margin=0, **look), "right")


def _place(live: Live, point: int) -> dict[str, Any]:
    x, y = live.places[point]
    return {"x": [float(x)], "y": [float(y)]}


def _pair(live: Live, chosen: Any) -> Any:
    import panel as pn

    original = pn.bind(lambda i: _png(live.png(live.x[i : i + 1], 1), 280, "the image"), chosen)
    decoded = pn.bind(lambda i: _png(live.images(live.repeated(i), 2, i), 280, "its code, decoded"), chosen)
    under = f"its code, drawn {DRAWS} times" if live.pixels_are_drawn else "its code, decoded"
    return pn.Row(
        pn.Column(original, pn.bind(lambda i: _caption(_of_class(live, i)), chosen), **WIDE),
        pn.Column(decoded, _caption(under), **WIDE),
        **WIDE,
    )


def _of_class(live: Live, point: int) -> str:
    return "the image" if live.classes is None else f"the image: {escape(live.called(point))}"


def _caption(markdown: str) -> Any:
    import panel as pn

    return pn.pane.Markdown(markdown, margin=(0, 10))


def _along(live: Live, chosen: Any) -> list[Any]:
    import panel as pn

    order = {f"{k} (rank {place} by information)": k for place, k in enumerate(live.dimensions, start=1)}
    dimension = pn.widgets.Select(name="Dimension", options=order, stylesheets=[ARROWS])
    move = pn.widgets.FloatSlider(
        name="Standard deviations", start=-CODE_REACH, end=CODE_REACH, step=0.25, value=0, **WIDE
    )
    image = pn.bind(
        lambda i, k, d: _png(live.images(live.moved(i, k, d), 2, i), 400, "moved along a dimension"),
        chosen,
        dimension,
        move,
    )
    return [dimension, move, image]


def _mix(live: Live, chosen: Any) -> list[Any]:
    import panel as pn

    other = pn.widgets.IntSlider(
        name="Other image", start=0, end=len(live.x) - 1, value=min(1, len(live.x) - 1), **WIDE
    )
    images = pn.bind(
        lambda i, j: _png(
            live.images(live.mixed(i, j, MIX_STEPS), MIX_STEPS // 2, i), 560, "from one image to the other"
        ),
        chosen,
        other,
    )
    return [other, images]


def _samples(live: Live) -> list[Any]:
    import panel as pn

    temperature = pn.widgets.FloatSlider(name="Temperature", start=0, end=2, step=0.1, value=1, **WIDE)
    seed = pn.widgets.IntInput(name="Seed", start=0, value=0, stylesheets=[ARROWS])
    images = pn.bind(
        lambda t, s: _png(live.images(live.drawn(SAMPLES, t, s), 4), 560, "samples"),
        temperature.param.value_throttled,
        seed,
    )
    return [temperature, seed, images]


def _png(content: bytes, most: int, alt: str) -> Any:
    """Returns a picture as wide as its column, but at most so many pixels."""
    import panel as pn

    styles = {"image-rendering": "pixelated", "max-width": f"{most}px"}
    return pn.pane.PNG(content, sizing_mode="scale_width", embed=True, alt_text=alt, styles=styles)
