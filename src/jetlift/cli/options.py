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
PrecisionOption = Annotated[str, typer.Option("--precision", help="Variant to use.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder to write; it must not exist.")]


def list_of(text: str | None) -> list[str] | None:
    """Names separated by commas; None stays None, which means all."""
    return None if text is None else [item.strip() for item in text.split(",") if item.strip()]
