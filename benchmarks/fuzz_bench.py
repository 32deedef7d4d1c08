"""Thousands of damaged inputs through the readers of pictures, videos and sounds.

    python -m jetlift.benchmarks.fuzz_bench [--count 2400] [--seed 0] [--keep DIR]

Each is read in a child process with limits of memory (3 GiB of address space) and time (20 s).
Prints how many were read, refused with an explanation, crashed the process, hung, or raised
anything else, by kind of file and of damage. Exit code 1 where one crashed, hung or raised anything
else; `--keep` keeps those files.
"""

from __future__ import annotations

import argparse
import contextlib
import selectors
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.benchmarks.fuzz_inputs import cases
from jetlift.runtime.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.benchmarks.fuzz_inputs import Case

OUTCOMES = ("read", "refused", "crashed", "hung", "other")
BAD = ("crashed", "hung", "other")
MEMORY_BYTES, LIMIT_S = 3 << 30, 20.0
_CHILD = ("-m", "jetlift.benchmarks.fuzz_child", str(MEMORY_BYTES))


@dataclass(frozen=True)
class Verdict:
    """What came of one input.

    Attributes:
        outcome: One of OUTCOMES.
        detail: In words.
    """

    outcome: str
    detail: str


class Reader(Closing):
    """A child that reads files; another is started where one crashed or hung.

    Args:
        limit_s: How long one file may take.
        child: Arguments of the Python that reads.
    """

    def __init__(self, limit_s: float = LIMIT_S, child: Sequence[str] = _CHILD) -> None:
        self._limit_s, self._command = limit_s, [sys.executable, *child]
        self._child: subprocess.Popen[str] | None = None

    def read(self, kind: str, path: Path) -> Verdict:
        """Have one file read."""
        child = self._child = self._child or self._start()
        if child.stdin is None or child.stdout is None:
            return Verdict("crashed", "the child has no pipes")
        with contextlib.suppress(BrokenPipeError):  # it ended already, which its silence tells
            child.stdin.write(f"{kind} {path}\n")
            child.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            if not selector.select(self._limit_s):
                self.close()
                return Verdict("hung", f"no answer within {self._limit_s:g} s")
        line = child.stdout.readline()
        if not line:
            code = child.wait()
            self.close()
            return Verdict("crashed", f"exit code {code}")
        outcome, _, detail = line.rstrip("\n").partition(" ")
        return Verdict(outcome, detail)

    def close(self) -> None:
        """End the child. A second call does nothing."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            with contextlib.suppress(BrokenPipeError):
                child.communicate()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip


def judge(inputs: Sequence[Case], keep: Path | None = None) -> list[Verdict]:
    """Read every input; those that ended badly are kept where a folder is given."""
    verdicts = []
    with tempfile.TemporaryDirectory() as name, Reader() as reader:
        for number, case in enumerate(inputs):
            path = Path(name) / f"{number}{case.suffix}"
            path.write_bytes(case.content)
            verdicts.append(verdict := reader.read(case.kind, path))
            if verdict.outcome in BAD and keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                kept = f"{number}-{verdict.outcome}-{case.damage}{case.suffix}"
                (keep / kept).write_bytes(case.content)
            path.unlink()
    return verdicts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        inputs = cases(asked.count, asked.seed, Path(folder))
    verdicts = judge(inputs, asked.keep)
    for of, names in (
        ("file", [case.suffix for case in inputs]),
        ("damage", [case.damage for case in inputs]),
    ):
        pairs = zip(names, (verdict.outcome for verdict in verdicts), strict=True)
        _show(of, Counter(pairs), list(dict.fromkeys(names)))
    bad = [
        f"{number}: {case.suffix} {case.damage}: {verdict.outcome}: {verdict.detail}"
        for number, (case, verdict) in enumerate(zip(inputs, verdicts, strict=True))
        if verdict.outcome in BAD
    ]
    print("\n".join(bad[:40]))
    print(f"{len(inputs)} inputs (seed {asked.seed}), {len(bad)} of them ended badly")
    return 1 if bad else 0


def _show(of: str, counts: Counter[tuple[str, str]], names: Sequence[str]) -> None:
    print(f"{of:>10}" + "".join(f"{outcome:>10}" for outcome in OUTCOMES))
    for name in names:
        print(f"{name:>10}" + "".join(f"{counts[name, outcome]:>10}" for outcome in OUTCOMES))


if __name__ == "__main__":
    sys.exit(main())
