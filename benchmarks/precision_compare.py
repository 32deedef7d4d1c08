r"""INT8 by jetlift beside the INT8 of other tools: one graph, one set of samples, one metric.

    python -m jetlift.benchmarks.precision_compare BUNDLE --samples DIR -o OUT
    python -m jetlift.benchmarks.precision_compare --join OUT1 OUT2 ... -o OUT

The first form takes a bundle with an int8 variant and the samples it was exported with. Every other
tool quantises the bundle's own fp32 graph, calibrated on the bundle's calibration set; all graphs
are then computed by ONNX Runtime on the report set and judged by the part's own metric. OUT gets
compare.json, compare.md and, with matplotlib, compare.svg. A method's result is kept in OUT/methods
and used again as long as graph, samples, options and versions are the same, so an interrupted run
goes on where it was. The second form joins several OUT folders into one table and chart.

NVIDIA Model Optimizer pins versions of onnx and onnxruntime that jetlift cannot have, so it lives
in a Python of its own, which --modelopt-python names:

    python3 -m venv modelopt-venv
    modelopt-venv/bin/pip install torch==2.13.0 onnx==1.23.2 onnxruntime==1.32.0 \
        onnx-graphsurgeon onnxconverter-common onnxscript onnxslim polygraphy cppimport lief \
        omegaconf "pulp<4" ninja nvidia-ml-py tqdm pydantic regex rich safetensors scipy PyYAML
    modelopt-venv/bin/pip install --no-deps nvidia-modelopt==0.47.0

(torch from PyTorch's CPU index saves two gigabytes of CUDA libraries.)

Exit codes: 0 done; a peer that fails is a row with a remark. 2 usage. 4 a peer that was asked for
by name is not installed; without --methods it is left out, and the table says so.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.benchmarks.canvas import write_chart
from jetlift.benchmarks.compare_chart import to_svg
from jetlift.benchmarks.compare_form import Table, read_table, write_table
from jetlift.benchmarks.compare_request import Request
from jetlift.benchmarks.compare_run import Progress, compare
from jetlift.benchmarks.compare_table import CHART_NAME, to_markdown
from jetlift.benchmarks.quantisers import METHODS
from jetlift.runtime import atomic
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import JetliftError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.benchmarks.compare_form import Comparison

MARKDOWN_NAME = "compare.md"


def write(out: Path, comparisons: Sequence[Comparison]) -> str:
    """Write table, Markdown and chart.

    Args:
        out: The folder; it may hold those of an earlier run.
        comparisons: What to show.

    Returns:
        The Markdown.

    Raises:
        StorageError: The folder cannot be written.
    """
    table = Table(importlib.metadata.version("jetlift"), tuple(comparisons))
    write_table(out, table)
    drawn = write_chart(out / CHART_NAME, lambda: to_svg(table))
    text = to_markdown(table, chart=drawn)
    atomic.write_bytes(out / MARKDOWN_NAME, text.encode())
    return text


def join(folders: Sequence[Path], out: Path) -> str:
    """Show the comparisons of several folders together; returns the Markdown.

    Raises:
        InputError: A folder has no comparison.
        ArtefactError: One is not of this form.
        StorageError: The folder cannot be written.
    """
    return write(out, [item for folder in folders for item in read_table(folder).comparisons])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jetlift.benchmarks.precision_compare",
        description=(__doc__ or "").splitlines()[0],
    )
    parser.add_argument("bundle", type=Path, nargs="?", help="a bundle with an int8 variant")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--samples", type=Path, help="the samples the bundle was exported with")
    parser.add_argument("--part", help="part of the bundle; not needed where it has one")
    parser.add_argument("--methods", help=f"separated by commas, of: {', '.join(METHODS)}")
    parser.add_argument(
        "--judge-on", choices=("report", "search"), default="report",
        help="'search' keeps the report set unread while something is still being chosen",
    )  # fmt: skip
    parser.add_argument(
        "--calibrate-on", choices=("calibration", "both"), default="calibration",
        help="'both' gives peers the samples that jetlift searched on as well",
    )  # fmt: skip
    parser.add_argument("--modelopt-python", help="a Python that has NVIDIA Model Optimizer")
    parser.add_argument("--rtx", action="store_true", help="also build with TensorRT-RTX, SM 8.6")
    parser.add_argument(
        "--join", type=Path, nargs="+", metavar="OUT", help="show the results of these folders"
    )
    return parser


def _request(asked: argparse.Namespace) -> Request:
    if asked.bundle is None or asked.samples is None:
        raise UsageError(
            "A comparison needs a bundle and its samples",
            expected="BUNDLE --samples DIR, or --join OUT1 OUT2",
        )
    bundle = Bundle.open(asked.bundle)
    methods = asked.methods and tuple(name.strip() for name in asked.methods.split(","))
    return Request(
        bundle=bundle,
        part=bundle.part(asked.part)[0],
        samples=asked.samples,
        out=asked.out,
        methods=methods or None,
        judge_on=asked.judge_on,
        calibrate_on=asked.calibrate_on,
        modelopt_python=asked.modelopt_python,
        rtx=asked.rtx,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for."""
    asked = _parser().parse_args(arguments)
    try:
        if asked.join:
            if asked.bundle is not None:
                raise UsageError("--join takes folders of finished comparisons and no bundle")
            text = join(asked.join, asked.out)
        else:
            text = write(asked.out, [compare(_request(asked), Progress())])
    except JetliftError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
