"""Sums of the loss between two evaluation points; a checkpoint that is saved in between includes them."""

from typing import Any

import torch
from torch import Tensor

from mpdvae.objectives.terms import Loss
from mpdvae.system.devices import of_sums, to_float64
from mpdvae.training.nonfinite_recovery import NotFinite


class LossSums:
    """Sums of the terms of the loss since the last evaluation point."""

    def __init__(self) -> None:
        self.terms: dict[str, Tensor] = {}
        self.count = 0
        self.skipped = 0
        """Number of skipped steps, which are in no sum."""
        self.unchecked: list[Tensor] = []
        """Loss plus gradient norm of each unchecked step: finite if both are."""

    def add(self, loss: Loss, norm: Tensor) -> None:
        for name, value in loss.terms.items():
            self.terms[name] = self.terms.get(name, 0) + to_float64(value.detach())
        self.count += 1
        if norm.device.type != "cpu":  # on a CPU, every step is checked before the update
            self.unchecked.append(loss.total.detach() + norm)

    def refuse_broken(self, done: int) -> None:
        """Raises `NotFinite`, naming the step, if a loss or gradient was not finite; `done` is the number of steps done."""
        if not self.unchecked:
            return
        broken = (~torch.stack(self.unchecked).isfinite()).nonzero()
        if len(broken):
            step = done - len(self.unchecked) + int(broken[0].item())
            raise NotFinite(f"the loss or its gradient at step {step}")
        self.unchecked.clear()

    def means(self) -> dict[str, float]:
        """Returns the means over the steps that were not skipped; empty if all were skipped."""
        return {name: value.item() / self.count for name, value in self.terms.items()}

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns everything that `restored` needs."""
        counts = {"terms": list(self.terms), "count": self.count, "skipped": self.skipped}
        return {f"tally/{name}": value for name, value in self.terms.items()}, counts

    @classmethod
    def restored(cls, tensors: dict[str, Tensor], counts: dict[str, Any], device: torch.device) -> "LossSums":
        """Restores the sums that `checkpoint` returned, with terms in the order of summation; new sums if it had none."""
        tally = cls()
        tally.terms = {name: tensors[f"tally/{name}"].to(of_sums(device)) for name in counts.get("terms", ())}
        tally.count, tally.skipped = counts.get("count", 0), counts.get("skipped", 0)
        return tally
