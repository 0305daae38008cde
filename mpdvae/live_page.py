"""The local page of `mpdvae explore`, made with panel (https://panel.holoviz.org): controls around a `Live` model.

Served on 127.0.0.1 alone, to this machine and nobody else.
"""

import socket
from typing import Any

from mpdvae.errors import InputError
from mpdvae.live import Live
from mpdvae.report.palette import class_style

ADDRESS = "127.0.0.1"
SAMPLES, MIX_STEPS = 16, 8
CODE_REACH = 3.0
"""Standard deviations to either side."""


def check_panel() -> None:
    """Raises `InputError` where panel is not installed."""
    from importlib.util import find_spec

    if find_spec("panel") is None:
        raise InputError(
            "explore: needs the package panel; install it with pip install 'mpdvae[explore]'.", topic="extras"
        )


def check_port(port: int) -> None:
    """Raises `InputError` unless this machine has `port` free."""
    if not 1 <= port <= 65535:
        raise InputError(f"--port: expected a number from 1 to 65535, got {port}.", topic="port")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            raise InputError(
                f"--port: {port} is taken by another program; give another, such as --port {port % 65535 + 1}.",
                topic="port",
            ) from None


def serve(live: Live, port: int) -> None:
    """Shows `live` until it is interrupted."""
    import panel

    panel.extension()
    origins = [f"{name}:{port}" for name in (ADDRESS, "localhost")]
    print(f"http://{ADDRESS}:{port}  (Ctrl-C ends it)", flush=True)
    panel.serve(lambda: page(live), address=ADDRESS, port=port, show=False, websocket_origin=origins, verbose=False)


def page(live: Live) -> Any:
    """The page of one visitor."""
    import panel as pn

    chosen = pn.widgets.IntSlider(name="image", start=0, end=len(live.x) - 1, value=0)
    source, plot = _map(live)
    source.selected.on_change("indices", lambda _, __, new: setattr(chosen, "value", new[0]) if new else None)
    return pn.Column(
        pn.pane.Markdown(f"## {live.run.experiment.name}, seed {live.run.experiment.seed}"),
        pn.Row(
            pn.Column(plot, chosen, pn.bind(lambda i: _png(live.png(live.x[i : i + 1], 1), 120), chosen)),
            pn.Column(*_along(live, chosen), *_mix(live, chosen), *_samples(live)),
        ),
        sizing_mode="stretch_width",
    )


def _map(live: Live) -> tuple[Any, Any]:
    from bokeh.models import ColumnDataSource
    from bokeh.plotting import figure

    colours = [class_style(int(label))[0] if label else "#888888" for label in live.labels]
    data = {"x": live.places[:, 0], "y": live.places[:, 1], "colour": colours, "label": live.labels}
    source = ColumnDataSource(data)
    plot = figure(width=420, height=380, tools="tap,pan,box_zoom,reset", title="press a point", tooltips="class @label")
    plot.axis.visible = plot.grid.visible = False
    plot.scatter("x", "y", source=source, color="colour", size=7)
    return source, plot


def _along(live: Live, chosen: Any) -> list[Any]:
    import panel as pn

    order = {f"{k} (number {place} by information)": k for place, k in enumerate(live.dimensions, start=1)}
    dimension = pn.widgets.Select(name="dimension", options=order)
    move = pn.widgets.FloatSlider(name="standard deviations", start=-CODE_REACH, end=CODE_REACH, step=0.25, value=0)
    image = pn.bind(lambda i, k, d: _png(live.images(live.moved(i, k, d), 1), 160), chosen, dimension, move)
    return [pn.pane.Markdown("### Along a dimension"), pn.Row(image, pn.Column(dimension, move))]


def _mix(live: Live, chosen: Any) -> list[Any]:
    import panel as pn

    other = pn.widgets.IntSlider(name="other image", start=0, end=len(live.x) - 1, value=min(1, len(live.x) - 1))
    images = pn.bind(lambda i, j: _png(live.images(live.mixed(i, j, MIX_STEPS), MIX_STEPS), 520), chosen, other)
    return [pn.pane.Markdown("### Mixed with another image"), other, images]


def _samples(live: Live) -> list[Any]:
    import panel as pn

    temperature = pn.widgets.FloatSlider(name="temperature", start=0, end=2, step=0.1, value=1)
    seed = pn.widgets.IntInput(name="seed", start=0, value=0)
    images = pn.bind(
        lambda t, s: _png(live.images(live.drawn(SAMPLES, t, s), 8), 520), temperature.param.value_throttled, seed
    )
    return [pn.pane.Markdown("### Samples"), pn.Row(temperature, seed), images]


def _png(content: bytes, width: int) -> Any:
    import panel as pn

    return pn.pane.PNG(content, width=width, embed=True)
