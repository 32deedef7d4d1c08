"""One scenario of MLPerf's LoadGen, played on a session in this process.

Rules:
    P1  LoadGen gets what it has to expect (latency, rate) from a few runs timed before.
    P2  Its least number of queries is its own default of 100, or as many as fit into the asked
        time where that is fewer: a model of a second per run is not played for minutes. Its early
        stopping rule then says that they were too few.
    P3  Server's limit is the user's, or three times the median of single runs. Its rate is the
        user's, or the highest of a bisection by four short trials in which LoadGen found the limit
        kept. Which of them is told.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetlift.benchmarks import loadgen_log
from jetlift.benchmarks.batches import shapes_at
from jetlift.benchmarks.loadgen import bear, loadgen
from jetlift.benchmarks.stop import StopRules, time_runs
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.feeds import random_feeds
from jetlift.runtime.latencies import latency_of
from jetlift.runtime.scenario_form import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from jetlift.benchmarks.more_jobs import ScenarioJob

    Trial = Callable[[float, float, Path], "dict[str, Any]"]

_FEW = StopRules(min_runs=5, max_runs=30, time_limit_s=2.0, warmup_max_runs=20, warmup_limit_s=2.0)
_MIN_QUERIES = 100  # LoadGen's own default
_LIMIT_FACTOR = 3.0
_TRIALS = 4
_TRIAL_SHARE = 0.25
_TRIAL_RUNS = 30
_HEADROOM = 1.1  # Offline is drawn in advance; too short a query is no valid one


@dataclass(frozen=True)
class Server:
    """What Server is played with (rule P3)."""

    per_s: float
    limit_ms: float
    how: str


def play(job: ScenarioJob) -> Scenario:
    """Open a session, look how fast it is, let LoadGen draw the load (rules P1 to P3).

    Raises:
        MissingPackageError: LoadGen is not installed.
        JetliftError: The bundle, the engine or a run failed.
    """
    from jetlift.runtime.session import open_session

    loadgen()  # before an engine is loaded for nothing
    bundle = Bundle.open(job.bundle)
    part = bundle.part(job.part)[1]
    feeds = random_feeds(part, job.seed, shapes_at(part, job.batch))
    with open_session(
        bundle, job.part, job.variant, target=job.target, threads=job.threads
    ) as session:

        def run() -> object:
            return session.run(feeds)

        timed = time_runs(lambda _index: run(), _FEW, SYSTEM_CLOCK.now_s)
        run_ms = latency_of(timed.samples_ms, stopped_by=timed.stopped_by).p50_ms
        server = None
        if job.name == "Server":
            server = _server(job, run, run_ms)
        told = bear(run, lambda lg: settings(lg, job, run_ms, server), job.batch, Path(job.folder))
    return _scenario(job, told, server)


def settings(lg: ModuleType, job: ScenarioJob, run_ms: float, server: Server | None) -> Any:  # noqa: ANN401
    """LoadGen's TestSettings for a scenario (rules P1, P2).

    Args:
        lg: LoadGen.
        job: What is asked.
        run_ms: Median time of one run of `job.batch` items.
        server: Rate and limit of Server; no matter elsewhere.
    """
    asked = lg.TestSettings()
    asked.scenario = getattr(lg.TestScenario, job.name)
    asked.mode = lg.TestMode.PerformanceOnly
    asked.min_duration_ms = round(job.seconds * 1e3)
    per_query = job.samples_per_query if job.name == "MultiStream" else 1
    query_ms = run_ms * -(-per_query // job.batch)
    asked.single_stream_expected_latency_ns = round(query_ms * 1e6)
    asked.multi_stream_expected_latency_ns = round(query_ms * 1e6)
    asked.multi_stream_samples_per_query = job.samples_per_query
    asked.offline_expected_qps = _HEADROOM * job.batch * 1e3 / run_ms
    if server is not None:
        asked.server_target_qps = server.per_s
        asked.server_target_latency_ns = round(server.limit_ms * 1e6)
        query_ms = 1e3 / server.per_s
    asked.min_query_count = min(_MIN_QUERIES, max(1, round(job.seconds * 1e3 / query_ms)))
    return asked


def _server(job: ScenarioJob, run: Callable[[], object], run_ms: float) -> Server:
    """Rate and limit (rule P3)."""
    limit_ms, told = job.server_limit_ms, "limit given"
    if limit_ms is None:
        limit_ms = round(_LIMIT_FACTOR * run_ms, 3)
        told = f"limit {_LIMIT_FACTOR:g} times the median of single runs"
    if job.server_per_s is not None:
        return Server(job.server_per_s, limit_ms, f"rate given, {told}")
    kept_ms, short_s = limit_ms, _trial_s(job.seconds, run_ms)

    def keeps(per_s: float) -> bool:
        server = Server(per_s, kept_ms, "")
        folder = Path(job.folder) / f"trial-{per_s:g}"
        short = replace(job, seconds=short_s)
        found = bear(run, lambda lg: settings(lg, short, run_ms, server), job.batch, folder)
        return bool(found.get("result_perf_constraints_met"))

    per_s = found_rate(keeps, job.batch * 1e3 / run_ms)
    how = f"rate found by {_TRIALS} trials of {short_s:g} s, {told}"
    return Server(per_s, limit_ms, how)


def found_rate(keeps: Callable[[float], bool], most: float) -> float:
    """The highest rate that was seen to keep the limit, by bisection of 0 to `most`.

    Where none was, the lowest that was tried.
    """
    low, high, tried = 0.0, most, []
    for _ in range(_TRIALS):
        rate = round((low + high) / 2, 4)
        tried.append(rate)
        if keeps(rate):
            low = rate
        else:
            high = rate
    return low or min(tried)


def _trial_s(seconds: float, run_ms: float) -> float:
    """A quarter of the scenario, or as long as so many runs take, but no longer than itself."""
    wanted_s = max(1.0, seconds * _TRIAL_SHARE, _TRIAL_RUNS * run_ms / 1e3)
    return round(min(seconds, wanted_s), 3)


def _scenario(job: ScenarioJob, told: dict[str, Any], server: Server | None) -> Scenario:
    queries = int(told["result_query_count"])
    per_query = int(told["generated_samples_per_query"])
    reasons = loadgen_log.reasons_of(told)
    version = importlib.metadata.version("mlcommons-loadgen")
    return Scenario(
        part=job.part,
        variant=job.variant,
        name=job.name,
        by=f"mlcommons-loadgen {version}",
        seconds=job.seconds,
        samples_per_query=per_query,
        asked_per_s=None if server is None else server.per_s,
        queries=queries,
        samples=queries * per_query,
        p50_ms=loadgen_log.latency_ms(told, 50),
        p90_ms=loadgen_log.latency_ms(told, 90),
        p99_ms=loadgen_log.latency_ms(told, 99),
        throughput_per_s=loadgen_log.rate_per_s(told),
        valid=not reasons,
        reasons=reasons,
        batch=job.batch,
        limit_ms=None if server is None else server.limit_ms,
        asked_how="" if server is None else server.how,
    )
