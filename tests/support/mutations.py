"""Damages files, as random faults and as attackers would. Every function is deterministic given its `random.Random`."""

import copy
import json
import random
import re
from typing import Any

HOSTILE: list[Any] = [
    *(None, True, -1, 0, 0.5, 10**9, 10**12, 2**63, -(2**63), 10**400, 1e308, -1e308, 5e-324),
    *(
        float("nan"),
        float("inf"),
        "",
        "x",
        "</script><script>alert(1)</script>",
        "../../../../etc/passwd",
        "/etc/passwd",
    ),
    *("\x00", "\x1b[31m\n", "\ud800", "[[]]", [], {}, [[]], [None], {"": None}, [1e308] * 3, [-1], ["x"], {"x": -1}),
]
"""Values that a reader does not expect in a JSON file."""
HUGE = [
    b"\xff" * 4,
    b"\xff" * 8,
    b"\xff\xff\xff\x7f",
    b"\x7f\xff\xff\xff",
    b"\x00\x00\x00\x40",
    b"\xff" * 7 + b"\x7f",
    bytes(4),
]
"""Numbers as stored in headers: the largest ones in both byte orders, and zero."""


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Returns `content` with 1 to 4 faults: flipped bits, other bytes, lost, repeated or swapped ranges, huge numbers."""
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        if data:
            chance.choice(_KINDS)(data, chance)
    return bytes(data)


def _place(data: bytearray, chance: random.Random) -> int:
    """Draws a position; half of the time near one of the ends, where headers and directories are."""
    size = len(data)
    near = min(size, 200)
    return chance.choice(
        [chance.randrange(size), chance.randrange(size), chance.randrange(near), size - 1 - chance.randrange(near)]
    )


def _flip(data: bytearray, chance: random.Random) -> None:
    data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _other_bytes(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 2, 20])):
        data[_place(data, chance)] = chance.randrange(256)


def _truncate(data: bytearray, chance: random.Random) -> None:
    del data[_place(data, chance) :]


def _lose(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    del data[at : at + chance.choice([1, 4, 50])]


def _repeat(data: bytearray, chance: random.Random) -> None:
    at, to, size = _place(data, chance), _place(data, chance), chance.choice([1, 4, 8, 100])
    data[to:to] = data[at : at + size]


def _exchange(data: bytearray, chance: random.Random) -> None:
    at, to, size = _place(data, chance), _place(data, chance), chance.choice([1, 4, 8, 100])
    one, other = bytes(data[at : at + size]), bytes(data[to : to + size])
    data[at : at + len(other)], data[to : to + len(one)] = other, one


def _huge(data: bytearray, chance: random.Random) -> None:
    at, number = _place(data, chance), chance.choice(HUGE)
    data[at : at + len(number)] = number


def _huge_digits(data: bytearray, chance: random.Random) -> None:
    """Replaces a number written in digits by another one."""
    numbers = list(re.finditer(rb"\d+", data))[:500]
    if numbers:
        found = chance.choice(numbers)
        digits = chance.choice([b"9" * len(found[0]), b"7" * len(found[0]), b"999999999999", b"-1", b"0", b"9" * 5000])
        data[found.start() : found.end()] = digits


_KINDS = [_flip, _other_bytes, _truncate, _lose, _repeat, _exchange, _huge, _huge, _huge_digits]


def damaged_json(content: bytes, chance: random.Random) -> bytes:
    """Returns JSON (or JSON lines) with values replaced by hostile ones, lost, added or repeated; or with damaged bytes."""
    if chance.random() < 0.2:
        return damaged(content, chance)
    lines = [json.loads(line) for line in content.splitlines()] if b"}\n{" in content else [json.loads(content)]
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        number = chance.randrange(len(lines))
        lines[number] = _replaced(lines[number], chance)
    if chance.random() < 0.02:
        lines[0] = "DEEP"
    text = "\n".join(json.dumps(line) for line in lines) + "\n"
    return text.replace('"DEEP"', "[" * 100_000).encode()


def _hostile(chance: random.Random) -> Any:
    return copy.deepcopy(chance.choice(HOSTILE))


def _replaced(tree: Any, chance: random.Random) -> Any:
    """Returns `tree` with one node changed."""
    if not isinstance(tree, dict | list) or not tree or chance.random() < 0.05:
        return _hostile(chance)
    key = chance.choice(list(tree)) if isinstance(tree, dict) else chance.randrange(len(tree))
    kind = chance.random()
    if kind < 0.1:
        del tree[key]
    elif kind < 0.15 and isinstance(tree, dict):
        tree[str(_hostile(chance))] = _hostile(chance)
    elif kind < 0.2 and isinstance(tree, list):
        tree += copy.deepcopy(tree)
    elif isinstance(tree[key], dict | list) and kind < 0.8:
        tree[key] = _replaced(tree[key], chance)
    else:
        tree[key] = _hostile(chance)
    return tree
