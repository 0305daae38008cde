"""A batch that several processes share gives what one process makes of the whole of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import shared_divergence
from shared_batches import CASES
from torch.distributed import TCPStore

from mpdvae.system import process_group

SUPPORT = Path(__file__).parents[1] / "support"


def together(size: int, *command: str | Path) -> list[str]:
    """What each of `size` processes that run `command` in Python prints."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    members = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=os.environ | process_group.environment_of(rank, size, store.port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    outputs = [member.communicate(timeout=300) for member in members]
    assert [member.returncode for member in members] == [0] * size, outputs
    return [output for output, _ in outputs]


@pytest.fixture(scope="module")
def differences() -> dict[str, float]:
    """By case, the largest between 3 processes, which hold 3, 3 and 2 images, and one."""
    first, *_ = together(3, SUPPORT / "shared_batches.py")
    return json.loads(first)


@pytest.mark.parametrize("case", CASES)
def test_a_divided_batch_gives_the_loss_and_gradients_of_the_whole(case, differences):
    assert differences[case] < 1e-9


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_divergence_of_a_divided_batch_is_that_of_the_whole(size):
    """Value and gradients, whatever the route; processes hold unequal parts."""
    first, *_ = together(size, SUPPORT / "shared_divergence.py")
    found = json.loads(first)
    assert found.keys() == shared_divergence.CASES.keys()
    assert {name: error for name, error in found.items() if not error < 1e-12} == {}
