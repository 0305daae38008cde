"""The configuration of a run's evaluation: what is measured of the trained model, and on how much data."""

from typing import Annotated, Literal

from pydantic import Field

from mpdvae.experiments.fields import AtLeastTwo, Config, Count, Sizes


class Evaluation(Config):
    """What `mpdvae evaluate` measures, and on how much data."""

    density_images: Count | None = None
    """Random test images for the likelihoods; None: all images with all draws."""
    density_samples: Count = 4096
    """Importance samples per image."""
    density_proposal: Literal["fitted", "encoder"] = "fitted"
    """Where importance samples come from: a proposal that is fitted to each image (as costly as 128 samples), or q(z|x), as
    in the paper."""
    density_precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Precision of the decoder in the likelihoods. auto: bfloat16 if that is faster and a pilot shows its error to be below a
    tenth of the Monte-Carlo error; compiles if that pays back."""
    representation_images: Count | None = None
    """Training images from which label subsets and clusters are drawn; None: all, or as many as memory holds easily."""
    label_counts: Annotated[tuple[AtLeastTwo, ...], Field(min_length=1)] = (100, 1_000, 10_000)
    all_labels: bool = False
    """Whether classifiers are also trained on all labels."""
    label_subsets: Count = 5
    svm_labels: Count | None = 1_000
    """Maximum number of labels for SVMs (their time grows with its square); None: no maximum."""
    clusters: Sizes = (10, 20, 30)
    cluster_seeds: Count = 5
    """Number of k-means runs."""
    cluster_restarts: Count = 10
    """Starts of each run, of which the best is used."""
    baselines: bool = True
    """Whether to score raw pixels, principal components and an untrained encoder, too."""
    code_input: Literal["drawn", "thresholded"] = "drawn"
    """Binary images for the codes: a fixed draw, or grey levels thresholded at one half (released code)."""
    code_samples: Count | None = None
    """Codes are the mean of this many posterior samples (released code: 50); None: the posterior mean."""
    information_samples: AtLeastTwo = 2_000
    """Codes drawn for total correlation and other terms of single dimensions; the bounds on the mutual information take one
    of every image, or these if they are more."""
    code_use_images: AtLeastTwo = 200
    """Random images whose codes are exchanged, whole and by dimension."""
    pictures: bool = True
    """Whether to produce samples, reconstructions, interpolations and the data of the report's explorer."""
    explored_images: AtLeastTwo = 1_000
    """Random test images on the map of codes in the report's explorer."""
