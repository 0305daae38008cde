"""Calls the package as its users do, in a process in which types are not checked: a sentence is reached before the check of
types, and torch.compile traces no such checks."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HEAD = f"""
import json, sys, numpy as np, torch
sys.path.insert(0, {str(Path(__file__).parent)!r})
import mpdvae
from small_runs import tiny
"""


def as_users_run_it(code: str) -> Any:
    """Returns what `code` prints as JSON."""
    done = subprocess.run([sys.executable, "-c", HEAD + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sentences(setup: str, calls: Sequence[str], given: Sequence[str]) -> dict[tuple[str, str], str]:
    """Returns by call and value the sentence with which each of `calls`, expressions of the name `given`, refuses each of
    these values; empty for one that is taken. Fails for any other error."""
    code = f"""
{setup}
said = []
for call in {list(calls)!r}:
    for text in {list(given)!r}:
        try:
            eval(call, globals() | {{"given": eval(text)}})
            said.append([call, text, ""])
        except mpdvae.errors.InputError as error:
            said.append([call, text, str(error)])
print(json.dumps(said))
"""
    return {(call, text): sentence for call, text, sentence in as_users_run_it(code)}
