"""Run folders with made-up numbers, in the format written by training and evaluation, for tests of the report."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MODELS: dict[str, dict[str, float]] = {
    "vae": {
        "nll": 97.0,
        "kl": 22.0,
        "mi": 9.1,
        "mpd": 60.0,
        "spread": 25.0,
        "knn": 0.955,
        "kmeans": 0.62,
        "information": 1.2,
    },
    "vae-pixelcnn": {
        "nll": 88.1,
        "kl": 2.1,
        "mi": 2.0,
        "mpd": 3.0,
        "spread": 4.0,
        "knn": 0.90,
        "kmeans": 0.45,
        "information": 0.15,
    },
    "vlae": {
        "nll": 86.9,
        "kl": 3.7,
        "mi": 3.5,
        "mpd": 7.0,
        "spread": 8.0,
        "knn": 0.92,
        "kmeans": 0.52,
        "information": 0.3,
    },
    "mae": {
        "nll": 87.0,
        "kl": 14.5,
        "mi": 8.9,
        "mpd": 48.0,
        "spread": 10.0,
        "knn": 0.95,
        "kmeans": 0.70,
        "information": 1.0,
    },
    "mae-no-smoothness": {
        "nll": 88.5,
        "kl": 7.6,
        "mi": 7.9,
        "mpd": 190.0,
        "spread": 195.0,
        "knn": 0.90,
        "kmeans": 0.5,
        "information": 0.5,
    },
    "mae-no-diversity": {
        "nll": 87.4,
        "kl": 2.5,
        "mi": 2.4,
        "mpd": 2.0,
        "spread": 0.9,
        "knn": 0.91,
        "kmeans": 0.48,
        "information": 0.2,
    },
}
PROTOCOL = "MNIST 28x28, dynamic binarisation, 5 fixed test draws, split 58000/2000/10000 (seed 524287)"
LATENT_DIM = 32
EXPLORED_POINTS = 40


def make_run(
    folder: Path,
    model: str = "mae",
    seed: int = 0,
    *,
    scale: str = "minutes",
    protocol: str = PROTOCOL,
    dataset: str = "mnist",
    samples: int = 128,
    images: int = 1000,
    status: str = "finished",
    noise: float = 0.05,
    numbers: Mapping[str, float] | None = None,
    objective: Mapping[str, Any] | None = None,
    torch: str = "2.13.0+cpu",
    command: str | None = None,
    labels: bool = True,
    pictures: bool = True,
    probed: bool = True,
    explored: bool = True,
    factors: bool = False,
    class_names: Sequence[str] = (),
) -> Path:
    """Writes a run folder.

    Arguments:
        noise: scale of the noise, most of which is common to all models of a seed.
        numbers: replace some of `MODELS[model]`.
        pictures: if False, there are no pictures, and the map of codes is small.
        probed: if False, the folder is as written by versions without gradient norms and encoder lag.
        explored: if False, the folder is as written by versions without data for the explorer.
        factors: if True, the run was on data with known factors of variation.
        class_names: names of the first classes.
    """
    n = {**MODELS.get(model, MODELS["mae"]), **(numbers or {})}
    common = np.random.default_rng(seed).normal() * noise * 4
    own = np.random.default_rng([seed, *model.encode()]).normal(size=8) * noise
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    command = command or f"mpdvae train {model}-mnist-minutes --seed {seed} --out runs/{model}-{seed}"
    evaluate = f"mpdvae evaluate runs/{model}-{seed} --samples {samples}"
    _write(folder / "experiment.json", _experiment(model, scale, seed, dataset, samples, objective))
    manifest = _manifest(status, torch, dataset, protocol, seed, command)
    manifest["data"] |= {"class_names": list(class_names)} if class_names else {}
    _write(folder / "manifest.json", manifest)
    nll = n["nll"] + common + own[0]
    points = [_point(step, nll, n["kl"], common) for step in range(0, 301, 25)]
    points = [point | _probed(point["step"], n) | _noted(point["step"], n) if probed else point for point in points]
    (folder / "history.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
    _write(folder / "density.json", _density(nll, n["kl"] + own[1], protocol, samples, images, evaluate))
    _write(folder / "diagnostics.json", _diagnostics(n, own, evaluate) | (_probed(300, n) | SWEEP if probed else {}))
    _write(folder / "information.json", _information(n, own, evaluate))
    _write(folder / "code_use.json", _code_use(n, own, evaluate))
    if labels:
        _write(folder / "representation.json", _representation(n, own, seed, evaluate))
    if factors:
        _write(folder / "disentanglement.json", _disentanglement(own, evaluate))
    _write(folder / "codes.json", _codes(n["knn"], seed, labels, 2000 if pictures else 50))
    for name in ("samples", "reconstructions", "interpolations") if pictures else ():
        _picture(folder / "figures" / f"{name}.png", seed)
    if explored:
        _explored(folder, n["knn"], seed, labels)
    return folder


def make_matrix(root: Path, models: Sequence[str] = tuple(MODELS), seeds: int = 3, **options: Any) -> list[Path]:
    """Writes runs of several models with the same seeds."""
    return [make_run(root / f"{model}-{seed}", model, seed, **options) for model in models for seed in range(seeds)]


def add_referee(folder: Path, nll: float = 87.0, images: int = 10) -> None:
    """Adds the results of a likelihood check by annealed importance sampling."""

    def values(**means: float) -> dict[str, Any]:
        return {name: {"mean": mean, "standard_error": 0.5, "monte_carlo_error": 0.1} for name, mean in means.items()}

    edit(
        folder / "density.json",
        referee={
            "images": images,
            "chains": 16,
            "steps": 200,
            "of_split": values(annealed_nll_nats=nll - 0.25, importance_weighted_nll_nats=nll),
            "simulated": values(
                nll_at_least_nats=nll - 2.5, importance_weighted_nll_nats=nll - 2.125, nll_at_most_nats=nll - 1.75
            ),
        },
    )


def add_per_image(folder: Path, spread: float, images: int = 60, first: int = 0) -> None:
    """Adds density.csv. Each model has image effects of standard deviation `spread` beside the common ones of 25 nats, and
    each run has noise of 0.3 nats."""
    experiment = json.loads((folder / "experiment.json").read_text())
    nll = json.loads((folder / "density.json").read_text())["nll_nats"]["mean"]
    common = 25 * np.random.default_rng(0).normal(size=images)
    own = spread * np.random.default_rng([*experiment["model"].encode()]).normal(size=images)
    rest = 0.3 * np.random.default_rng([experiment["seed"], *experiment["model"].encode()]).normal(size=images)
    deviations = common + own + rest
    rows = [f"{first + i},0,{-(nll + d)}" for i, d in enumerate(deviations - deviations.mean())]
    (folder / "density.csv").write_text("\n".join(["image,draw,log_prob_nats", *rows]) + "\n")


def edit(path: Path, **changes: Any) -> None:
    """Replaces fields of a JSON file."""
    _write(path, json.loads(path.read_text()) | changes)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def _experiment(
    model: str, scale: str, seed: int, dataset: str, samples: int, objective: Mapping[str, Any] | None
) -> dict[str, Any]:
    pixelcnn = {"kind": "pixelcnn", "channels": 24, "kernel_sizes": [7, 5, 3], "condition_channels": 4}
    flow = {"kind": "flow", "blocks": 2, "hidden_features": 128, "hidden_layers": 1, "mean_only": False}
    weights = {"mae": (1.0, 0.5), "mae-no-smoothness": (1.0, 0.0), "mae-no-diversity": (0.0, 0.5)}.get(
        model, (0.0, 0.0)
    )
    return {
        "name": f"{model}-{dataset}-{scale}",
        "model": model,
        "scale": scale,
        "reproduces": "something",
        "seed": seed,
        "data": {"dataset": dataset, "binarisation": "dynamic", "evaluation_draws": 5},
        "latent_dim": LATENT_DIM,
        "encoder": {"kind": "convnet", "channels": [32, 64]},
        "decoder": {"kind": "convnet", "channels": [64, 32]} if model == "vae" else pixelcnn,
        "prior": {"kind": "standard-normal"} if model.startswith("vae") else flow,
        "objective": objective
        or {"diversity_weight": weights[0], "smoothness_weight": weights[1], "mpd_form": "released"},
        "training": {"steps": 300, "batch_size": 100, "optimizer": "adam", "learning_rate": 0.002, "averaging": 0.98},
        "evaluation": {"density_samples": samples, "representation_images": 10_000, "label_subsets": 3},
    }


def _manifest(status: str, torch: str, dataset: str, protocol: str, seed: int, command: str) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "torch": torch,
        "python": "3.11.2",
        "platform": "Linux x86_64",
        "processor": "some processor",
        "cores": 2,
        "data": {"name": dataset, "sha256": "ab" * 32, "protocol": protocol},
        "parameters": {"encoder": 120_000, "decoder": 60_000, "prior": 20_000, "total": 200_000},
        "seed": seed,
        "command": command,
        "started": "2025-01-01T00:00:00",
        "finished": "2025-01-01T00:01:00",
        "training_seconds": 31.0,
        "evaluation_seconds": 12.0,
        "status": status,
    }


def _point(step: int, nll: float, kl: float, wiggle: float) -> dict[str, Any]:
    negative_elbo = nll + 1 + 300 * math.exp(-step / 40) + wiggle * math.sin(step)
    reached = kl * (1 - math.exp(-step / 60))
    return {
        "step": step,
        "epoch": step / 580,
        "loss_nats": negative_elbo + 3,
        "terms_nats": {"reconstruction": negative_elbo - reached, "kl": reached, "diversity": 3.0},
        "negative_elbo_nats": negative_elbo,
        "reconstruction_nats": negative_elbo - reached,
        "kl_nats": reached,
        "active_units": 20,
        "latent_dim": LATENT_DIM,
        "mpd_mean_nats": 5.0,
        "mpd_std_nats": 2.0,
        "verdict": "partly collapsed: 12 of 32 units carry less than 0.01 nats",
        "learning_rate": 0.002,
    }


SWEEP = {"active_units_by_variance": {"0.001": 32, "0.01": 20, "0.1": 6}, "idle_units": 12}


def _probed(step: int, n: Mapping[str, float]) -> dict[str, Any]:
    return {
        "gradient_norms": {"reconstruction": 2.0, "kl": 2.5, "diversity": 0.5, "total": 0.6},
        "encoder_lag": {"gain_nats": 1 + 300 / (step + 50), "gain_standard_error_nats": 0.1, "images": 16, "steps": 10},
        "code_use_nats": 4 * n["mi"] - 8,
    }


def _noted(step: int, n: Mapping[str, float]) -> dict[str, Any]:
    since = 50 if step >= 50 else step
    information = [n["information"]] * 20 + [0.001] * 12
    noted = {"information_per_dimension_nats": information, "mutual_information_nats": n["mi"]}
    return SWEEP | noted | {"verdict_since_step": since}


def _density(nll: float, kl: float, protocol: str, samples: int, images: int, command: str) -> dict[str, Any]:
    return {
        "split": "test",
        "protocol": protocol,
        "images": images,
        "samples": samples,
        "negative_elbo_nats": {"mean": nll + 1.1, "standard_error": 0.4},
        "nll_nats": {"mean": nll, "standard_error": 0.4},
        "nll_monte_carlo_error_nats": 0.012,
        "kl_nats": {"mean": kl, "standard_error": 0.05},
        "reconstruction_nats": {"mean": nll + 1.1 - kl, "standard_error": 0.4},
        "bits_per_dim": {"mean": nll / 784 / math.log(2), "standard_error": 0.001},
        "effective_sample_size": {"median": 40.0, "min": 1.5},
        "pareto_k": {"median": 0.35, "share_above_0.7": 0.01},
        "command": command,
    }


def _diagnostics(n: Mapping[str, float], own: np.ndarray, command: str) -> dict[str, Any]:
    decay = np.exp(-np.arange(LATENT_DIM) / (1 + 6 * n["information"]))
    information = n["information"] * decay * (1 + own[2])
    mpd = n["mpd"] + own[3]
    return {
        "images": 10_000,
        "latent_dim": LATENT_DIM,
        "kl_per_dimension_nats": None,
        "information_per_dimension_nats": information.tolist(),
        "active_units": int((information > 0.01).sum()),
        "mutual_information_nats": n["mi"] + own[4] * 0.1,
        "mutual_information_ceiling_nats": math.log(10_000),
        "mutual_information_saturated": n["mi"] > 0.9 * math.log(10_000),
        "mpd_mean_nats": mpd,
        "mpd_std_nats": n["spread"] + own[5],
        "mpd_per_dimension_nats": (mpd * decay / decay.sum()).tolist(),
        "verdict": "no collapse: 32 of 32 units carry at least 0.01 nats",
        "command": command,
    }


def _information(n: Mapping[str, float], own: np.ndarray, command: str) -> dict[str, Any]:
    def estimate(nats: float) -> dict[str, float]:
        return {"nats": nats, "standard_error_nats": 0.02}

    information = n["mi"] + own[4] * 0.1
    return {
        "images": 10_000,
        "samples": 1000,
        "mutual_information": {
            "lower_bound": estimate(information),
            "lower_bound_ceiling_nats": math.log(10_000),
            "upper_bound": estimate(information + 1.5),
            "upper_bounds": {"leave_one_out": estimate(information + 9), "gaussian": estimate(information + 1.5)},
        },
        "aggregate_kl": estimate(n["kl"] / 4),
        "total_correlation": estimate(n["kl"] / 6),
        "dimension_wise_kl": estimate(n["kl"] / 12),
        "lautum_information": estimate(n["mpd"] - n["mi"]),
        "mpd_all_pairs_nats": n["mpd"],
        "identity_residual": estimate(0.03),
        "identity_residual_in_standard_errors": 1.1 + own[4],
        "command": command,
    }


def _code_use(n: Mapping[str, float], own: np.ndarray, command: str) -> dict[str, Any]:
    def value(mean: float) -> dict[str, float]:
        return {"mean": mean, "standard_error": 0.3}

    kl = n["kl"] + own[5]
    per_dimension = [value(kl / LATENT_DIM * 2**-k) for k in range(LATENT_DIM)]
    return {
        "images": 100,
        "distortion_nats": {
            "own": value(80),
            "another": value(80 + kl),
            "prior": value(81 + kl),
            "mean": value(79 + kl),
        },
        "increase_nats": {"another": value(kl), "prior": value(kl + 1), "mean": value(kl - 1)},
        "increase_per_dimension_nats": {"swapped": per_dimension, "averaged": per_dimension},
        "command": command,
    }


def _representation(n: Mapping[str, float], own: np.ndarray, seed: int, command: str) -> dict[str, Any]:
    shift = own[6] / 50
    return {
        **_scores(n["knn"] + shift, n["kmeans"] + shift, LATENT_DIM),
        "baselines": {
            "raw_pixels": _scores(0.91, 0.55, 784),
            "pca": _scores(0.93, 0.53, LATENT_DIM),
            "untrained_encoder": _scores(0.85 + seed / 500, 0.4 + seed / 500, LATENT_DIM),
        },
        "left_out": ["SVMs with 10,000 labels: too many."],
        "command": command,
    }


def _disentanglement(own: np.ndarray, command: str) -> dict[str, Any]:
    return {
        "factors": ["shape", "x"],
        "mig": {"score": 0.125 + own[7] / 1_000, "per_factor": {"shape": 0.1, "x": 0.15}},
        "dci": {"disentanglement": 0.25, "completeness": 0.375, "informativeness": 0.75},
        "sap": {"score": 0.0625},
        "modularity": {"score": 0.875, "per_unit": [0.9, None]},
        "explicitness": {"score": 0.8125},
        "split": "test",
        "command": command,
    }


def _scores(knn: float, kmeans: float, dimensions: int) -> dict[str, Any]:
    def accuracy(mean: float, many: str) -> dict[str, Any]:
        return {"mean": mean, "std": 0.004, many: [mean - 0.004, mean, mean + 0.004]}

    counts = {"100": 0.12, "1000": 0.05, "10000": 0.0}
    few = ("100", "1000")
    return {
        "knn10_accuracy": {c: accuracy(knn - loss, "subsets") for c, loss in counts.items()},
        "linear_accuracy": {c: accuracy(knn - loss - 0.02, "subsets") for c, loss in counts.items()},
        "linear_svm_accuracy": {c: accuracy(knn - counts[c] - 0.02, "subsets") for c in few},
        "rbf_svm_accuracy": {c: accuracy(knn - counts[c] + 0.01, "subsets") for c in few},
        "kmeans_accuracy": {str(k): accuracy(kmeans + k / 400, "seeds") for k in (10, 20, 30)},
        "kmeans_hungarian_accuracy": {str(k): accuracy(kmeans - k / 400, "seeds") for k in (10, 20, 30)},
        "kmeans_nmi": {str(k): accuracy(kmeans - 0.1, "seeds") for k in (10, 20, 30)},
        "kmeans_ari": {str(k): accuracy(kmeans - 0.2, "seeds") for k in (10, 20, 30)},
        "dimensions": dimensions,
    }


def _codes(sharpness: float, seed: int, labels: bool, points: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    classes = generator.integers(10, size=points)
    centres = np.stack([np.cos(classes * 0.63), np.sin(classes * 0.63)]) * 20 * (sharpness - 0.85)
    x, y = centres + generator.normal(size=(2, points)) * 0.5
    return {
        "x": x.tolist(),
        "y": y.tolist(),
        "labels": classes.tolist() if labels else None,
        "explained_variance": [0.16, 0.11],
    }


def _picture(path: Path, seed: int) -> None:
    rows, columns = np.mgrid[0:140, 0:280]
    blobs = np.sin(rows / 4.5 + seed) * np.cos(columns / 4.5) > 0.4
    Image.fromarray((blobs * 255).astype(np.uint8)).save(path, optimize=True)


def _explored(folder: Path, sharpness: float, seed: int, labels: bool) -> None:
    """Writes points, four per class, whose images show their class and number."""
    classes = np.arange(EXPLORED_POINTS) % 10
    noise = np.random.default_rng([seed, 1]).normal(size=(2, EXPLORED_POINTS))
    x, y = np.stack([np.cos(classes * 0.63), np.sin(classes * 0.63)]) * 20 * (sharpness - 0.85) + noise * 0.3
    others = [[(i + 10 * k) % EXPLORED_POINTS for k in (1, 2, 3)] for i in range(EXPLORED_POINTS)]
    content = {
        "image": {"height": 28, "width": 28},
        "linear_walks": {"walks": 2, "steps": 5},
        "bilinear_walk": {"rows": 3, "columns": 3},
        "walks_drawn": False,
        "points": {
            "labels": classes.tolist() if labels else None,
            "kl_nats": (10 + noise[0]).round(2).tolist(),
            "reconstruction_nats": (80 + noise[1]).round(2).tolist(),
        },
        "maps": {
            "pca": {"x": x.tolist(), "y": y.tolist(), "explained_variance": [0.16, 0.11]},
            "tsne": {"x": (x * 3 + noise[1]).tolist(), "y": (y * 3).tolist()},
        },
        "neighbours": others,
        "split": "test",
    }
    _write(folder / "explore.json", content)
    _sheet(folder / "figures" / "points.png", [_mark(i % 10, i // 10) for i in range(EXPLORED_POINTS)], 8)
    _sheet(folder / "figures" / "linear_walks.png", [_mark(i // 5, i % 5) for i in range(10)], 5)
    _sheet(folder / "figures" / "bilinear_walk.png", [_mark(i // 3, i % 3) for i in range(9)], 3)


def _mark(row: int, column: int) -> np.ndarray:
    """Returns an image with a block whose position encodes `row` and `column`."""
    image = np.zeros((28, 28), np.uint8)
    image[2 + 2 * row : 8 + 2 * row, 2 + 4 * column : 8 + 4 * column] = 255
    return image


def _sheet(path: Path, images: Sequence[np.ndarray], columns: int) -> None:
    rows = [np.concatenate(images[i : i + columns], axis=1) for i in range(0, len(images), columns)]
    Image.fromarray(np.concatenate(rows, axis=0)).save(path)
