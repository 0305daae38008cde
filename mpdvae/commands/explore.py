"""The command that shows a model on a local page."""

from pathlib import Path

from tyro.conf import Positional


def explore(directory: Positional[Path], port: int = 5006, data_dir: Path | None = None) -> None:
    """Explore a model on a local page: press, move, mix, sample.

    The page is at http://127.0.0.1:PORT, for this machine alone.

    Args:
        directory: folder of the run.
        port: of the page.
        data_dir: folder of the data; of own images that have moved: their new place.
    """
    from mpdvae.commands.explorer_page import check_panel, check_port, serve
    from mpdvae.workflows.job import check_same_data, data_of

    check_panel()
    check_port(port)
    from mpdvae.commands.explorer_model import live
    from mpdvae.runs.run_folder import Run

    run = Run(directory)
    data = data_of(run, data_dir)
    check_same_data(run, data)
    serve(live(run, data), port)
