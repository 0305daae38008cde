"""The model behind `mpdvae explore`, its port, and what is said where it cannot be shown."""

import io
import socket

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import tiny

from mpdvae.commands.explorer_model import Live, live
from mpdvae.commands.explorer_page import check_port
from mpdvae.commands.model_images import model_images
from mpdvae.errors import InputError, RunError
from mpdvae.evaluation.exploration import image_of
from mpdvae.runs.model_folder import load


@pytest.fixture(scope="module")
def shown(finished) -> Live:
    vae = load(finished)
    return live(tiny(), vae, *model_images(finished, vae, None))


def test_a_move_changes_one_dimension_by_its_spread(shown):
    z = shown.moved(3, 2, 1.5)
    difference = z[0] - shown.z[3]
    assert difference[2] == pytest.approx(1.5 * shown.spread[2].item(), rel=1e-4)
    assert difference.count_nonzero() == 1
    assert sorted(shown.dimensions) == list(range(8))


def test_codes_whose_pixels_are_drawn_are_shown_in_several_draws(shown):
    """With noise of their own."""
    assert shown.pixels_are_drawn
    codes = shown.repeated(2)
    assert len(codes) == len(shown.moved(2, 0, 1.0)) == 4
    assert (codes == shown.z[2]).all()
    images = image_of(shown.vae, codes)[0]
    assert len({image.numpy().tobytes() for image in images}) > 1


def test_codes_whose_pixels_are_means_are_shown_once(tmp_path):
    vae = tiny("vae-digits-smoke").build((1, 8, 8)).eval()
    once = live(tiny("vae-digits-smoke"), vae, torch.bernoulli(torch.full((5, 1, 8, 8), 0.3)), None)
    assert not once.pixels_are_drawn
    assert len(once.repeated(2)) == 1


def test_mixtures_begin_and_end_at_codes(shown):
    z = shown.mixed(1, 5, 4)
    torch.testing.assert_close(z[[0, -1]], shown.z[[1, 5]])


def test_temperature_is_the_spread_about_the_middle(shown):
    cold, plain, hot = (shown.drawn(6, t, seed=1) for t in (0.0, 1.0, 2.0))
    assert (cold == cold[0]).all()
    torch.testing.assert_close(hot - cold, 2 * (plain - cold))
    assert not torch.equal(plain, shown.drawn(6, 1.0, seed=2))


def test_the_same_codes_are_the_same_image(shown):
    first, again = (shown.images(shown.z[:4], 4) for _ in range(2))
    assert first == again
    with Image.open(io.BytesIO(first)) as picture:
        assert len(np.unique(np.asarray(picture))) > 1


@pytest.mark.parametrize("port", [0, 65536])
def test_ports_that_there_are_not(port):
    with pytest.raises(InputError, match=f"--port: expected a number from 1 to 65535, got {port}"):
        check_port(port)


def test_a_port_that_is_taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RunError, match=f"--port: {port} is taken by another program; give another"):
            check_port(port)
    check_port(port)
