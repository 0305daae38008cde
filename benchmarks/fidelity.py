"""How much each discrepancy between the paper and its released code moves the result, at scale `minutes`.

    python -m benchmarks fidelity --out runs/fidelity      # trains what is missing, rewrites the table of docs/fidelity.md

Each row changes one switch of `mae-mnist-minutes` and nothing else; differences are means over seeds of (changed - default),
paired by seed, with half the width of the 95% interval over seeds. What cannot move a run of 300 steps, or is no training
switch, has no measurement. The sentence below the table is made from the table.
"""

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import pages
from mpdvae.experiments.experiment import with_changes
from mpdvae.experiments.recipes import recipe
from mpdvae.experiments.remedies import as_options
from mpdvae.measures.intervals import paired_difference
from mpdvae.runs.run_folder import Run
from mpdvae.system.atomic_files import read_json
from mpdvae.workflows.matrix import run_all
from mpdvae.workflows.matrix_jobs import Job

BASE = "mae-mnist-minutes"
PAGE = pages.DOCS / "fidelity.md"


@dataclass(frozen=True)
class Row:
    """One discrepancy, and the switch for it."""

    key: str
    point: str
    paper: str
    released: str
    here: str
    """The switch; its first value is the default."""
    label: str = ""
    """Name of the changed run; empty where nothing is measured."""
    changes: dict[str, Any] = field(default_factory=dict)
    why_not: str = ""
    """Why nothing is measured."""


ROWS = [
    Row(
        "D1",
        "softplus and mean",
        "softplus of each pair, then the mean",
        "mean over pairs, then softplus",
        "`objective.mpd-form released` / `paper`",
        "form-paper",
        {"objective__mpd_form": "paper"},
    ),
    Row(
        "D2",
        "scale inside the softplus",
        "none",
        "none; before October 2018: divided by eta (measured at eta 0.5, against `released` at eta 0.5)",
        "`objective.mpd-form released` / `submitted`",
        "form-submitted",
        {"objective__mpd_form": "submitted", "objective__diversity_weight": 0.5},
    ),
    Row(
        "D3",
        "argument of the smoothness term",
        "total or per dimension: unclear",
        "total divergence",
        "`objective.smoothness-over total` / `dimensions`",
        "smoothness-dimensions",
        {"objective__smoothness_over": "dimensions"},
    ),
    Row(
        "D4",
        "direction of the KL divergence",
        "both orders",
        "all ordered pairs: symmetric",
        "no switch: the same",
        why_not="nothing differs",
    ),
    Row(
        "D5",
        "CIFAR-10 decoder",
        "in the submission: a truncated PixelCNN",
        "PixelCNN++ that sees all earlier pixels",
        "recipes `vlae-blocks1-cifar10-paper`, `vlae-blocks2-cifar10-paper`; on 28x28 `decoder.kernel-sizes` "
        "(measured: `3 3 3`)",
        "small-field",
        {"decoder__kernel_sizes": (3, 3, 3)},
    ),
    Row(
        "D6",
        "optimiser",
        "unknown (VLAE: Adamax 2e-3)",
        "Adam 1e-3; Adamax 2e-3 as an option",
        "`training.optimizer adam` / `adamax`, both measured at 2e-3",
        "adamax",
        {"training__optimizer": "adamax"},
    ),
    Row(
        "D7",
        "code size",
        "unknown (VLAE: 64)",
        "32",
        "`latent-dim 32` / any number (measured: 64)",
        "latent-64",
        {"latent_dim": 64},
    ),
    Row(
        "D8",
        "free bits",
        "unknown (VLAE: 0.01 nats per pixel)",
        "one floor under the batch mean of the total KL, 0 by default",
        "`objective.free-bits-nats 0` (measured: 7.84), `objective.free-bits-per-dimension-nats 0`",
        "free-bits",
        {"objective__free_bits_nats": 7.84},
    ),
    Row(
        "D9",
        "flow prior",
        "unknown (VLAE: 4 mean-only steps)",
        "4 dual blocks, affine",
        "`prior.no-mean-only` / `prior.mean-only` (measured), `prior.blocks`, `prior.hidden-layers`",
        "mean-only",
        {"prior__mean_only": True},
    ),
    Row(
        "split",
        "OMNIGLOT validation images",
        "unknown (IWAE: 1,345)",
        "2,345",
        "`data.validation-size` (2,345 for `omniglot` and `omniglot-burda*`)",
        why_not="not measured: another data set",
    ),
    Row(
        "order",
        "orientation of OMNIGLOT",
        "not stated",
        "images lie on their side, which changes the pixel order",
        "data sets `omniglot-burda-lying` / `omniglot-burda`",
        why_not="not measured: needs Burda's file",
    ),
    Row(
        "plateau",
        "optimiser moments at a plateau",
        "not stated",
        "discarded",
        "`training.plateau.fresh-optimizer` / `training.plateau.no-fresh-optimizer`",
        why_not="no plateau within 300 steps",
    ),
    Row(
        "limit",
        "bounds of log s^2",
        "not stated",
        "none for binary images, 7 for colour",
        "`encoder.log-variance-limit None` / any number (colour: 7)",
        why_not="never reached",
    ),
    Row(
        "floor",
        "variance in the denominator",
        "s^2",
        "s^2 + 1e-12",
        "`mutual_posterior_divergence(q, variance_floor=0)` / `1e-12` in Python (here the default is exact)",
        why_not="relative difference 4e-10 at log s^2 = -6",
    ),
    Row(
        "mode",
        "PixelCNN for binary images",
        "unknown",
        "`small` in the only configuration; `large` exists",
        "`decoder.kernel-sizes`; recipes `*-large-*`",
        why_not="not measured: takes hours; see the recipes",
    ),
    Row(
        "quirk 1",
        "mixture component of a sampled colour pixel",
        "drawn",
        "always the most probable: not samples from the model",
        "`decoder.sampled-component drawn` / `most-probable` (here the default is to draw)",
        why_not="affects pictures only",
    ),
    Row(
        "quirk 4",
        "unused layers of PixelCNN++",
        "-",
        "37,248 unused parameters",
        "left out",
        why_not="nothing differs",
    ),
    Row(
        "quirk 10",
        "likelihood of binary pixels",
        "-",
        "log(sigmoid + 1e-12)",
        "from logits",
        why_not="equal within 1e-11 unless pixels saturate",
    ),
    Row(
        "codes",
        "codes given to the classifiers",
        "not stated",
        "thresholded images, mean of 50 posterior samples",
        "`evaluation.code-input drawn` / `thresholded`, `evaluation.code-samples` (scale `paper`: as released)",
        why_not="not a training switch",
    ),
]
COMPARED_WITH = {"form-submitted": "eta-half"}
"""The run that a changed run is compared with, where that is not the default itself."""


