"""Sums of the loss between two evaluation points; a checkpoint holds them where it is saved in between."""

from typing import Any

import torch
from torch import Tensor

from mpdvae.objectives.terms import Loss
from mpdvae.training.nonfinite_recovery import NotFinite


class LossSums:
    """Sums of the terms of the loss since the last evaluation point."""

    def __init__(self) -> None:
        self.terms: dict[str, Tensor] = {}
        self.count = 0
        self.skipped = 0
        """Steps that moved nothing and are in no sum."""
        self.unchecked: list[Tensor] = []
        """Loss plus norm of the gradient of the latest steps: finite if both are."""

    def add(self, loss: Loss, norm: Tensor) -> None:
        for name, value in loss.terms.items():
            self.terms[name] = self.terms.get(name, 0) + value.detach().double()
        self.count += 1
        if norm.device.type != "cpu":  # there every step was checked before it was made
            self.unchecked.append(loss.total.detach() + norm)

    def refuse_broken(self, done: int) -> None:
        """Raises `NotFinite` where a loss or gradient was not finite, naming its step; `done` steps are done."""
        if not self.unchecked:
            return
        broken = (~torch.stack(self.unchecked).isfinite()).nonzero()
        if len(broken):
            step = done - len(self.unchecked) + int(broken[0].item())
            raise NotFinite(f"the loss or its gradient at step {step}")
        self.unchecked.clear()

    def means(self) -> dict[str, float]:
        """Of the steps that were not skipped; empty where all were."""
        return {name: value.item() / self.count for name, value in self.terms.items()}

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that `restored` needs."""
        counts = {"terms": list(self.terms), "count": self.count, "skipped": self.skipped}
        return {f"tally/{name}": value for name, value in self.terms.items()}, counts

    @classmethod
    def restored(cls, tensors: dict[str, Tensor], counts: dict[str, Any], device: torch.device) -> "LossSums":
        """What `checkpoint` gave, terms in the order in which they are added up; a new one where it gave nothing."""
        tally = cls()
        tally.terms = {name: tensors[f"tally/{name}"].to(device) for name in counts.get("terms", ())}
        tally.count, tally.skipped = counts.get("count", 0), counts.get("skipped", 0)
        return tally
