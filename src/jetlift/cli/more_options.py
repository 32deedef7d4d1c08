"""Options of `bench` for what it measures beyond one run after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from jetlift.cli.options import list_of

if TYPE_CHECKING:
    from jetlift.benchmarks.more import More

BatchOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--batch", help="Batches to sweep, as in 1,2,4,8; each in a process of its own."),
]
CallersOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--callers", help="Numbers of threads calling at once to sweep, as in 1,2,4."),
]
ScenarioOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--scenario",
        help="Scenarios of MLPerf's LoadGen to play: SingleStream, MultiStream, Offline, Server.",
    ),
]
ScenarioSecondsOption = Annotated[
    float, typer.Option("--scenario-seconds", min=0.5, help="Least duration of each scenario.")
]
ServerRateOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--server-qps", help="Queries per second that Server sends; searched if not given."
    ),
]
ServerLimitOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--server-limit-ms",
        help="Latency that 99 % of Server's queries must keep; three medians if not given.",
    ),
]
ColdStartsOption = Annotated[
    int,
    typer.Option(
        "--cold-starts", min=0, help="Fresh processes to time to their first result, as in 5."
    ),
]


def more_of(
    batch: str | None,
    callers: str | None,
    scenario: str | None,
    scenario_seconds: float,
    server_qps: float | None,
    server_limit_ms: float | None,
    cold_starts: int,
) -> More:
    """What the options ask for.

    Raises:
        UsageError: A list has something else than whole numbers, or a number is not positive.
        UnknownNameError: No such scenario.
    """
    from jetlift.benchmarks.more import More

    return More(
        batches=_numbers("--batch", batch),
        callers=_numbers("--callers", callers),
        scenarios=tuple(dict.fromkeys(list_of(scenario) or ())),
        scenario_seconds=scenario_seconds,
        server_per_s=server_qps,
        server_limit_ms=server_limit_ms,
        cold_starts=cold_starts,
    )


def _numbers(option: str, text: str | None) -> tuple[int, ...]:
    from jetlift.runtime.errors import UsageError

    items = list_of(text) or []
    wrong = [item for item in items if not (item.isascii() and item.isdigit() and int(item) > 0)]
    if wrong or (text is not None and not items):
        raise UsageError(
            f"{option} got {text!r}", expected="Whole numbers from 1 on, separated by commas"
        )
    return tuple(dict.fromkeys(int(item) for item in items))
