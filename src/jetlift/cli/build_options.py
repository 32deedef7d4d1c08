"""Options of TensorRT builds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

# Typer evaluates annotations at run time, where Python 3.10 and Typer 0.12 want Optional.
_PANEL = "TensorRT"

OptimizationLevelOption = Annotated[
    int,
    typer.Option(min=0, max=5, rich_help_panel=_PANEL, help="How long the builder searches."),
]
WorkspaceOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        min=1, metavar="MIB", rich_help_panel=_PANEL,
        help="Limit of scratch memory; TensorRT's own choice if not given.",
    ),
]  # fmt: skip
VersionCompatibleFlag = Annotated[
    bool,
    typer.Option(
        "--version-compatible", rich_help_panel=_PANEL,
        help="Newer TensorRT of the same major may load it.",
    ),
]  # fmt: skip
RefitFlag = Annotated[
    bool,
    typer.Option("--refit", rich_help_panel=_PANEL, help="Its weights can be replaced later."),
]
StripFlag = Annotated[
    bool,
    typer.Option(
        "--strip", rich_help_panel=_PANEL,
        help="Leave the weights out; they are given before it runs.",
    ),
]  # fmt: skip
DlaCoreOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        min=0, rich_help_panel=_PANEL,
        help="DLA core to run on; what it cannot run goes to the GPU and is listed.",
    ),
]  # fmt: skip
ProfileBucketsOption = Annotated[
    int,
    typer.Option(
        min=1, max=8, rich_help_panel=_PANEL,
        help="Optimisation profiles to split wide shapes into.",
    ),
]  # fmt: skip
TimingCacheOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--timing-cache", rich_help_panel=_PANEL,
        help="Folder of kernel timings kept between builds; the user's cache folder if not given.",
    ),
]  # fmt: skip
NoTimingCacheFlag = Annotated[
    bool, typer.Option("--no-timing-cache", rich_help_panel=_PANEL, help="Keep no timings.")
]
TimeLimitOption = Annotated[
    float,
    typer.Option(min=1.0, rich_help_panel=_PANEL, help="Seconds that one engine may take."),
]
JetpackOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--jetpack", rich_help_panel="Boards",
        help="Release on a board that is elsewhere, as in 6.2; the newest known if not given.",
    ),
]  # fmt: skip
