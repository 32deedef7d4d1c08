"""What is documented of published checkpoints: tensors' names and shapes, from tests/data."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data"


def documented(name: str, group: str = "keys") -> dict[str, tuple[int, ...]]:
    """Tensors of a checkpoint: shape by name, `{n}` written out as 0 to n - 1."""
    content = json.loads((DATA / f"{name}.keys.json").read_text(encoding="utf-8"))
    return {
        expanded: tuple(shape)
        for pattern, shape in content[group].items()
        for expanded in _expanded(pattern)
    }


def _expanded(pattern: str) -> list[str]:
    counts = [range(int(number)) for number in re.findall(r"\{(\d+)\}", pattern)]
    pieces = re.split(r"\{\d+\}", pattern)
    names = []
    for numbers in itertools.product(*counts):
        filled = [*map(str, numbers), ""]
        names.append("".join(a + b for a, b in zip(pieces, filled, strict=True)))
    return names
