"""Sprites: every combination of factors is drawn once, as polygons say, and no two images are alike."""

import math

import numpy as np
import pytest
import torch

from mpdvae import data
from mpdvae.data import Images, Splits, sprites
from mpdvae.errors import InputError

SIZES = (3, 4, 12, 8, 8)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return data.load("sprites")


def test_every_combination_of_factors_occurs_once(splits: Splits) -> None:
    tables = [part.factors for part in (splits.train, splits.validation, splits.test)]
    table = np.concatenate([table.numpy() for table in tables if table is not None])
    assert tuple(len(factor.values) for factor in splits.factors) == SIZES
    assert sorted(map(tuple, table.tolist())) == list(np.ndindex(SIZES))


def test_no_two_images_are_alike() -> None:
    """Nor do any two figures differ in fewer than ten pixels: the factors can be read from the image."""
    pixels, _ = sprites.drawn()
    assert len(np.unique(pixels.reshape(len(pixels), -1), axis=0)) == math.prod(SIZES)
    figures = (sprites.figures() > 0).reshape(3 * 4 * 12, -1)
    differences = (figures[:, None] != figures[None]).sum(-1)
    assert differences[~np.eye(len(figures), dtype=bool)].min() >= 10


def test_no_centre_of_a_pixel_lies_near_an_outline() -> None:
    """Rounding, which may differ between processors, therefore changes no pixel."""
    assert np.abs(sprites.figures()).min() > 1e-5


def test_a_figure_fills_its_circle_and_stays_in_it() -> None:
    offsets = np.arange(18) - 8.5
    distance = np.hypot(*np.meshgrid(offsets, offsets))
    for scale, radius in enumerate((6, 7, 8, 9)):
        reach = np.where(sprites.figures()[:, scale] > 0, distance, 0).max((2, 3))
        assert (reach <= radius).all()
        assert (reach >= 0.7 * radius).all()


def corners(shape: int) -> list[tuple[float, float]]:
    """The outline of a figure in a unit circle, counter-clockwise."""
    angles = np.linspace(0, math.pi, 2_000)
    return [
        [(0.87 * math.cos(angle), -0.39 + 0.87 * math.sin(angle)) for angle in angles],
        [(-0.66, -0.74), (0.66, -0.74), (0.66, -0.26), (-0.17, -0.26), (-0.17, 0.74), (-0.66, 0.74)],
        [(-1.77 / 2.95, -0.79), (1.77 / 2.95, -0.79), (0, 0.98)],
    ][shape]


def crosses(x: float, y: float, start: tuple[float, float], end: tuple[float, float]) -> bool:
    """Whether a ray from (x, y) to the right crosses the side of a polygon."""
    (x0, y0), (x1, y1) = start, end
    return (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0)


def polygon(shape: int, radius: float, degrees: float, x: float, y: float) -> np.ndarray:
    """A figure drawn pixel by pixel: white where a ray leaves it an odd number of times. x and y are from the upper left."""
    turned = [complex(*corner) * np.exp(1j * math.radians(degrees)) * radius for corner in corners(shape)]
    outline = [(x + point.real, y - point.imag) for point in turned]
    sides = list(zip(outline, [*outline[1:], outline[0]], strict=True))
    centres = [(column + 0.5, row + 0.5) for row in range(32) for column in range(32)]
    white = [sum(crosses(*centre, *side) for side in sides) % 2 for centre in centres]
    return np.array(white, np.uint8).reshape(32, 32)


@pytest.mark.parametrize("number", [0, 9_215, *np.random.default_rng(0).integers(9_216, size=10).tolist()])
def test_an_image_is_what_its_factors_say(number: int) -> None:
    pixels, factors = sprites.drawn()
    values = [float(f.values[k].split()[0]) for f, k in zip(sprites.FACTORS[1:], factors[number, 1:], strict=True)]
    np.testing.assert_array_equal(pixels[number], polygon(factors[number, 0], *values))


def test_the_test_images_are_fixed_and_the_labels_are_the_shapes(splits: Splits) -> None:
    assert splits.sizes == (6_216, 1_000, 2_000)
    assert splits.image_shape == (1, 32, 32)
    other = data.load("sprites", split_seed=1, validation_size=500)
    assert other.sizes == (6_716, 500, 2_000)
    assert other.test.pixels.equal(splits.test.pixels)
    for part in (splits.train, splits.validation, splits.test):
        assert part.pixels.unique().tolist() == [0, 255]
        assert part.labels is not None
        assert part.factors is not None
        assert part.labels.equal(part.factors[:, 0])


def test_the_protocol_says_that_nothing_is_drawn(splits: Splits) -> None:
    described = data.Protocol(evaluation_draws=1).describe(splits)
    assert described == "sprites 32x32, drawn black and white, split 6216/1000/2000 (seed 524287)"
    with pytest.raises(InputError, match="is black and white already"):
        data.Protocol().check(splits)


def test_the_checksum_is_the_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the images match the known checksum" in data.check("sprites")
    pixels, factors = sprites.drawn()
    pixels[5, 0, 0] = 1
    monkeypatch.setattr(sprites, "drawn", lambda: (pixels, factors))
    with pytest.raises(InputError, match="sprites: the images that are drawn here have SHA-256"):
        data.check("sprites")


def test_factors_stay_with_their_images(splits: Splits) -> None:
    chosen = torch.tensor([7, 0, 3])
    taken, table = splits.test.take(chosen).to("cpu"), splits.test.factors
    assert table is not None
    assert taken.factors is not None
    assert taken.factors.equal(table[chosen])


def test_a_column_of_a_table_has_the_hash_of_the_same_labels_on_their_own() -> None:
    pixels, table = torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.arange(6).reshape(3, 2)
    column, alone = (Images(pixels, labels) for labels in (table[:, 1], table[:, 1].clone()))
    assert Splits.of("tiny", "Tiny", *[column] * 3).sha256 == Splits.of("tiny", "Tiny", *[alone] * 3).sha256


def test_factors_are_part_of_the_hash_and_only_where_there_are_any() -> None:
    pixels, labels = torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.tensor([0, 1])
    without, zeros, ones = (
        Images(pixels, labels, factors) for factors in (None, torch.zeros(2, 1).long(), torch.ones(2, 1).long())
    )
    assert len({Splits.of("tiny", "Tiny", part, part, part).sha256 for part in (without, zeros, ones)}) == 3
