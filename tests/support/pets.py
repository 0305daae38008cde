"""Pictures of pets in a folder for each class, and runs on them: classes that have names."""

from pathlib import Path

import numpy as np
from PIL import Image
from small_runs import tiny, trained

from mpdvae.workflows.job import describe_run, load_data

NAMES = ("cat", "dog", "owl")


def pets(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    """Writes pictures of each class, and returns the folder."""
    for level, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(np.full((8, 8), 60 * level + i, np.uint8)).save(folder / name / f"{i:02}.png")
    return folder


def trained_on_pets(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    """Returns the folder of a trained run that is conditioned on the classes."""
    own = {
        "data__dataset": "own",
        "data__path": pets(folder / "pictures", names),
        "data__condition_classes": len(names),
    }
    run = trained(folder / "run", tiny("vae-digits-smoke", **own))
    describe_run(run, load_data(run.experiment), "mpdvae train")
    return run.path
