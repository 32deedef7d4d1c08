"""Operations of published networks, counted from their graphs and by others, side by side.

    python -m jetlift.benchmarks.operations_bench [NAME ...] [--workloads FILE] [--darknet FOLDER]
        [--json FILE] [--from FILE] [--markdown FILE]

Each network is made with random weights (operations do not depend on them), exported at its real
size, and counted by jetlift.engines.ops. What it is held against: the row of a table of workloads,
with columns `workload_key` and `gmacs`, where the network is in one; else
torch.utils.flop_counter.FlopCounterMode of the PyTorch that is installed. Networks of packages that
are not installed are named, and left out; Darknet's come from the folder with its .cfg files.

Rules:
    B1  Compared are the multiply-adds of convolutions, GEMM and products of activations, which is
        what all of them count. Elementwise work is counted by jetlift alone, and shown beside.
    B2  Children count one after another; one that fails is a row with its reason, and a failure.
    B3  A difference is explained where it is known what another counter leaves out, with a figure
        worked out from shapes; what remains after it is judged.

Exit code 1 where more than 1 % remains, a node could not be counted, or a network failed.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetlift.benchmarks.operations_networks import networks
from jetlift.benchmarks.operations_table import Row, markdown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jetlift.benchmarks.operations_networks import Network

LIMIT = 0.01


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, print, and say whether the counters agree."""
    asked = _asked(arguments)
    known = networks(asked.darknet)
    names = asked.names or list(known)
    listed = _listed(asked.workloads)
    if asked.read is not None:
        found = {item["name"]: item for item in json.loads(asked.read.read_text(encoding="utf-8"))}
    else:
        found = _count_and_tell([known[name] for name in names], listed, asked)
    rows = [_judged(known[name], found[name], listed) for name in names if name in found]
    absent = [name for name in names if name not in found]
    if asked.markdown is not None:
        asked.markdown.write_text(markdown(rows, absent), encoding="utf-8")
    missed = [row for row in rows if not row.agrees(LIMIT)]
    for row in missed:
        print("beyond:", row.line())
    left = ", ".join(absent) or "none"
    print(f"{len(rows)} networks, {len(missed)} beyond {LIMIT:.0%}; not counted: {left}")
    return 1 if missed or not rows else 0


def _count_and_tell(
    wanted: Sequence[Network], listed: Mapping[str, float], asked: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Counts by name, printed and kept as they come."""
    by_name = {network.name: network for network in wanted}
    found: dict[str, dict[str, Any]] = {}
    for counts in count_all(wanted, asked.darknet):
        found[counts["name"]] = counts
        print(_judged(by_name[counts["name"]], counts, listed).line(), flush=True)
        if asked.json is not None:
            asked.json.write_text(json.dumps(list(found.values()), indent=1), encoding="utf-8")
    return found


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="which networks; all by default")
    parser.add_argument("--workloads", type=Path, help="CSV with workload_key and gmacs")
    parser.add_argument("--darknet", type=Path, help="folder with configuration files of Darknet")
    parser.add_argument("--json", type=Path, help="write the counts, row by row as they come")
    parser.add_argument("--from", type=Path, dest="read", help="read counts of an earlier run")
    parser.add_argument("--markdown", type=Path, help="write the table")
    return parser.parse_args(arguments)


def _listed(path: Path | None) -> dict[str, float]:
    """Multiply-adds by key, 10^9."""
    if path is None:
        return {}
    with path.open(encoding="utf-8") as file:
        return {row["workload_key"]: float(row["gmacs"]) for row in csv.DictReader(file)}


def _judged(network: Network, row: Mapping[str, Any], listed: Mapping[str, float]) -> Row:
    return Row(network, row, listed.get(network.listed or ""))


def count_all(wanted: Sequence[Network], darknet: Path | None = None) -> Iterator[dict[str, Any]]:
    """Rows as children print them, in order; networks of absent packages have none (rule B2)."""
    for names in _batches(wanted):
        yield from _counted(names, darknet)


def _batches(wanted: Sequence[Network]) -> Iterator[list[str]]:
    """Networks of one package share a child, which holds one of them at a time."""
    shared: dict[str, list[str]] = {}
    for network in wanted:
        if _is_here(network.source):
            shared.setdefault(network.source, []).append(network.name)
    yield from shared.values()


def _is_here(source: str) -> bool:
    return source == "darknet" or importlib.util.find_spec(source) is not None


def _counted(names: Sequence[str], darknet: Path | None = None) -> Iterator[dict[str, Any]]:
    """Rows of one batch as they come; after a failure the rest goes on in a new child."""
    left = list(names)
    files = ["--darknet", str(darknet)] if darknet is not None else []
    while left:
        command = [sys.executable, "-P", "-m", "jetlift.benchmarks.operations_child", *files, *left]
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8") as complaint,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaint, text=True) as child,
        ):
            for line in child.stdout or ():
                if line.startswith('{"name"'):
                    row = json.loads(line)
                    left.remove(row["name"])
                    yield row
            code = child.wait()
            complaint.seek(0)
            told = complaint.read().strip().splitlines()
        if left:
            reason = (told or [f"exit code {code}"])[-1]
            yield {"name": left.pop(0), "failed": reason[:300]}


if __name__ == "__main__":
    sys.exit(main())
