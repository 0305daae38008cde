"""What a process frees stays with it: taking it again costs no page faults."""

import subprocess
import sys

import pytest

TAKEN_AGAIN = """
import resource, torch
from mpdvae.system.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        maps = [torch.ones(8_000_000) for _ in range(4)]
        del maps
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
assert keep_freed_memory()
faults()
print(given_back, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of Linux's C library")
def test_memory_that_is_taken_again_costs_no_page_faults() -> None:
    output = subprocess.run([sys.executable, "-c", TAKEN_AGAIN], check=True, capture_output=True, text=True).stdout
    given_back, kept = map(int, output.split())
    assert given_back > 10_000
    assert kept < given_back / 100