def jobs(out: Path, seeds: int) -> list[Job]:
    """The default, each changed run, and what a changed run is compared with."""
    variants = {"default": {}, "eta-half": {"objective__diversity_weight": 0.5}}
    variants |= {row.label: row.changes for row in ROWS if row.label}
    made = []
    for seed in range(seeds):
        for label, changes in variants.items():
            experiment = with_changes(recipe(BASE), model=label, seed=seed, evaluation__pictures=False, **changes)
            options = " ".join(as_options(changes))
            folder = out / f"{label}-seed{seed}"
            made.append(
                Job(experiment, folder, f"mpdvae train {BASE} {options} --seed {seed} --threads 1 --out {folder}")
            )
    return made


def measured(out: Path, label: str, seeds: int) -> dict[str, dict[int, float]]:
    """Last training loss, test KL and NLL of each seed."""
    values: dict[str, dict[int, float]] = {"loss": {}, "kl": {}, "nll": {}}
    for seed in range(seeds):
        folder = out / f"{label}-seed{seed}"
        density = read_json(folder / "density.json")
        values["loss"][seed] = Run(folder).history[-1]["loss_nats"]
        values["kl"][seed] = density["kl_nats"]["mean"]
        values["nll"][seed] = density["nll_nats"]["mean"]
    return values


def table(out: Path, seeds: int) -> str:
    """The table, in Markdown."""
    lines = []
    for row in ROWS:
        cells = [row.key, row.point, row.paper, row.released, row.here]
        if row.label:
            base = measured(out, COMPARED_WITH.get(row.label, "default"), seeds)
            changed = measured(out, row.label, seeds)
            for name in ("loss", "kl", "nll"):
                difference = paired_difference(changed[name], base[name])
                assert difference is not None
                d = difference.estimate
                width = f" ± {d.half_width:.2f}" if d.half_width is not None else ""
                cells.append(f"{d.mean:+.2f}{width}")
        else:
            cells += [row.why_not, "", ""]
        lines.append(cells)
    head = ["", "point", "paper", "released code", "here: switch, default first", "loss", "KL", "NLL"]
    return pages.table(head, lines, numbers_from=5)


def ranking(lines: Sequence[str]) -> str:
    """The sentences that say which switches matter most, from the lines of the table: for each quantity the three largest
    differences, by the size of the difference, whose interval excludes zero."""
    cells = [line.strip("| ").split(" | ") for line in lines if " ± " in line]
    sentences = []
    for column, name in ((-3, "training loss"), (-2, "KL"), (-1, "NLL")):
        found = [(row[0], *map(float, row[column].replace("−", "-").split(" ± "))) for row in cells]
        clear = sorted((row for row in found if abs(row[1]) > row[2]), key=lambda row: -abs(row[1]))
        most = [f"{key} ({difference:+.2f} nats)" for key, difference, _ in clear[:3]]
        listed = most[0] if len(most) == 1 else f"{', '.join(most[:-1])} and {most[-1]}" if most else "no switch"
        sentences.append(f"The {name} is moved most by {listed}.")
    return "\n".join(textwrap.wrap(" ".join(sentences), 120))


def main(arguments: Sequence[str]) -> None:
    """Trains what is missing and fills the page."""
    parser = argparse.ArgumentParser("python -m benchmarks fidelity", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/fidelity"))
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args(arguments)
    run_all(jobs(chosen.out, chosen.seeds), None)
    filled = table(chosen.out, chosen.seeds)
    pages.fill(PAGE, table=filled, ranking=ranking(filled.splitlines()))
