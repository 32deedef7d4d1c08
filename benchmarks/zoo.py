"""Takes every system of the zoo through every step at full size, one process at a time.

    python -m jetlift.benchmarks.zoo -o DIR --pictures DIR --speech DIR … [--only CLIP,BERT]

Rules:
    Z1  Each step is the command that a user would type, in a process of its own: its exit code, its
        wall time and the largest memory that it or a child of it held are what is written down.
    Z2  A step that is done is not done again; one that failed or was cut off is. `steps.jsonl` of a
        system has the last word of each.
    Z3  A step whose predecessor failed is not tried, and the table says so.
    Z4  Random weights show structure: the table says `structure` where real ones have a figure.
The table is written by zoo_table.py from what lies in DIR, so it can be made at any time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.benchmarks import zoo_table
from jetlift.benchmarks.zoo_systems import RANDOM, SYSTEMS
from jetlift.runtime import atomic, pictures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jetlift.benchmarks.zoo_systems import System

STEPS_NAME = "steps.jsonl"
RTX = "rtx-sm86"
PROGRAM = (sys.executable, "-m", "jetlift")
_FEW = 12
_BENCH_S = 5.0  # per variant: a median to compare sizes by, not a benchmark of the model
_SOUNDS = (".wav", ".flac")
_KIB = 1024
_LAST_CHARACTERS = 800


@dataclass(frozen=True)
class Step:
    """What one command came to.

    Attributes:
        step: As in `export`, `rtx fp16`, `cpu`, `run`, `bench`.
        ok: Whether it ended well.
        seconds: Wall time.
        peak_bytes: Largest resident memory of one process of it.
        told: Where it failed, the last paragraph it said.
    """

    step: str
    ok: bool
    seconds: float
    peak_bytes: int
    told: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps and write the table; 1 where a step failed."""
    given = _parser().parse_args(arguments)
    places = _places(given)
    only = {name.strip() for name in given.only.split(",")} if given.only else None
    failed = 0
    for system in SYSTEMS:
        if only is None or system.title in only:
            failed += sum(not step.ok for step in run_system(system, given.out, places))
    (given.out / "zoo.md").write_text(zoo_table.render(given.out), encoding="utf-8")
    print(f"Table: {given.out / 'zoo.md'}")
    return 1 if failed else 0


def run_system(system: System, out: Path, places: Mapping[str, str]) -> list[Step]:
    """Take one system through its steps (rules Z1 to Z3)."""
    folder = out / system.key
    folder.mkdir(parents=True, exist_ok=True)
    done = {step.step: step for step in read_steps(folder)}
    steps = []
    for name, command in _commands(system, out, places):
        step = done.get(name)
        if step is None or not step.ok:
            _forget(folder, name)
            print(f"{system.title}: {name}", flush=True)
            step = _measured(name, command, folder / f"{name.replace(' ', '-')}.log")
            with (folder / STEPS_NAME).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(step)) + "\n")
        steps.append(step)
        if not step.ok and name in ("export", "cpu", "prepare"):  # Z3
            break
    return steps


def read_steps(folder: Path) -> list[Step]:
    """The last word of each step of a system (rule Z2)."""
    path = folder / STEPS_NAME
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return list({line["step"]: Step(**line) for line in lines}.values())


def bundle_of(system: System, out: Path) -> Path:
    """Where the bundle of a row lies: its own, or that of the row it builds on."""
    key = next((s.key for s in SYSTEMS if s.title == system.bundle_of), system.key)
    return out / key / "bundle"


def _commands(system: System, out: Path, places: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    folder, bundle = out / system.key, bundle_of(system, out)
    own = {"{bundle}": str(bundle), "{out}": str(folder / "results")}
    known = {**places, **own}
    commands: list[tuple[str, list[str]]] = []
    if not system.bundle_of:
        export = ["export", system.model, "--weights", system.weights, "-o", str(bundle)]
        export += ["--precision", ",".join(system.precisions)]
        if system.samples is not None:
            export += ["--samples", system.samples, "--keep"]
        commands.append(("export", export))
        commands += [
            (f"rtx {name}", ["build", "{bundle}", "--target", RTX, "--precision", name])
            for name in system.precisions
        ]
        commands.append(("cpu", ["build", "{bundle}", "--race-limit-s", "0"]))
    allow = ("--allow-random",) if system.weights == RANDOM else ()
    commands += [("prepare", [*command, *allow]) for command in system.prepare]
    commands.append(("run", [*system.run, *allow]))
    if not system.bundle_of:
        record = ["-o", str(folder / "record"), "--time-limit-s", f"{_BENCH_S:g}"]
        commands.append(("bench", ["bench", str(bundle), *record]))
    return [(name, [_filled(word, known) for word in words]) for name, words in commands]


def _filled(word: str, places: Mapping[str, str]) -> str:
    for place, value in places.items():
        word = word.replace(place, value)
    return word


def _forget(folder: Path, step: str) -> None:
    """Take away what a step that failed has left, for the next try."""
    left = {"export": "bundle", "run": "results", "bench": "record"}.get(step)
    if left is not None:
        shutil.rmtree(folder / left, ignore_errors=True)


def _measured(name: str, command: Sequence[str], log: Path) -> Step:
    started = time.perf_counter()
    with atomic.file_aside(log) as aside, aside.open("wb") as file:
        child = subprocess.Popen([*PROGRAM, *command], stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    told = log.read_text(encoding="utf-8", errors="replace").strip()
    return Step(
        name,
        child.returncode == 0,
        round(time.perf_counter() - started, 1),
        usage.ru_maxrss * _KIB,
        "" if child.returncode == 0 else f"exit {child.returncode}: {_last_words(told)}",
    )


def _last_words(text: str) -> str:
    """The paragraph of an error, which jetlift begins with its name; or the end of the text."""
    _, found, told = text.rpartition("jetlift: ")
    return (told if found else text[-_LAST_CHARACTERS:])[:_LAST_CHARACTERS]


def _places(given: argparse.Namespace) -> dict[str, str]:
    places = {"{nerf}": given.nerf or RANDOM, "{yolox}": given.yolox or RANDOM}
    for name in ("pictures", "detection", "speech", "sentences", "scene"):
        path = getattr(given, name)
        places[f"{{{name}}}"] = str(path) if path is not None else f"missing-{name}"
    first = {"picture": (given.pictures, pictures.SUFFIXES), "sound": (given.speech, _SOUNDS)}
    for name, (folder, suffixes) in first.items():
        found = [] if folder is None else sorted(folder.iterdir())
        fitting = [str(path) for path in found if path.suffix.lower() in suffixes]
        places[f"{{{name}}}"] = fitting[0] if fitting else f"missing-{name}"
    few = given.out / "few"
    if given.pictures is not None and not few.exists():
        few.mkdir(parents=True)
        for path in sorted(Path(given.pictures).iterdir())[:_FEW]:
            shutil.copy(path, few)
    places["{few}"] = str(few)
    return places


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Take every system of the zoo through every step.")
    parser.add_argument("-o", "--out", type=Path, required=True)
    for name in ("pictures", "detection", "speech", "sentences", "scene"):
        parser.add_argument(f"--{name}", type=Path, help="see zoo_systems.py")
    parser.add_argument("--nerf", help="weights of the radiance field")
    parser.add_argument("--yolox", help="weights of YOLOX-nano")
    parser.add_argument("--only", help="titles, separated by commas")
    return parser


if __name__ == "__main__":
    sys.exit(main())
