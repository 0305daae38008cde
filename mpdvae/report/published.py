"""Published numbers, each with the protocol under which it was measured.

Only numbers that were read in their primary source are here. A number stands beside ours only where the protocol is the
same in what moves it: data set, binarisation, size of the test set, importance samples, and full-length training. The
numbers in the tables of the MAE paper itself are not confirmed, and none is printed.
"""

from dataclasses import dataclass

from mpdvae.report.collect import Setting

VLAE = "Chen et al., Variational Lossy Autoencoder, ICLR 2017, https://arxiv.org/abs/1611.02731"


@dataclass(frozen=True)
class Published:
    """One number from the literature."""

    model: str
    ours: str | None
    """Our model of the same kind; None where we have none."""
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


PUBLISHED = (
    _dynamic("VLAE", "vlae", 78.53, None, "dynamic MNIST"),
    _dynamic("unconditional PixelCNN", None, 87.55, 0.0, "ablation"),
    _dynamic("PixelCNN decoder, N(0, I) prior", "vae-pixelcnn", 79.48, 10.60, "ablation"),
    _dynamic("PixelCNN decoder, autoregressive-flow prior", "vlae", 78.94, 11.73, "ablation"),
)

FULL_SCALES = ("hours", "paper")


def comparable(setting: Setting) -> tuple[Published, ...]:
    """The published numbers that may stand beside results of this setting."""
    return () if reasons_against(setting) else PUBLISHED


def reasons_against(setting: Setting) -> list[str]:
    """Why no published number may; empty where one may."""
    published = PUBLISHED[0]
    reasons = []
    if setting.dataset.lower() != published.dataset:
        reasons.append(f"the data set is {setting.dataset}, not MNIST")
    if published.binarisation not in setting.protocol.lower():
        reasons.append("the binarisation is not dynamic")
    if setting.scale not in FULL_SCALES:
        reasons.append(f"scale {setting.scale} trains smaller networks for a fraction of the time")
    if setting.split != "test" or setting.images % published.test_images or not setting.images:
        reasons.append(f"likelihoods are of {setting.images:,} {setting.split} images instead of 10,000 test images")
    if setting.samples < published.samples:
        reasons.append(f"with {setting.samples:,} importance samples instead of 4,096")
    return reasons


def explanation(setting: Setting) -> str:
    """One sentence on why published numbers do, or do not, stand beside ours."""
    reasons = reasons_against(setting)
    if not reasons:
        longer = "" if setting.scale == "paper" else " and, against this scale, longer training"
        return f"These were measured under the same protocol, with other networks{longer}: see the notes."
    return f"No published number stands beside these, because the protocol differs: {'; '.join(reasons)}."
