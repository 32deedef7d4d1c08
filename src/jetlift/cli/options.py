"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

# Typer evaluates annotations at run time, where Python 3.10 and Typer 0.12 want Optional.
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
BundleArgument = Annotated[Path, typer.Argument(help="Folder made by 'jetlift export'.")]
TargetOption = Annotated[
    str, typer.Option("--target", help="Where the engine runs: cpu, rtx-sm86, …")
]
ThreadsOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--threads", min=1, help="Threads to compute with; the library's choice if not given."
    ),
]
PrecisionOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--precision",
        help="Variant to use; if not given, the one that 'jetlift build' found fastest on this "
        "machine, else fp32.",
    ),
]
OwnTaskOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--task",
        help="For --onnx: what the graph does. 'detect' takes a YOLOX detector's raw output.",
    ),
]
LabelsOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--labels",
        help="For --task detect: class names, one per line. 80 classes are COCO's without it.",
    ),
]
WeightsOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--weights",
        help="Folder, .safetensors file, hub id, or 'package' for the offline source; "
        "the recipe's hub id if not given.",
    ),
]
SamplesOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--samples",
        help="Real input: pictures, a .txt file, or .npz files for your own graph. "
        "One half calibrates and searches INT8, the other measures fidelity.",
    ),
]
SearchMinutesOption = Annotated[
    float,
    typer.Option(
        "--search-minutes",
        min=0.0,
        help="Bound of the precision search per part. What it returns is always within the "
        "budget; with more time more of it runs in INT8. Interrupted, it goes on next time.",
    ),
]
ExploreOption = Annotated[
    bool,
    typer.Option(
        "--explore",
        help="Measure every block's sensitivity and the curve of INT8 share against fidelity "
        "even where everything fits.",
    ),
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder to write; it must not exist.")]


def list_of(text: str | None) -> list[str] | None:
    """Names separated by commas; None stays None, which means all."""
    return None if text is None else [item.strip() for item in text.split(",") if item.strip()]
