"""Laws of images, protocols and batches: exact probabilities, and draws that depend on their key alone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data_files import grey_images

from mpdvae.data import (
    Images,
    Protocol,
    Splits,
    batch_indices,
    binarise,
    evaluation_images,
    split_train_validation,
    steps_per_epoch,
    training_batch,
)
from mpdvae.data.protocols import Binarisation, images_by_content, scaled
from mpdvae.errors import InputError
from mpdvae.seeding import seeded

STATIC = Protocol("static", evaluation_draws=1)
LEVELS = Protocol("levels", evaluation_draws=1)
INDICES = torch.tensor([3, 0, 7])


def tiny_splits(split_seed: int | None = 524287) -> Splits:
    return Splits.of("tiny", "Tiny", grey_images(8), grey_images(2), grey_images(3), split_seed)


# images ---------------------------------------------------------------------------------------------------------------


def test_take_keeps_pixels_and_labels_together() -> None:
    images = grey_images(8)
    taken = images.take(INDICES)
    assert len(taken) == 3
    assert taken.image_shape == images.image_shape == (1, 4, 3)
    assert taken.pixels.equal(images.pixels[INDICES])
    assert taken.labels is not None
    assert taken.labels.equal(INDICES)
    assert grey_images(8, labels=False).take(INDICES).labels is None


def test_hash_of_splits_depends_on_every_part() -> None:
    parts = [grey_images(8), grey_images(2), grey_images(3)]
    whole = Splits.of("tiny", "Tiny", *parts)
    assert whole.sha256 == Splits.of("tiny", "Tiny", *parts).sha256
    assert whole.to("cpu").sha256 == whole.sha256
    hashes = {whole.sha256}
    for index, part in enumerate(parts):
        pixels = part.pixels.clone()
        pixels[-1, 0, 0, 0] ^= 1
        for changed in (Images(pixels, part.labels), Images(part.pixels)):
            hashes.add(Splits.of("tiny", "Tiny", *parts[:index], changed, *parts[index + 1 :]).sha256)
    assert len(hashes) == 7


# binarisation ---------------------------------------------------------------------------------------------------------


def test_binarise_has_the_probability_of_the_grey_level() -> None:
    draws = 4000
    pixels = torch.arange(256, dtype=torch.uint8).repeat(draws, 1)
    with seeded("frequencies"):
        x = binarise(pixels)
    p = torch.arange(256) / 255
    assert x.dtype == torch.float32
    assert set(x.unique().tolist()) == {0.0, 1.0}
    # 256 frequencies at once: five standard deviations of a frequency of 4,000 draws
    assert ((x.mean(0) - p).abs() <= 5 * (p * (1 - p) / draws).sqrt()).all()


def test_black_is_never_one_and_white_always() -> None:
    with seeded("edges"):
        assert binarise(torch.zeros(1_000_000, dtype=torch.uint8)).max() == 0
        assert binarise(torch.full((1_000_000,), 255, dtype=torch.uint8)).min() == 1


def test_dynamic_training_is_a_function_of_seed_and_step() -> None:
    images = grey_images(8, 28, 28)
    first = training_batch(images, INDICES, Protocol(), seed=1, step=5)
    torch.rand(3)  # the ambient generator does not matter
    assert first.shape == (3, 1, 28, 28)
    assert first.equal(training_batch(images, INDICES, Protocol(), seed=1, step=5))
    assert not first.equal(training_batch(images, INDICES, Protocol(), seed=1, step=6))
    assert not first.equal(training_batch(images, INDICES, Protocol(), seed=2, step=5))


def test_draws_leave_the_ambient_generator_alone() -> None:
    images = grey_images(8)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    for protocol in (Protocol(), STATIC):
        training_batch(images, INDICES, protocol, seed=1, step=5)
        evaluation_images(images, protocol, "test")
    batch_indices(8, 2, seed=0, step=0)
    assert torch.rand(2).equal(expected)


def test_static_images_are_drawn_once_for_all_seeds_and_steps() -> None:
    images = grey_images(8, 28, 28)
    first = training_batch(images, INDICES, STATIC, seed=1, step=5)
    assert first.equal(training_batch(images, INDICES, STATIC, seed=2, step=9))
    assert first.equal(training_batch(images, INDICES.flip(0), STATIC, seed=1, step=5).flip(0))
    assert first.equal(evaluation_images(images, STATIC, "train")[0][INDICES])
    assert not first.equal(evaluation_images(images, STATIC, "test")[0][INDICES])
    other = Protocol("static", evaluation_draws=1, split_seed=1)
    assert not first.equal(training_batch(images, INDICES, other, seed=1, step=5))


def test_evaluation_draws_are_fixed_and_in_order() -> None:
    images = grey_images(6, 28, 28)
    x, labels = evaluation_images(images, Protocol(), "test")
    assert x.shape == (30, 1, 28, 28)
    assert labels is not None
    assert labels.equal(torch.arange(6).repeat(5))
    assert x.equal(evaluation_images(images, Protocol(), "test")[0])
    one, one_label = evaluation_images(images, Protocol(), "test", draws=1)
    assert one.equal(x[:6])
    assert one_label is not None
    assert one_label.equal(torch.arange(6))
    assert len({draw.numpy().tobytes() for draw in x.unflatten(0, (5, 6))}) == 5
    assert not x.equal(evaluation_images(images, Protocol(), "validation")[0])
    assert evaluation_images(grey_images(6, labels=False), Protocol(), "test")[1] is None


# levels, and images that are black and white already ------------------------------------------------------------------


def test_levels_are_scaled_and_not_drawn() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    for images in (Images(pixels), Images(pixels.expand(8, 3, 16, 16))):
        x, labels = evaluation_images(images, LEVELS, "test")
        assert x.shape == images.pixels.shape
        assert x.dtype == torch.float32
        assert x[0, 0].flatten().tolist() == pytest.approx([level / 127.5 - 1 for level in range(256)], abs=1e-6)
        assert (x[0, 0, 0, 0], x[0, -1, -1, -1]) == (-1, 1)
        assert labels is None
        indices = torch.zeros(2, dtype=torch.int64)
        for seed in range(2):
            assert training_batch(images, indices, LEVELS, seed, step=5).equal(x[indices])
    assert LEVELS.describe(tiny_splits()) == "Tiny 4x3, 256 levels, split 8/2/3 (seed 524287)"


def test_intensities_are_scaled_to_0_and_1() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    protocol = Protocol("intensities", evaluation_draws=1)
    for images in (Images(pixels), Images(pixels.expand(8, 3, 16, 16))):
        x, _ = evaluation_images(images, protocol, "test")
        assert x[0, 0].flatten().tolist() == pytest.approx([level / 255 for level in range(256)], abs=1e-7)
        assert training_batch(images, torch.zeros(2, dtype=torch.int64), protocol, 1, 5).equal(x[[0, 0]])
        assert images_by_content(images.pixels, protocol)[0].equal(x)
    assert protocol.describe(tiny_splits()) == "Tiny 4x3, intensities k / 255, split 8/2/3 (seed 524287)"


@pytest.mark.parametrize("bits", [1, 4, 5, 8])
def test_fewer_levels_are_those_that_the_first_bits_tell_apart(bits: int) -> None:
    levels, pixels = 2**bits, torch.arange(256, dtype=torch.uint8)
    k = torch.tensor([pixel >> (8 - bits) for pixel in range(256)])
    signed = scaled(pixels, Protocol("levels", 1, levels=levels))
    torch.testing.assert_close((signed + 1) * ((levels - 1) / 2), k.float())
    torch.testing.assert_close(scaled(pixels, Protocol("intensities", 1, levels=levels)) * (levels - 1), k.float())
    assert f"{levels} levels" in Protocol("levels", 1, levels=levels).describe(tiny_splits())


def test_levels_of_16_bits() -> None:
    pixels = torch.tensor([0, 1, 255, 256, 65535], dtype=torch.uint16)
    found = scaled(pixels, Protocol("levels", 1, levels=2**16))
    torch.testing.assert_close((found.double() + 1) * 32767.5, pixels.double(), rtol=0, atol=0.01)
    reduced = scaled(pixels, Protocol("levels", 1, levels=256))
    torch.testing.assert_close((reduced + 1) * 127.5, torch.tensor([0.0, 0.0, 0.0, 1.0, 255.0]))


def test_more_levels_than_the_images_have_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"data.levels: Tiny has images of 256 levels, .* got 65536; use --data.levels 256"
    ):
        Protocol("levels", 1, levels=2**16).check(tiny_splits())


def test_colour_is_not_binarised() -> None:
    colour = Images(torch.zeros(8, 3, 2, 2, dtype=torch.uint8))
    data = Splits.of("tiny", "Tiny", colour, colour, colour)
    assert LEVELS.describe(data) == "Tiny 2x2 colour, 256 levels, split 8/8/8"
    for protocol in (Protocol(), STATIC):
        words = (
            f"{protocol.binarisation} binarisation is for grey images, .* 3 channels; use --data.binarisation levels"
        )
        for use in (
            lambda p: p.describe(data),
            lambda p: p.check(data),
            lambda p: training_batch(colour, INDICES, p, 0, 0),
            lambda p: evaluation_images(colour, p, "test"),
        ):
            with pytest.raises(InputError, match=words):
                use(protocol)


def shifts_of(image: torch.Tensor, shift: int, flip: bool) -> list[torch.Tensor]:
    """All images [height width] that flips and shifts can make of one."""
    padded = torch.nn.functional.pad(image[None].float(), (shift,) * 4, mode="replicate")[0].to(image.dtype)
    height, width = image.shape
    steps = [(down, right) for down in range(2 * shift + 1) for right in range(2 * shift + 1)]
    shifted = [padded[down : down + height, right : right + width] for down, right in steps]
    return [*shifted, *([x.flip(1) for x in shifted] if flip else [])]


@pytest.mark.parametrize(("flip", "shift"), [(True, 0), (False, 1), (True, 2)])
def test_training_images_are_mirrored_and_shifted_in_every_way(flip: bool, shift: int) -> None:
    images = grey_images(1, 5, 4)
    protocol = Protocol("levels", evaluation_draws=1, flip=flip, shift=shift)
    possible = {x.numpy().tobytes() for x in shifts_of(images.pixels[0, 0], shift, flip)}
    batch = training_batch(images, torch.zeros(1000, dtype=torch.long), protocol, seed=1, step=5)
    levels = ((batch + 1) * 127.5).round().to(torch.uint8)
    assert {x.numpy().tobytes() for x in levels[:, 0]} == possible


def test_mirroring_and_shifting_is_a_function_of_seed_and_step() -> None:
    images, indices = grey_images(50), torch.arange(50)
    protocol = Protocol("levels", evaluation_draws=1, flip=True, shift=1)
    first = training_batch(images, indices, protocol, seed=1, step=5)
    assert first.equal(training_batch(images, indices, protocol, seed=1, step=5))
    assert not first.equal(training_batch(images, indices, protocol, seed=1, step=6))
    assert not first.equal(training_batch(images, indices, protocol, seed=2, step=5))


@pytest.mark.parametrize("binarisation", ["dynamic", "static"])
def test_binary_images_are_mirrored_and_shifted_too(binarisation: Binarisation) -> None:
    black_and_white = Images(255 * torch.randint(0, 2, (1, 1, 5, 4), dtype=torch.uint8))
    protocol = Protocol(binarisation, evaluation_draws=1, flip=True, shift=1)
    batch = training_batch(black_and_white, torch.zeros(500, dtype=torch.long), protocol, seed=1, step=5)
    possible = {x.float().numpy().tobytes() for x in shifts_of(black_and_white.pixels[0, 0] // 255, 1, True)}
    assert {x.numpy().tobytes() for x in batch[:, 0]} == possible


def test_validation_and_test_images_stay_as_they_are() -> None:
    images = grey_images(6)
    for split in ("train", "validation", "test"):
        moved = evaluation_images(images, Protocol(flip=True, shift=1), split)[0]
        assert moved.equal(evaluation_images(images, Protocol(), split)[0])


def test_rows_of_fixed_draws_are_those_of_all_draws() -> None:
    images, chosen = grey_images(6), torch.tensor([17, 0, 6, 29])
    x, labels = evaluation_images(images, Protocol(), "test")
    some, some_labels = evaluation_images(images, Protocol(), "test", chosen=chosen)
    assert labels is not None
    assert some_labels is not None
    assert some.equal(x[chosen])
    assert some_labels.equal(labels[chosen])
    assert evaluation_images(images, LEVELS, "test", chosen=torch.tensor([3, 0]))[0].equal(
        evaluation_images(images, LEVELS, "test")[0][[3, 0]]
    )


def test_black_and_white_images_are_given_back_by_every_draw() -> None:
    images = Images(torch.tensor([0, 255], dtype=torch.uint8)[torch.randint(0, 2, (8, 1, 4, 3))])
    data = Splits.of("tiny", "Tiny", images, images, images, binarised="static binarisation by X")
    once = Protocol(evaluation_draws=1)
    for protocol in (once, STATIC):
        assert protocol.describe(data) == "Tiny 4x3, static binarisation by X, split 8/8/8"
        assert training_batch(images, INDICES, protocol, 1, 2).equal(images.pixels[INDICES] / 255)
        assert evaluation_images(images, protocol, "test")[0].equal(images.pixels / 255)
    with pytest.raises(
        InputError, match=r"Tiny is black and white already, so its 5 draws .* --data.evaluation-draws 1"
    ):
        Protocol().describe(data)


# names and refusals ---------------------------------------------------------------------------------------------------


def test_a_protocol_says_its_name() -> None:
    data = tiny_splits()
    assert Protocol().describe(data) == "Tiny 4x3, dynamic binarisation, 5 fixed test draws, split 8/2/3 (seed 524287)"
    assert "1 fixed test draw, split" in Protocol(evaluation_draws=1).describe(data)
    assert "static binarisation (drawn once, seed 524287), split 8/2/3" in STATIC.describe(data)
    assert Protocol().describe(tiny_splits(split_seed=None)).endswith("split 8/2/3")


def test_a_name_cannot_lie() -> None:
    with pytest.raises(InputError, match="split by seed 524287, but the protocol specifies 1"):
        Protocol(split_seed=1).describe(tiny_splits())
    with pytest.raises(InputError, match="2 validation images, but the protocol specifies 3"):
        Protocol(validation_size=3).describe(tiny_splits())


def test_contradicting_settings_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"draws every image once, but evaluation_draws is 5: set evaluation_draws to 1"
    ):
        Protocol("static")
    with pytest.raises(
        InputError, match=r"with levels nothing is drawn, but evaluation_draws is 5: set evaluation_draws"
    ):
        Protocol("levels")
    with pytest.raises(InputError, match="evaluation_draws must be at least 1, but 0"):
        Protocol(evaluation_draws=0)
    with pytest.raises(InputError, match="shift must be 0 or more pixels, but -1"):
        Protocol(shift=-1)
    with pytest.raises(InputError, match=r"--data\.shift: expected less than the size of the images, 4x3, got 3"):
        Protocol(shift=3).check(tiny_splits())
    with pytest.raises(InputError, match="validation_size must be at least 1, but 0"):
        Protocol(validation_size=0)
    with pytest.raises(InputError, match="unknown binarisation 'dynamik': did you mean 'dynamic'"):
        Protocol.__post_init__(SimpleNamespace(binarisation="dynamik"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown part of the data 'valid': did you mean 'validation'"):
        evaluation_images(grey_images(2), Protocol(), "valid")
    for draws in (0, 6):
        with pytest.raises(InputError, match=f"draws must be 1 to 5 .* but {draws} was given"):
            evaluation_images(grey_images(2), Protocol(), "test", draws=draws)


# the split ------------------------------------------------------------------------------------------------------------


def test_the_papers_split() -> None:
    order = list(range(60_000))
    np.random.RandomState(524287).shuffle(order)
    train, validation = split_train_validation(60_000, 2_000, 524287)
    assert train.tolist() == order[:58_000]
    assert validation.tolist() == order[-2_000:]


def test_impossible_splits_are_refused() -> None:
    for size in (0, 10, 11):
        with pytest.raises(InputError, match=f"10 images cannot be split: {size} were requested"):
            split_train_validation(10, size, 0)
    with pytest.raises(InputError, match=r"split_seed must lie in 0.."):
        split_train_validation(10, 2, -1)


# batches --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (12, 4), (5, 5), (7, 1)])
def test_an_epoch_visits_each_image_at_most_once(n: int, batch_size: int) -> None:
    steps = steps_per_epoch(n, batch_size)
    for epoch in range(3):
        visited = [i for s in range(steps) for i in batch_indices(n, batch_size, 0, epoch * steps + s).tolist()]
        assert len(visited) == len(set(visited)) == n - n % batch_size
        assert set(visited) <= set(range(n))


def test_what_an_epoch_leaves_out_comes_in_another() -> None:
    visited = {i for step in range(3 * 20) for i in batch_indices(10, 3, 0, step).tolist()}
    assert visited == set(range(10))


def test_order_depends_on_seed_and_step_alone() -> None:
    forwards = [batch_indices(50, 10, 0, step).tolist() for step in range(15)]
    backwards = [batch_indices(50, 10, 0, step).tolist() for step in reversed(range(15))]
    assert forwards == backwards[::-1]
    assert forwards[:5] != forwards[5:10]
    assert forwards[:5] != [batch_indices(50, 10, 1, step).tolist() for step in range(5)]


def test_a_batch_may_be_changed_in_place() -> None:
    before = batch_indices(50, 10, 0, 0)
    kept = before.clone()
    before.zero_()
    assert batch_indices(50, 10, 0, 0).equal(kept)


def test_impossible_batches_are_refused() -> None:
    with pytest.raises(InputError, match="batch_size is 11, but there are only 10 training images: choose at most 10"):
        batch_indices(10, 11, 0, 0)
    with pytest.raises(InputError, match="batch_size must be at least 1, but 0"):
        steps_per_epoch(10, 0)
    with pytest.raises(InputError, match="step must not be negative, but -1"):
        batch_indices(10, 2, 0, -1)
