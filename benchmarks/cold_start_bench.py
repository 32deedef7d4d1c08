"""How soon the first result is there, and what memory it takes, beside other ways to the same job.

    python -m jetlift.benchmarks.cold_start_bench BUNDLE INPUT [--runs 5]
        [--transformers PYTHON FOLDER TASK] [--ultralytics PYTHON MODEL]

Each run is a fresh process, in turn with the others: it imports the package, opens the model from
disk and answers one INPUT (a picture, or a file whose one line is a text). Told are medians of the
import's time, of the time from the process' start to the first result, and of the memory resident
then. PYTHON is the peer's own; FOLDER a model that `transformers.pipeline(TASK)` opens, MODEL what
`ultralytics.YOLO` opens. Nothing is fetched. A peer that does not run is a row that says why. Exit
code 1 where jetlift takes longer or more memory than a peer that ran.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

JETLIFT = "jetlift"
FIGURES = ("import, s", "first result, s", "memory, MB")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "YOLO_OFFLINE": "true", "PYTHONSAFEPATH": "1"}
_PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})

_BEGIN = """
import json, sys, time
began_s = time.monotonic()
"""
_END = """
first_s = time.monotonic() - float(sys.argv[1])
with open("/proc/self/status") as lines:
    kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
print("\\n" + json.dumps([imported_s - began_s, first_s, kib * 1024 / 1e6]))
"""
CHILDREN = {
    JETLIFT: """
import jetlift
imported_s = time.monotonic()
task = jetlift.load(sys.argv[3], target="cpu", precision="fp32", threads=1)
answer = task(sys.argv[2])
""",
    "transformers": """
from transformers import pipeline
imported_s = time.monotonic()
import torch
torch.set_num_threads(1)
answer = pipeline(sys.argv[4], model=sys.argv[3], device="cpu")(sys.argv[2])
""",
    "ultralytics": """
from ultralytics import YOLO
imported_s = time.monotonic()
import torch
torch.set_num_threads(1)
answer = YOLO(sys.argv[3])(sys.argv[2], device="cpu", verbose=False)
""",
}


@dataclass(frozen=True)
class Way:
    """One way to the result.

    Attributes:
        name: One of CHILDREN.
        python: Its interpreter.
        arguments: What the child is given beside the start and the input.
    """

    name: str
    python: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Failure:
    """Why a way did not run, in its own last words."""

    reason: str


def once(way: Way, given: str) -> list[float] | Failure:
    """One fresh process: the three FIGURES."""
    code = _BEGIN + CHILDREN[way.name] + _END
    started_s = str(time.monotonic())
    command = [way.python, "-c", code, started_s, given, *way.arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | _OFFLINE
        )
    except OSError as error:
        return Failure(f"{way.python}: {error.strerror}")
    if done.returncode:
        return Failure((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    figures: list[float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def measure(ways: Sequence[Way], given: str, runs: int) -> dict[str, list[float] | Failure]:
    """Medians of each way, or why it did not run. The first run of each is not counted."""
    seen: dict[str, list[float] | Failure] = {way.name: once(way, given) for way in ways}
    running = [way for way in ways if not isinstance(seen[way.name], Failure)]
    samples: dict[str, list[list[float]]] = {way.name: [] for way in running}
    for _ in range(runs):
        for way in running:
            figures = once(way, given)
            if isinstance(figures, Failure):
                seen[way.name] = figures
            else:
                samples[way.name].append(figures)
    for name, rows in samples.items():
        if not isinstance(seen[name], Failure):
            seen[name] = [statistics.median(column) for column in zip(*rows, strict=True)]
    return seen


def judge(seen: Mapping[str, list[float] | Failure]) -> bool:
    """Print every row; whether jetlift ran and no peer that ran takes less of anything."""
    print(f"{'':14}" + "".join(f"{figure:>17}" for figure in FIGURES))
    for name, figures in seen.items():
        told = (
            f"  did not run: {figures.reason}"
            if isinstance(figures, Failure)
            else "".join(f"{figure:17.2f}" for figure in figures)
        )
        print(f"{name:14}{told}")
    ours = seen[JETLIFT]
    peers = [it for name, it in seen.items() if name != JETLIFT and not isinstance(it, Failure)]
    if isinstance(ours, Failure):
        return False
    return all(mine <= its for peer in peers for mine, its in zip(ours, peer, strict=True))


def input_of(path: Path) -> str:
    """What a child is given: a picture's path, or the text in a file."""
    if path.suffix.lower() in _PICTURES:
        return str(path.resolve())
    return path.read_text(encoding="utf-8").strip()


def main() -> int:
    """Measure, print, and say whether nothing beside jetlift takes less."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("input", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--transformers", nargs=3, metavar=("PYTHON", "FOLDER", "TASK"))
    parser.add_argument("--ultralytics", nargs=2, metavar=("PYTHON", "MODEL"))
    asked = parser.parse_args()
    ways = [Way(JETLIFT, sys.executable, (str(asked.bundle.resolve()),))]
    for name in ("transformers", "ultralytics"):
        given = getattr(asked, name)
        if given is not None:
            ways.append(Way(name, given[0], tuple(given[1:])))
    print(
        f"{asked.runs} runs each, engine and torch on 1 thread, {os.cpu_count()} processors, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    return 0 if judge(measure(ways, input_of(asked.input), asked.runs)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
