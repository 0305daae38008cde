"""The command `explore`, which serves a local web page of a model."""

from pathlib import Path

from tyro.conf import Positional


def explore(directory: Positional[Path], port: int = 5006, data_dir: Path | None = None) -> None:
    """Explore a model on a local web page: click, move, mix, sample.

    The page is at http://127.0.0.1:PORT and accessible from this machine only.

    Args:
        directory: Folder of the run.
        port: Port of the page.
        data_dir: Folder of the data; for your own images that have moved: their new location.
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
