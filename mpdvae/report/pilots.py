"""Noise that pilot matrices measured, from which the matrices of a scale are planned (`power`).

Scale `minutes` on MNIST: standard deviations over the three seeds of docs/results/minutes.md. Those of NLL are not taken from
three seeds, whose standard deviations range from 0.02 to 0.20 by chance: six seeds of `mae` and `vlae` gave 0.23 for the
difference, that is, 0.16 for each model on 200 images, of which the images of a single run (1.27 nats each) explain 0.09.
Deviations over images: NLL, two runs of `mae` and `vlae`, one of `mae-no-smoothness` and of `vae-pixelcnn`, on 200 images
with 64 samples each; KL, a run of `vae` and of `vae-pixelcnn` of scale `hours`. The error of an accuracy has its binomial
bound on 10,000 test images; that of the information is from information.json.
"""

from collections.abc import Mapping

from mpdvae.report.claims import KMEANS, KNN, NEAR_ZERO_DIVERSITY
from mpdvae.report.power import Key, Noise

NLL, INFORMATION = "nll_nats", "mutual_information_nats"
SEED_NLL, RUN_NLL = (0.13, 0.13), 1.27
MINUTES_MNIST: Mapping[Key, Noise] = {
    (NLL, "mae", "vlae"): Noise(SEED_NLL, 0.74, rest=RUN_NLL),
    (NLL, "mae-no-smoothness", "vlae"): Noise(SEED_NLL, 1.31, rest=RUN_NLL),
    (NLL, "mae", "mae-no-smoothness"): Noise(SEED_NLL, 1.08, rest=RUN_NLL),
    (NLL, "vlae", "vae-pixelcnn"): Noise(SEED_NLL, 0.7, rest=RUN_NLL),
    (INFORMATION, "mae", "vlae"): Noise((0.17, 0.10), fixed=0.07),
    (INFORMATION, "vae-pixelcnn", "vae"): Noise((0.31, 0.27), fixed=0.07),
    ("kl_nats", "vae-pixelcnn", "vae"): Noise((0.12, 0.28), 5.3),
    ("diversity_share", "mae-no-smoothness", str(NEAR_ZERO_DIVERSITY)): Noise((0.0012,)),
    ("mpd_std_nats", "mae-no-smoothness", "mae"): Noise((35.3, 0.1)),
    (KNN, "mae", "vlae"): Noise((0.003, 0.004), fixed=0.0042),
    (KNN, "mae-no-smoothness", "vlae"): Noise((0.003, 0.004), fixed=0.0047),
    (KNN, "mae", "mae-no-smoothness"): Noise((0.003, 0.003), fixed=0.0041),
    (KMEANS, "mae", "mae-no-smoothness"): Noise((0.017, 0.012), fixed=0.0070),
    (KMEANS, "mae", "vae"): Noise((0.017, 0.004), fixed=0.0069),
    (KMEANS, "mae", "vlae"): Noise((0.017, 0.032), fixed=0.0070),
}
PILOTS: Mapping[tuple[str, str], Mapping[Key, Noise]] = {("mnist", "minutes"): MINUTES_MNIST}
"""By data set and scale."""
