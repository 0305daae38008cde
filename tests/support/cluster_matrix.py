"""A program that runs a matrix of four small runs: python tests/support/cluster_matrix.py BACKEND OUT WORKERS"""

import sys
from pathlib import Path

from small_runs import tiny

from mpdvae.workflows.matrix import refuse_failures, run_all
from mpdvae.workflows.matrix_jobs import Job, jobs

CHANGES = {"training__steps": 60, "training__evaluate_every": 10}


def small_jobs(out: Path) -> list[Job]:
    return jobs([tiny(f"{model}-digits-smoke", **CHANGES) for model in ("vae", "mae")], 2, out)


def main() -> None:
    backend, out, workers = sys.argv[1:]
    matrix = small_jobs(Path(out))
    refuse_failures(run_all(matrix, None, int(workers), backend), len(matrix))


if __name__ == "__main__":
    main()
