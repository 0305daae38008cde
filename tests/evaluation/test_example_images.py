"""Images in a model folder: what is written is read again, bit by bit, whatever images a model has."""

import json

import pytest
import torch
from small_runs import tiny

from mpdvae.data.conditions import NOTHING, Known
from mpdvae.data.picture_file import read_picture
from mpdvae.data.protocols import conditioned, scaled
from mpdvae.errors import InputError
from mpdvae.evaluation.example_images import ABOUT, SHEET, Examples, read_examples, write
from mpdvae.experiments.experiment import Origin
from mpdvae.system.closed_folder import Inside

BINARY = {"data__binarisation": "dynamic"}
LEVELS = {"data__binarisation": "levels", "data__evaluation_draws": 1}
each_values = pytest.mark.parametrize("values", [BINARY, LEVELS], ids=["binary", "levels"])


def written(folder, channels, values, count=7, known=NOTHING, **told):
    """Examples of random images, and the origin of a model that takes them."""
    experiment = tiny("vae-digits-smoke", **values, **told)
    pixels = torch.randint(0, 256, (count, channels, 4, 5), dtype=torch.uint8)
    pixels = pixels // 128 * 255 if values is BINARY else pixels
    protocol = experiment.data.protocol()
    x = conditioned(scaled(pixels, protocol), known, protocol)
    examples = Examples(x, list(range(count)), known, [0.0], drawn=False)
    write(Inside(folder), examples, experiment.data)
    return examples, Origin(experiment, (channels, 4, 5))


@each_values
@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 16, 30, 64])
def test_images_of_any_number_of_channels_are_read_as_they_were_written(tmp_path, channels, count, values):
    examples, origin = written(tmp_path, channels, values, count)
    again = read_examples(Inside(tmp_path), origin)
    assert again is not None
    assert torch.equal(again.x, examples.x)
    assert read_picture(tmp_path / SHEET).shape[0] == (3 if channels == 3 else 1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_a_model_is_told_is_beside_all_channels(tmp_path, channels):
    known = Known(torch.arange(7) % 3, torch.rand(7, 2))
    told = {"data__condition_classes": 3, "data__condition_covariates": 2}
    examples, origin = written(tmp_path, channels, BINARY, known=known, **told)
    again = read_examples(Inside(tmp_path), origin)
    assert again is not None
    assert torch.equal(again.x, examples.x)


@pytest.mark.parametrize(("channels", "others"), [(1, 4), (2, 1), (3, 1), (3, 4), (4, 2), (4, 3), (5, 4)])
def test_images_of_another_number_of_channels_are_refused(tmp_path, channels, others):
    _, origin = written(tmp_path, channels, BINARY)
    with pytest.raises(InputError, match=f"{SHEET} is broken"):
        read_examples(Inside(tmp_path), Origin(origin.experiment, (others, 4, 5)))


@pytest.mark.parametrize("columns", [1, 3, 24])
def test_a_row_of_another_number_of_images_is_refused(tmp_path, columns):
    _, origin = written(tmp_path, 4, BINARY)
    about = json.loads((tmp_path / ABOUT).read_text())
    (tmp_path / ABOUT).write_text(json.dumps(about | {"columns": columns}))
    with pytest.raises(InputError, match="is broken"):
        read_examples(Inside(tmp_path), origin)
