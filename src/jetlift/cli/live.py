"""Options of 'jetlift run' for what is live, where results go, and how a run is judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

from jetlift.cli.verdicts import VerdictFiles

if TYPE_CHECKING:
    from jetlift.runtime.logs import Log

ToOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--to",
        help="Where results go as well; give several. A file by its suffix (results.jsonl, "
        "boxes.csv, words.srt, out.mp4, pictures/), https://…, mqtt://HOST/TOPIC, rtsp://…, "
        "udp://…; see docs/sinks.md.",
    ),
]
ViewFlag = Annotated[
    bool, typer.Option("--view", help="Show the run live in a browser, at 127.0.0.1:8090.")
]
ViewAtOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--view-at",
        metavar="HOST:PORT",
        help="The same elsewhere; what other machines can reach asks for a token, which is told.",
    ),
]
MetricsOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--metrics", metavar="HOST:PORT", help="Serve the run's figures for Prometheus there."
    ),
]
BudgetOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--budget", help="Limits to hold the run against (docs/budget.md); exit code 1 if missed."
    ),
]
RecordOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--record", help="Folder to keep the run's figures in, as record.json."),
]
BatchOption = Annotated[
    int,
    typer.Option(
        "--batch", min=1, help="Inputs that may share a run of the engine, where it takes several."
    ),
]
BatchWaitOption = Annotated[
    float,
    typer.Option(
        "--batch-wait", min=0.0, metavar="MS", help="How long the first of them waits for others."
    ),
]
MaxAgeOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--max-age",
        min=0.0,
        metavar="MS",
        help="Leave out frames older than this before the engine.",
    ),
]
HangLimitOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--hang-limit",
        min=0.0,
        metavar="S",
        help="End the run if one item takes a stage longer than this.",
    ),
]
LogOption = Annotated[
    str, typer.Option("--log", help="What is told meanwhile: as text, or as lines of json.")
]

LogKind = Literal["text", "json"]


@dataclass(frozen=True)
class Live:
    """What a user says of a run's ends, and of how it is judged.

    Attributes:
        to: Further sinks.
        view: Where the live page is served; None shows none, empty takes the default.
        metrics: Where figures are served; None serves none.
        budget: File of limits.
        record: Folder for the record.
        batch: Items per run of the engine, at most.
        batch_wait_s: How long the first of them waits.
        max_age_s: Older frames are left out.
        hang_limit_s: Longest that a stage may take for one item.
        log: How events are told.
        verdict: Where the budget's verdict is written as well.
    """

    to: tuple[str, ...] = ()
    view: str | None = None
    metrics: str | None = None
    budget: Path | None = None
    record: Path | None = None
    batch: int = 1
    batch_wait_s: float = 0.0
    max_age_s: float | None = None
    hang_limit_s: float | None = None
    log: str = "text"
    verdict: VerdictFiles = VerdictFiles()

    @property
    def judged(self) -> bool:
        """Whether the run becomes a record or is held against a budget."""
        return self.budget is not None or self.record is not None


def live_of(
    to: list[str] | None,
    view: str | None,
    metrics: str | None,
    budget: Path | None,
    record: Path | None,
    ages: tuple[int, float, float | None, float | None],
    log: str,
) -> Live:
    """The options as one object.

    Args:
        to: Further sinks.
        view: Where the live page is served.
        metrics: Where figures are served.
        budget: File of limits.
        record: Folder for the record.
        ages: --batch, --batch-wait, --max-age and --hang-limit.
        log: How events are told.

    Raises:
        UsageError: The log is of no known kind.
    """
    from jetlift.runtime.errors import UsageError

    if log not in ("text", "json"):
        raise UsageError(f"Got --log {log}", expected="text or json")
    batch, batch_wait_ms, max_age_ms, hang_limit_s = ages
    return Live(
        to=tuple(to or ()),
        view=view,
        metrics=metrics,
        budget=budget,
        record=record,
        batch=batch,
        batch_wait_s=batch_wait_ms / 1000,
        max_age_s=None if max_age_ms is None else max_age_ms / 1000,
        hang_limit_s=hang_limit_s,
        log=log,
    )


def judged_only(live: Live, *, fix_clocks: bool) -> bool:
    """Whether clocks are to be held, which is for figures alone.

    Raises:
        UsageError: They are to be held, and no figures are wanted.
    """
    from jetlift.runtime.errors import UsageError

    if fix_clocks and not live.judged:
        raise UsageError(
            "Got --fix-clocks without --record or --budget",
            expected="A run whose figures are kept or judged",
            do="Add --record DIR, or leave --fix-clocks out",
        )
    return fix_clocks


def log_of(live: Live) -> Log:
    """What tells events."""
    from jetlift.runtime.logs import JsonLines, PlainLines

    return JsonLines() if live.log == "json" else PlainLines()
