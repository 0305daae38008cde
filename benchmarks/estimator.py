"""How good the codes of the estimator's defaults are, and how long its fit takes: `MPDVAE()` on 2,000 images of each kind.

    python -m benchmarks estimator                       # fills the table of docs/own-images.md
    python -m benchmarks estimator --only digits mnist   # prints some rows

Accuracy is that of 5 nearest neighbours among the codes of the training images, on other images of the same set. Beside it
stand 32 principal components, as many numbers as a code has, and the raw pixels. Each seed draws training and test images
anew, so that the interval of codes minus components covers this choice and training. Sets that are not in the data folder
are left out (`mpdvae data fetch NAME`). Glyphs are lower-case letters in the fonts that come with matplotlib.
"""

import argparse
import string
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsClassifier

from benchmarks import pages
from mpdvae.data import data_dir, entry, load
from mpdvae.measures.intervals import estimate
from mpdvae.sklearn import MPDVAE

PAGE = pages.DOCS / "own-images.md"
TRAINING, TEST = 2000, 2000
SIDE, NUMBERS = 28, 32
Labelled = tuple[np.ndarray, np.ndarray]


def digits(generator: np.random.Generator) -> tuple[Labelled, Labelled]:
    """The 8x8 digits of scikit-learn: 1,200 for training, 597 for testing."""
    rows, labels = map(np.asarray, load_digits(return_X_y=True))
    chosen = generator.permutation(len(labels))
    x, y = (rows[chosen].reshape(-1, 8, 8) / 16).astype(np.float32), labels[chosen]
    return (x[:1200], y[:1200]), (x[1200:], y[1200:])


def glyphs(generator: np.random.Generator) -> tuple[Labelled, Labelled]:
    """Letters of a random font, size, slant and place."""
    import matplotlib

    fonts = sorted((Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("*.ttf"))
    fonts = [
        font for font in fonts if font.stem.startswith(("DejaVuSans", "DejaVuSerif", "STIXGeneral", "cmr10", "cmtt10"))
    ]
    fonts = [font for font in fonts if "Display" not in font.stem]
    labels = generator.integers(0, 26, TRAINING + TEST)
    x = np.stack([glyph(fonts, string.ascii_lowercase[label], generator) for label in labels])
    return (x[:TRAINING], labels[:TRAINING]), (x[TRAINING:], labels[TRAINING:])


def glyph(fonts: list[Path], letter: str, generator: np.random.Generator) -> np.ndarray:
    """One letter, white on black, as bytes [height width]."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(fonts[generator.integers(len(fonts))], int(generator.integers(18, 25)))
    sheet = Image.new("L", (SIDE, SIDE))
    place = SIDE / 2 + generator.uniform(-2, 2), SIDE / 2 + generator.uniform(-2, 2)
    ImageDraw.Draw(sheet).text(place, letter, 255, font, anchor="mm")
    return np.asarray(sheet.rotate(generator.uniform(-12, 12), resample=Image.Resampling.BILINEAR))


def published(name: str) -> Callable[[np.random.Generator], tuple[Labelled, Labelled]]:
    """Random training and test images of a data set."""

    def some(generator: np.random.Generator) -> tuple[Labelled, Labelled]:
        splits = load(name)
        parts = []
        for images, count in ((splits.train, TRAINING), (splits.test, TEST)):
            assert images.labels is not None
            chosen = generator.permutation(len(images))[:count]
            parts.append((images.pixels[chosen].numpy().squeeze(), images.labels[chosen].numpy()))
        return parts[0], parts[1]

    return some


SETS = {"digits": digits, "glyphs": glyphs} | {name: published(name) for name in ("mnist", "fashion-mnist", "cifar10")}


def here(name: str) -> bool:
    """Whether the images are at hand."""
    return name in ("digits", "glyphs") or entry(name).is_here(data_dir())


class Fitted(NamedTuple):
    """What one fit gave."""

    training: int
    """Number of training images."""
    codes: float
    components: float
    raw: float
    """Accuracies of 5-NN."""
    epochs: int
    improving: bool
    """Whether the fit ended while the model still improved."""
    seconds: float


def fitted(name: str, seed: int, budget: float | None) -> Fitted:
    """Fits the estimator to random images of a set, and compares its codes."""
    (x, labels), (others, their_labels) = SETS[name](np.random.default_rng(seed))

    def accuracy(of: np.ndarray, of_others: np.ndarray) -> float:
        return float(KNeighborsClassifier(5).fit(of, labels).score(of_others, their_labels))

    flat, flat_others = (part.reshape(len(part), -1).astype(np.float32) for part in (x, others))
    pca = PCA(NUMBERS, random_state=0).fit(flat)
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ConvergenceWarning)
        model = MPDVAE(NUMBERS, random_state=seed, time_budget=budget).fit(x)
    seconds = time.perf_counter() - started
    return Fitted(
        len(x),
        accuracy(model.transform(x), model.transform(others)),
        accuracy(pca.transform(flat), pca.transform(flat_others)),
        accuracy(flat, flat_others),
        model.n_iter_,
        any(issubclass(one.category, ConvergenceWarning) for one in told),
        seconds,
    )


def row(name: str, fits: Sequence[Fitted]) -> list[str]:
    """Name, number of images, mean accuracies, what codes gain over components, and the mean number of epochs and time."""
    gain = gain_in_words([fit.codes - fit.components for fit in fits])
    means = [mean(column) for column in zip(*((f.codes, f.components, f.raw) for f in fits), strict=True)]
    improving = ", still improving" if any(fit.improving for fit in fits) else ""
    epochs, seconds = mean(fit.epochs for fit in fits), mean(fit.seconds for fit in fits)
    return [
        name,
        f"{fits[0].training:,}",
        *(f"{m:.3f}" for m in means),
        gain,
        f"{epochs:.0f}{improving}",
        f"{seconds:.0f}",
    ]


def gain_in_words(gains: Sequence[float]) -> str:
    """Mean of the gains in accuracy, with half the width of its 95% interval if there are several."""
    of_all = estimate(gains)
    half = "" if of_all.half_width is None else f" ± {of_all.half_width:.3f}"
    return f"{of_all.mean:+.3f}{half}".replace("-", "−")


def main(arguments: Sequence[str]) -> None:
    """Prints the rows; fills the page if they are of all sets that are at hand."""
    parser = argparse.ArgumentParser("python -m benchmarks estimator", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=[*SETS], help="some of the sets")
    parser.add_argument("--seeds", type=int, default=5, help="fits of each set, each to other images")
    parser.add_argument("--budget", type=float, default=None, help="seconds of a fit; default: as long as it improves")
    chosen = parser.parse_args(arguments)
    rows = []
    for name in chosen.only or SETS:
        if here(name):
            rows.append(row(name, [fitted(name, seed, chosen.budget) for seed in range(chosen.seeds)]))
            print("  ".join(rows[-1]), flush=True)
        else:
            print(f"{name}: not at hand, left out (`mpdvae data fetch {name}`)")
    if not chosen.only:
        head = ["images", "for training", "codes", "PCA", "raw pixels", "codes − PCA", "epochs", "seconds"]
        pages.fill(PAGE, accuracies=pages.table(head, rows, numbers_from=1))
