"""What the page is told a few times per second, as JSON-ready data.

Rules:
    T1  What was not measured is null with its reason, never zero.
    T2  A result is cut to what a page can show: long lists and texts lose their ends, and say so.
    T3  A number that is not finite is sent as its name, since JSON has none of these.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jetlift.runtime.view.history import Point, nearest_rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.runtime.pipeline.form import Snapshot, SourceHealth, StageSummary
    from jetlift.runtime.record import Figure
    from jetlift.runtime.view.board import ViewBoard
    from jetlift.runtime.view.form import BudgetLine, Prompting

LONGEST_LIST, LONGEST_TEXT, DEEPEST = 100, 2000, 4
_MASKS = "masks"  # coded pictures, which nobody reads


class Losses:
    """How long each source has been without a connection. Used by one thread."""

    def __init__(self) -> None:
        self._since_s: dict[int, float] = {}

    def lost_for_s(self, sources: Sequence[SourceHealth], now_s: float) -> list[float | None]:
        """Seconds since each source was lost; None where it is connected."""
        for place, source in enumerate(sources):
            if source.connected:
                self._since_s.pop(place, None)
            else:
                self._since_s.setdefault(place, now_s)
        since = [self._since_s.get(place) for place in range(len(sources))]
        return [None if at_s is None else now_s - at_s for at_s in since]


def state_of(
    board: ViewBoard, snapshot: Snapshot | None, lost_s: list[float | None]
) -> dict[str, Any]:
    """Everything but the history (rules T1 to T3)."""
    told = board.told
    state = {
        "title": told.title,
        "task": told.task,
        "shows": told.shows,
        "run": _run(board, snapshot),
        "now": _now(board, snapshot),
        "counters": _counters(snapshot),
        "stages": [_stage(stage) for stage in (snapshot.stages if snapshot else ())],
        "sources": [
            {**asdict(source), "lost_for_s": lost}
            for source, lost in zip(snapshot.sources if snapshot else (), lost_s, strict=True)
        ],
        "sinks": [asdict(sink) for sink in (snapshot.sinks if snapshot else ())],
        "budget": [_budget(line) for line in told.budget()],
        "prompts": _prompts(told.prompts),
        "watching": board.watching,
    }
    return {**_finite(state), "result": _result(board)}


def point_of(ages_ms: Sequence[float], snapshot: Snapshot | None) -> Point:
    """One point of the history."""
    return Point(
        p50_ms=nearest_rank(ages_ms, 0.50),
        p99_ms=nearest_rank(ages_ms, 0.99),
        per_s=None if snapshot is None else snapshot.per_s,
        rss_bytes=None if snapshot is None else snapshot.rss_bytes.value,
        power_w=None if snapshot is None else snapshot.power_w.value,
    )


def shown(value: object, *, longest_list: int = LONGEST_LIST, deepest: int = DEEPEST) -> object:
    """JSON-ready data cut to what a page can show (rules T2 and T3)."""
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]} …"
    if isinstance(value, dict):
        if deepest == 0:
            return "…"
        return {
            str(name): shown(item, longest_list=longest_list, deepest=deepest - 1)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        if deepest == 0:
            return "…"
        kept = [
            shown(item, longest_list=longest_list, deepest=deepest - 1)
            for item in value[:longest_list]
        ]
        more = len(value) - len(kept)
        return [*kept, f"… and {more} more"] if more else kept
    return value


def _finite(value: Any) -> Any:  # noqa: ANN401 - data of every form
    """The same data without numbers that JSON has none of (rule T3)."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _run(board: ViewBoard, snapshot: Snapshot | None) -> dict[str, Any]:
    ended = board.ended
    if ended is not None:
        state = "ended" if ended.well else "failed"
    else:
        state = "starting" if snapshot is None else "running"
    return {
        "state": state,
        "message": "" if ended is None else ended.message,
        "running_s": None if snapshot is None else snapshot.running_s,
        "trouble": board.health().trouble,
    }


def _now(board: ViewBoard, snapshot: Snapshot | None) -> dict[str, Any]:
    newest, now_s = board.newest, board.clock.now_s()
    captured_s = None if newest is None else getattr(newest.result.item, "captured_s", None)
    services = [stage.service.p50_ms for stage in (snapshot.stages if snapshot else ())
                if stage.service is not None]  # fmt: skip
    return {
        "number": 0 if newest is None else newest.number,
        "picture": newest is not None and newest.picture_bgr is not None,
        "latency_ms": None if newest is None else newest.age_ms,
        "work_ms": sum(services) if services else None,
        "age_ms": None if captured_s is None else max(0.0, now_s - captured_s) * 1000,
        "since_s": None if newest is None else now_s - newest.written_s,
        "per_s": None if snapshot is None else snapshot.per_s,
        "rss_bytes": _figure(None if snapshot is None else snapshot.rss_bytes),
        "power_w": _figure(None if snapshot is None else snapshot.power_w),
    }


def _figure(figure: Figure | None) -> dict[str, Any]:
    if figure is None:
        return {"value": None, "reason": "the run has not begun"}
    return {"value": figure.value, "reason": figure.reason}


def _counters(snapshot: Snapshot | None) -> dict[str, int]:
    if snapshot is None:
        return dict.fromkeys(("done", "dropped", "stale", "skipped", "reconnects"), 0)
    return {
        "done": snapshot.done,
        "dropped": snapshot.dropped,
        "stale": snapshot.stale,
        "skipped": snapshot.skipped,
        "reconnects": sum(source.reconnects for source in snapshot.sources),
    }


def _stage(stage: StageSummary) -> dict[str, Any]:
    return {
        "name": stage.name,
        "done": stage.done,
        "busy_share": stage.busy_share,
        "service_p50_ms": None if stage.service is None else stage.service.p50_ms,
        "service_p99_ms": None if stage.service is None else stage.service.p99_ms,
        "age_p50_ms": None if stage.age is None else stage.age.p50_ms,
        "age_p99_ms": None if stage.age is None else stage.age.p99_ms,
    }


def _budget(line: BudgetLine) -> dict[str, Any]:
    return {
        "name": line.name,
        **_figure(line.value),
        "limit": line.limit,
        "unit": line.unit,
        "better": line.better,
        "ok": line.ok,
    }


def _prompts(prompts: Prompting | str) -> dict[str, Any]:
    if isinstance(prompts, str):
        return {"current": [], "why_not": prompts, "most": 0, "longest": 0}
    return {
        "current": list(prompts.current()),
        "why_not": "",
        "most": prompts.most,
        "longest": prompts.longest,
    }


def _result(board: ViewBoard) -> object:
    newest = board.newest
    if newest is None:
        return None
    fields = newest.result.outcome.fields
    return shown({name: item for name, item in fields.items() if name != _MASKS})
