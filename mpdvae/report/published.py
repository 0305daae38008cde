"""Published numbers, each with the protocol under which it was measured.

Every number was read in its primary source. A number is compared with ours only if the protocol agrees in everything that
affects it: data set, binarisation, size of the test set, importance samples, and full-length training. The numbers in the
tables of the MAE paper itself are not confirmed, and none is printed.
"""

import math
from dataclasses import dataclass

from mpdvae.distributions.pixel_values import AS_DENSITY
from mpdvae.report.collect import Setting

VLAE = "Chen et al., Variational Lossy Autoencoder, ICLR 2017, https://arxiv.org/abs/1611.02731"

LAGGING = "He et al., Lagging Inference Networks and Posterior Collapse, ICLR 2019, https://arxiv.org/abs/1901.05534"


@dataclass(frozen=True)
class Published:
    """One number from the literature."""

    model: str
    ours: str | None
    """Our model of the same kind; None if there is none."""
    dataset: str
    binarisation: str
    test_images: int
    samples: int
    nll_nats: float
    kl_nats: float | None
    source: str
    note: str


_TRAINED = "final run on training and validation images, latent of 64, free bits, Adamax"


def _dynamic(model: str, ours: str | None, nll: float, kl: float | None, where: str) -> Published:
    return Published(model, ours, "mnist", "dynamic", 10_000, 4096, nll, kl, f"{VLAE}, {where}", _TRAINED)


def _omniglot(model: str, ours: str, nll: float, kl: float | None, source: str, samples: int, note: str) -> Published:
    return Published(model, ours, "omniglot-burda", "dynamic", 8_070, samples, nll, kl, source, note)


def _cifar10(model: str, ours: str | None, bits_per_dim: float, source: str) -> Published:
    nats = bits_per_dim * 32 * 32 * 3 * math.log(2)
    return Published(model, ours, "cifar10", "levels", 10_000, 512, nats, None, source, f"{bits_per_dim} bits/dim")


PUBLISHED = (
    _dynamic("VLAE", "vlae", 78.53, None, "dynamic MNIST"),
    _dynamic("unconditional PixelCNN", None, 87.55, 0.0, "ablation"),
    _dynamic("PixelCNN decoder, N(0, I) prior", "vae-pixelcnn", 79.48, 10.60, "ablation"),
    _dynamic("PixelCNN decoder, autoregressive-flow prior", "vlae", 78.94, 11.73, "ablation"),
    _omniglot("VLAE", "vlae", 90.98, None, f"{VLAE}, OMNIGLOT", 4096, _TRAINED),
    _omniglot(
        "VAE with a PixelCNN decoder",
        "vae-pixelcnn",
        89.41,
        1.5,
        LAGGING,
        500,
        "one fixed binarisation of the test set",
    ),
    _cifar10("ResNet VLAE", None, 3.04, f"{VLAE}, CIFAR-10"),
    _cifar10("DenseNet VLAE", "vlae", 2.95, f"{VLAE}, CIFAR-10"),
    _cifar10("PixelCNN++", None, 2.92, "Salimans et al., PixelCNN++, ICLR 2017, https://arxiv.org/abs/1701.05517"),
)

FULL_SCALES = ("days", "paper")
SAME_IMAGES = {"omniglot-burda-lying": "omniglot-burda"}
"""Data sets with the images of another, but another order of pixels: likelihoods may be compared, with this caveat."""


def comparable(setting: Setting) -> tuple[Published, ...]:
    """Returns the published numbers that are comparable with results of this setting."""
    return () if reasons_against(setting) else _on(setting.dataset)


def stands_beside(model: str, dataset: str, scale: str) -> str:
    """Describes the published numbers that a full evaluation of `model` would be compared with; empty if there are none."""
    if scale not in FULL_SCALES:
        return ""
    found = [p for p in _on(dataset) if p.ours == model]
    return "; ".join(f"{p.model} {p.note if p.binarisation == 'levels' else f'{p.nll_nats} nats'}" for p in found)


def reasons_against(setting: Setting) -> list[str]:
    """Returns why no published number is comparable with this setting; empty if one is."""
    published = next(iter(_on(setting.dataset)), PUBLISHED[0])
    reasons = []
    if not _on(setting.dataset):
        reasons.append(f"the data set is {setting.dataset}, not MNIST, OMNIGLOT (Burda's file) or CIFAR-10")
    values = "256 levels" if published.binarisation == "levels" else published.binarisation
    if values not in setting.protocol.lower():
        reasons.append(f"the binarisation is not {published.binarisation}")
    if AS_DENSITY in setting.protocol:
        reasons.append("likelihoods are densities instead of probabilities")
    if setting.scale not in FULL_SCALES:
        reasons.append(f"scale {setting.scale} trains smaller networks for a fraction of the time")
    if setting.split != "test" or setting.images % published.test_images or not setting.images:
        wanted = f"{published.test_images:,} test images"
        reasons.append(f"likelihoods are measured on {setting.images:,} {setting.split} images instead of {wanted}")
    if setting.proposal != "encoder":
        reasons.append(f"samples are drawn from a {setting.proposal} proposal instead of the encoder's")
    if setting.samples < published.samples:
        reasons.append(f"likelihoods use {setting.samples:,} importance samples instead of {published.samples:,}")
    return reasons


def _on(dataset: str) -> tuple[Published, ...]:
    name = SAME_IMAGES.get(dataset.lower(), dataset.lower())
    return tuple(p for p in PUBLISHED if p.dataset == name)


def explanation(setting: Setting) -> str:
    """Explains in one sentence why published numbers are, or are not, compared with ours."""
    reasons = reasons_against(setting)
    if not reasons:
        longer = "" if setting.scale == "paper" else " and longer training than at this scale"
        return f"These were measured under the same protocol, with other networks{longer}: see the notes."
    return f"No published number is comparable, because the protocol differs: {'; '.join(reasons)}."
