"""A run that has ended, with a real engine's real times, for tests of what is said of it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from helpers.tiny_bundle import tiny_bundle

from jetlift.jetson import board
from jetlift.runtime.feeds import random_feeds
from jetlift.runtime.figure import Figure
from jetlift.runtime.pipeline.form import (
    AgeSummary,
    SinkHealth,
    Snapshot,
    SourceHealth,
    StageSummary,
)
from jetlift.runtime.run_facts import FinishedRun, RunEngine
from jetlift.runtime.session import open_session
from jetlift.runtime.session.timed import TimedSession


def snapshot(*, live: bool = True, count: int = 300) -> Snapshot:
    """A camera's run where `live`, else one of texts, whose age is how long they stood in line."""

    def ages(scale: float) -> AgeSummary:
        return AgeSummary(count, 10 * scale, 9.5 * scale, 14 * scale, 21.25 * scale, 30 * scale)

    aged = {"capture": 1.0, "prepare": 1.5, "infer": 3.0, "finish": 3.2, "sink": 3.4}
    stages = tuple(
        StageSummary(name, count, 0.1 * scale, ages(scale / 10), ages(scale))
        for name, scale in aged.items()
    )
    camera = SourceHealth(
        "rtsp://ann:secret@camera.example/door", live=True, clock="when the packet arrived",
        captured=320, skipped=2, reconnects=1, lost_s=4.25,
        trouble="rtsp://ann:secret@camera.example/door closed the connection",
    )  # fmt: skip
    texts = SourceHealth("/home/ann lee/texts.txt", live=False, clock="none", captured=count)
    sinks = (
        SinkHealth("jsonl", written=count),
        SinkHealth("mqtt", written=290, dropped=10, trouble="broker.example:1883 refused"),
    )
    return Snapshot(
        running_s=10.0,
        done=count,
        per_s=count / 10,
        dropped=15 if live else 0,
        stale=3 if live else 0,
        skipped=2,
        stages=stages,
        sources=(camera if live else texts,),
        sinks=sinks,
        rss_bytes=Figure(2**28),
    )


def finished_run(
    folder: Path, variant: str = "fp32", *, runs: int = 12, items: int = 120, **changes: Any
) -> FinishedRun:
    """A run of a tiny bundle's `mlp`, whose engine has really computed `runs` times."""
    bundle = tiny_bundle(folder / "bundle", random=False)
    probe = board.ProcessProbe()
    before = probe.read()
    with TimedSession(open_session(bundle, "mlp", variant, threads=1)) as session:
        loaded = probe.read()
        feeds = random_feeds(bundle.part("mlp")[1], 0)
        for _ in range(runs):
            session.run(feeds)
    given: dict[str, Any] = {
        "bundle": bundle,
        "target": "cpu",
        "command": ("jetlift", "run", str(folder / "bundle"), "rtsp://ann:secret@camera.example/1"),
        "began": dt.datetime(2026, 3, 1, 12, 0, 5, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        "ended": "it was told to stop",
        "snapshot": snapshot(),
        "engines": (RunEngine("mlp", variant, session, 12.5, Figure(2**20), ("a notice",)),),
        "item_ms": [1.0 + index / 100 for index in range(items)],
        "machine": board.describe_machine(watch_s=0.01),
        "before": before,
        "loaded": loaded,
        "after": probe.read(),
        "threads": {"infer": 1, "prepare": 2},
        "cold_start_s": Figure(1.5),
    }
    return FinishedRun(**(given | changes))
