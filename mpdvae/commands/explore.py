"""The command `explore`, which serves a local web page of a model."""

from pathlib import Path

from tyro.conf import Positional


def explore(source: Positional[str], port: int = 5006, data_dir: Path | None = None) -> None:
    """Explore a model on a local web page: click, move, mix, sample.

    The page is at http://127.0.0.1:PORT and accessible from this machine only.

    Args:
        source: Folder of the run, or name of a model that comes with the package (`mpdvae models`).
        port: Port of the page.
        data_dir: Folder of the data; for your own images that have moved: their new location.
    """
    from mpdvae.commands.explorer_page import check_panel, check_port, serve

    check_panel()
    check_port(port)
    from mpdvae.commands.explorer_model import live
    from mpdvae.commands.model_images import model_images
    from mpdvae.experiments.experiment import origin_of
    from mpdvae.runs.model_folder import load
    from mpdvae.sharing.shipped import located

    folder = located(source)
    vae = load(folder)
    serve(live(origin_of(vae).experiment, vae, *model_images(folder, vae, data_dir)), port)
