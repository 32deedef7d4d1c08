"""The child that plays sweeps and scenarios: `python -m jetlift.benchmarks.more_worker`.

It keeps the rules of `jetlift.benchmarks.worker`: a job on standard input, the answer alone on
standard output, one engine library.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.benchmarks import worker
from jetlift.benchmarks.batches import shapes_at
from jetlift.benchmarks.callers import call_together
from jetlift.benchmarks.more_jobs import ScenarioJob, SweepAnswer, SweepJob
from jetlift.jetson import board
from jetlift.runtime import jsonform
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import UsageError
from jetlift.runtime.feeds import random_feeds
from jetlift.runtime.latencies import percentile

if TYPE_CHECKING:
    from collections.abc import Callable

    from jetlift.benchmarks.measure import Feeds
    from jetlift.runtime.probe import Probe
    from jetlift.runtime.session.base import Session


def main() -> None:
    """Read a job, do it, write the answer."""
    worker.answer_with(_do)


def _do(text: bytes) -> Any:  # noqa: ANN401 - any answer, which jsonform writes
    kind = json.loads(text)["job"]
    if kind == "sweep":
        return sweep(jsonform.loads(SweepJob, text), board.ProcessProbe())
    if kind == "scenario":
        from jetlift.benchmarks.scenario_child import play

        return play(jsonform.loads(ScenarioJob, text))
    raise UsageError(f"Got a job {kind!r}", expected="sweep or scenario")


def sweep(job: SweepJob, probe: Probe) -> SweepAnswer:
    """Measure one combination of batch and callers.

    Raises:
        UsageError: The part's profile does not admit the batch.
        JetliftError: The bundle, the engine or a run failed.
    """
    from jetlift.runtime.session.callers import open_callers

    bundle = Bundle.open(job.bundle)
    part = bundle.part(job.part)[1]
    feeds = random_feeds(part, job.seed, shapes_at(part, job.batch))
    with open_callers(
        bundle, job.part, job.variant, job.callers, target=job.target, threads=job.threads
    ) as (sessions, how):
        calls = call_together(
            [_run(session, feeds) for session in sessions],
            limit_s=job.seconds,
            max_runs=job.max_runs,
        )
    return SweepAnswer(
        runs=len(calls.samples_ms),
        p50_ms=round(float(np.median(calls.samples_ms)), 5),
        p99_ms=percentile(calls.samples_ms, 99),
        throughput_per_s=round(calls.runs_per_s * job.batch, 4),
        rss_peak_bytes=probe.read().rss_peak_bytes,
        how=how,
    )


def _run(session: Session, feeds: Feeds) -> Callable[[int], object]:
    return lambda _index: session.run(feeds)


if __name__ == "__main__":
    main()
