"""A program that does the same work on the CPU and on a real device, and prints a line of JSON for every check.

    python tests/support/on_a_gpu.py DEVICE DIR [RECIPE...]      every part of `constructors`; tiny runs in folders below DIR

A GPU rounds differently and has other random numbers. Therefore all random numbers are drawn on the CPU and copied
(`DrawnOnTheCPU`), and results are compared up to rounding, in float32 without TF32. The *difference* of two tensors is the
largest difference of their elements relative to the largest element; gradients of one part are compared as one tensor. A
drawn pixel can differ if its random number lies within rounding of its probability, and changes the pixels after it.
"""

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from on_both_devices import LONGER, Act, all_parts, tensors_of
from small_runs import tiny
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from mpdvae.runs.run_folder import Run
from mpdvae.workflows.matrix import _run_one
from mpdvae.workflows.matrix_jobs import jobs

TOLERANCE = 1e-4
"""Largest difference of results that counts as agreement; on the CPU, other kernels make a difference of 2e-6."""
RUN_TOLERANCE = 1e-3
"""The same of the measurements of a run, whose first steps of Adam magnify rounding."""
DRAWN_TOLERANCE = 0.05
"""Largest fraction of drawn pixels that may differ."""


Tensors = tuple[Sequence[Tensor], Sequence[Tensor]]
"""Outcomes and gradients."""


class DrawnOnTheCPU(TorchDispatchMode):
    """Context in which every random number is drawn on the CPU and copied to where it belongs."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        device = kwargs.get("device") or (tensors[0].device if tensors else torch.device("cpu"))
        if torch.device(device).type in ("cpu", "meta"):
            return func(*args, **kwargs)
        here, options = tree_map_only(Tensor, lambda t: t.cpu(), (args, kwargs))
        drawn = func(*here, **(options | {"device": torch.device("cpu")} if "device" in kwargs else options))
        if func._schema.is_mutable:
            return args[0].copy_(drawn)
        return tree_map_only(Tensor, lambda t: t.to(device), drawn)


def main(device: str, folder: str, *recipes: str) -> None:
    torch.set_num_threads(1)
    if device == "elsewhere":
        import second_device  # noqa: F401 (importing it registers the device)
    for name, build, act in all_parts():
        _report(name, lambda name=name, build=build, act=act: _part(name, build, act, device))
    for name in recipes:
        _report(f"run {name}", lambda name=name: _run(name, device, Path(folder)))


def _report(name: str, check: Callable[[], dict[str, Any]]) -> None:
    try:
        found = check()
    except Exception as error:  # every error is reported
        found = {"agrees": False, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    print(json.dumps({"name": name} | found), flush=True)


def _part(name: str, build: Callable[[], nn.Module], act: Act, device: str) -> dict[str, Any]:
    """Compares outcomes and gradients of a part. The last outcome of a decoder is drawn images."""
    images = name.startswith("decoder ")
    with DrawnOnTheCPU():
        here = tensors_of(build, act, "cpu")
        torch.backends.cudnn.allow_tf32 = False
        found = compared(here, tensors_of(build, act, device), images)
        if torch.device(device).type == "cuda":
            torch.backends.cudnn.allow_tf32 = True  # torch's default
            found["difference_with_tf32"] = compared(here, tensors_of(build, act, device), images)["difference"]
    return found


def _run(name: str, device: str, folder: Path) -> dict[str, Any]:
    """Compares the negative ELBO at the evaluation points of a tiny run, which is also evaluated in full."""
    torch.backends.cudnn.allow_tf32 = False
    nats = []
    for place, on in (("here", "cpu"), ("there", device)):
        experiment = tiny(name, **({"training__steps": LONGER[name]} if name in LONGER else {}))
        (job,) = jobs([experiment], 1, folder / place, device=on)
        run = Run.create(job.folder, job.experiment)
        with DrawnOnTheCPU():
            failure = _run_one(0, job, None)[1]
        if failure:
            raise RuntimeError(f"on {on}: {failure}")
        nats.append(torch.tensor([entry["negative_elbo_nats"] for entry in run.history]))
    found = _difference(*nats)
    return {"agrees": found <= RUN_TOLERANCE, "difference": found}


def compared(here: Tensors, there: Tensors, images: bool) -> dict[str, Any]:
    """Compares outcomes and gradients; with `images`, the last outcome is drawn pixels, which are counted if they differ."""
    if [[t.shape for t in part] for part in here] != [[t.shape for t in part] for part in there]:
        raise RuntimeError("the number or the shapes of the results or of the gradients differ")
    pairs = list(zip(here[0], there[0], strict=True))
    found: dict[str, Any] = {"agrees": True}
    if images:
        a, b = pairs.pop()
        different = int(((a - b).abs() > TOLERANCE).sum())
        found = {"agrees": different <= DRAWN_TOLERANCE * a.numel(), "drawn": a.numel(), "drawn_otherwise": different}
    if here[1]:
        pairs.append((torch.cat([g.flatten() for g in here[1]]), torch.cat([g.flatten() for g in there[1]])))
    found["difference"] = max(_difference(a, b) for a, b in pairs)
    found["agrees"] &= found["difference"] <= TOLERANCE
    return found


def _difference(here: Tensor, there: Tensor) -> float:
    """Returns the largest difference of two elements relative to the largest element. Raises `RuntimeError` if a value is not
    finite."""
    difference = ((here - there).abs().max() / here.abs().max().clamp_min(1e-30)).item()
    if not math.isfinite(difference):
        raise RuntimeError("a result is not finite")
    return difference


if __name__ == "__main__":
    main(*sys.argv[1:])
