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
        help="Folder, .safetensors file, hub id, 'package' for the offline source, or "
        "'random[:SEED]' for the structure alone; the recipe's hub id if not given.",
    ),
]
FramesOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--frames",
        help="Take whole camera frames of this size, as in 1280x720: resizing, cropping, colour "
        "order and normalisation go into the graph.",
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
InputsArgument = Annotated[
    list[str],
    typer.Argument(help="Files, folders, globs, videos, /dev/video0, sound; .txt or - for text."),
]
TaskOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--task", help="What to do; the bundle's first task if not given."),
]
FitOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--fit", help="Anomaly model made by 'jetlift fit'."),
]
IndexOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--index", help="Search index made by 'jetlift index'."),
]
LimitOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--limit", min=1, help="Stop after this many inputs (a camera never ends)."),
]
ResultsOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--out", "-o", help="Folder for results.jsonl, arrays and pictures."),
]
PartOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--part", help="Part that takes the inputs, where a model has several, as in text."
    ),
]
PromptOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--prompt", help="A word or phrase to compare pictures with; give several."),
]
TemplateOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--template",
        help="Sentence for the prompts, as in 'a photo of a {}.'; several are averaged, '{}' takes "
        "the prompt alone. The model's own if not given.",
    ),
]
PromptsFileOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--prompts", help="Features made by 'jetlift prompts'."),
]
TopKOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--top-k", min=1, help="How many labels or hits at most; 5 if not given."),
]
AllowRandomFlag = Annotated[
    bool,
    typer.Option("--allow-random", help="Run a bundle of random weights, whose answers are none."),
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder to write; it must not exist.")]


def list_of(text: str | None) -> list[str] | None:
    """Names separated by commas; None stays None, which means all."""
    return None if text is None else [item.strip() for item in text.split(",") if item.strip()]
