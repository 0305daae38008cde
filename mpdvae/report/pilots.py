"""Noise that pilot matrices measured, from which the matrices of a scale are planned (`power`).

Scale `minutes` on MNIST: `noises_of` the ten seeds of docs/results/minutes.md and docs/results/minutes-b.md, each measured on
300 images with 128 samples. Standard deviations of five seeds are still uncertain: for the NLL of `vlae`, one matrix gives
less than 0.01, the other 0.31.
"""

from collections.abc import Mapping

from mpdvae.report.claims import KMEANS, KNN, NEAR_ZERO_DIVERSITY
from mpdvae.report.power import Key, Noise

NLL, INFORMATION = "nll_nats", "mutual_information_nats"
MINUTES_MNIST: Mapping[Key, Noise] = {
    (NLL, "mae", "vlae"): Noise((0.31, 0.21), images=0.89, rest=1.2),
    (NLL, "mae-no-smoothness", "vlae"): Noise((0.18, 0.21), images=0.83, rest=1.2),
    (NLL, "mae", "mae-no-smoothness"): Noise((0.31, 0.18), images=0.8, rest=1.2),
    (NLL, "vlae", "vae-pixelcnn"): Noise((0.21, 0.15), images=0.88, rest=1.1),
    (INFORMATION, "mae", "vlae"): Noise((0.18, 0.25), fixed=0.039),
    (INFORMATION, "vae-pixelcnn", "vae"): Noise((0.23, 0.21), fixed=0.075),
    ("kl_nats", "vae-pixelcnn", "vae"): Noise((0.32, 0.22), images=4.5, rest=0.72),
    ("diversity_share", "mae-no-smoothness", str(NEAR_ZERO_DIVERSITY)): Noise((0.0013,)),
    ("mpd_std_nats", "mae-no-smoothness", "mae"): Noise((34.0, 0.11)),
    (KNN, "mae", "vlae"): Noise((0.0031, 0.0097), fixed=0.004),
    (KNN, "mae-no-smoothness", "vlae"): Noise((0.0084, 0.0097), fixed=0.0045),
    (KNN, "mae", "mae-no-smoothness"): Noise((0.0031, 0.0084), fixed=0.004),
    (KMEANS, "mae", "mae-no-smoothness"): Noise((0.012, 0.014), fixed=0.007),
    (KMEANS, "mae", "vae"): Noise((0.012, 0.0062), fixed=0.0069),
    (KMEANS, "mae", "vlae"): Noise((0.012, 0.023), fixed=0.0069),
}
PILOTS: Mapping[tuple[str, str], Mapping[Key, Noise]] = {("mnist", "minutes"): MINUTES_MNIST}
"""By data set and scale."""
