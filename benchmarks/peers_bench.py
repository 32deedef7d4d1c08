r"""jetlift beside what one would use instead: same weights, same input, same threads, interleaved.

    python -m jetlift.benchmarks.peers_bench --bundle dinov2=DIR --samples dinov2=DIR ... -o OUT

Models: dinov2, minilm, whisper, yolox, clip, padim; --only takes some of them. Each needs its
bundle with the variants fp32 and int8, and the samples that it was exported with (padim needs
neither; clip no samples). Weights have to be those of --weights package, since the peers get the
very same. --sound names a real recording for Whisper. Peers whose packages collide with jetlift's
live in Pythons of their own, which `python -m jetlift.benchmarks.peers.environments FOLDER` makes
and lists in FOLDER/pythons.txt, for --pythons; what is not installed is a row that says so. Nothing
is fetched.

OUT gets peers.md, peers.json and, with matplotlib, peers.svg. A case's result is kept in OUT/cases
and used again as long as bundle, contenders, rules and this code are the same, so an interrupted
run goes on where it was.

Exit codes: 0 done, 1 a goal is missed (it is named on standard error), 2 usage, 3 a bundle is
refused, 4 this machine lacks something that jetlift's own rows need.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.benchmarks.canvas import write_chart
from jetlift.benchmarks.compare_run import Progress
from jetlift.benchmarks.peers import goals
from jetlift.benchmarks.peers.cases import CASES
from jetlift.benchmarks.peers.chart import to_svg
from jetlift.benchmarks.peers.form import PeersTable, write_table
from jetlift.benchmarks.peers.rounds import ENOUGH, Rules
from jetlift.benchmarks.peers.run import Request, run_model
from jetlift.benchmarks.peers.table import CHART_NAME, to_markdown
from jetlift.jetson import board
from jetlift.runtime import atomic
from jetlift.runtime.errors import JetliftError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

MARKDOWN_NAME = "peers.md"


def measure(request: Request, names: Sequence[str], progress: Progress) -> PeersTable:
    """Measure the models and write table, Markdown and chart.

    Raises:
        JetliftError: A bundle is refused, or the folder cannot be written.
    """
    machine = board.describe_machine()
    cases, left_out = [], []
    for name in names:
        try:
            cases += run_model(request, name, progress.step)
        except UsageError as error:
            left_out.append(f"{name}: {error}")
            progress.step(f"{name}: left out: {error}")
    table = PeersTable(
        jetlift=importlib.metadata.version("jetlift"),
        measured_at=dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        machine=machine,
        cases=tuple(cases),
        goals=goals.judge(cases),
        left_out=tuple(left_out),
    )
    _write(request.out, table)
    return table


def _write(out: Path, table: PeersTable) -> None:
    write_table(out, table)
    drawn = write_chart(out / CHART_NAME, lambda: to_svg(table))
    atomic.write_bytes(out / MARKDOWN_NAME, to_markdown(table, chart=drawn).encode())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jetlift.benchmarks.peers_bench",
        description=(__doc__ or "").splitlines()[0],
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--only", help=f"separated by commas, of: {', '.join(CASES)}")
    for name, words in (
        ("bundle", "a model's bundle"),
        ("samples", "what a bundle was exported with"),
        ("python", "the Python that has a peer"),
        ("path", "what else a case reads: ctranslate2=FOLDER"),
    ):
        parser.add_argument(
            f"--{name}", action="append", default=[], metavar="NAME=PATH", help=words
        )
    parser.add_argument("--pythons", type=Path, help="a file of NAME=PATH lines, as --python")
    parser.add_argument("--sound", type=Path, help="a recording of English speech")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=Rules.rounds)
    parser.add_argument(
        "--seconds", type=float, default=Rules.time_limit_s, help="limit of a case's rounds"
    )
    return parser


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs = dict(item.partition("=")[::2] for item in given)
    empty = [name for name, path in pairs.items() if not path]
    if empty:
        raise UsageError(f"Got {empty[0]!r}", expected="NAME=PATH")
    return pairs


def _request(asked: argparse.Namespace) -> Request:
    if asked.rounds < ENOUGH or asked.threads < 1 or asked.seconds <= 0:
        raise UsageError(
            f"Got {asked.rounds} rounds, {asked.threads} threads and {asked.seconds} s",
            expected=f"At least {ENOUGH} rounds, one thread, and a time",
        )
    listed = [] if asked.pythons is None else asked.pythons.read_text(encoding="utf-8").split()
    return Request(
        out=asked.out.resolve(),
        bundles={name: Path(path).resolve() for name, path in _pairs(asked.bundle).items()},
        samples={name: Path(path).resolve() for name, path in _pairs(asked.samples).items()},
        sound=None if asked.sound is None else asked.sound.resolve(),
        pythons=_pairs([*listed, *asked.python]),
        arguments=_pairs(asked.path),
        threads=asked.threads,
        rules=Rules(rounds=asked.rounds, time_limit_s=asked.seconds),
        gpu=shutil.which("nvidia-smi") is not None,
    )


def _names(only: str | None) -> list[str]:
    names = [name.strip() for name in only.split(",")] if only else list(CASES)
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise UnknownNameError(
            f"Model {unknown[0]!r} is unknown", expected=f"One of {', '.join(CASES)}"
        )
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for."""
    asked = _parser().parse_args(arguments)
    try:
        request = _request(asked)
        table = measure(request, _names(asked.only), Progress())
    except JetliftError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    print((request.out / MARKDOWN_NAME).read_text(encoding="utf-8"), end="")
    missed = [goal for goal in table.goals if goal.verdict == "missed"]
    for goal in missed:
        sys.stderr.write(f"Missed: {goal.words}: {goal.told}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
