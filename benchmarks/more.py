"""What a benchmark measures beyond one run after another: cold starts, sweeps, scenarios.

Rules:
    A1  Each is asked for; a plain benchmark does none of them.
    A2  Each measuring is a fresh child (rules C1 to C4 of measure.py). One that cannot be done is
        told among `not_done` with the reason, and the others go on.
    A3  A batch that the part's profile does not admit is told without starting a child.
    A4  Batches are swept with one caller, callers with the batch that the part is measured at.
    A5  LoadGen's logs lie in a temporary folder of this process's, which is gone at the end even
        where the child was killed.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from jetlift.benchmarks import measure
from jetlift.benchmarks.batches import batch_of, largest_batch, shapes_at
from jetlift.benchmarks.cold_start import cold_start
from jetlift.benchmarks.more_jobs import MORE_WORKER, ScenarioJob, SweepAnswer, SweepJob
from jetlift.runtime.errors import MachineError, UnknownNameError, UsageError
from jetlift.runtime.scenario_form import ColdStart, NotDone, Scenario, ScenarioName, SweepPoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.manifest import Part

SCENARIOS: tuple[str, ...] = get_args(ScenarioName)
SAMPLES_PER_QUERY = 8  # LoadGen's default for MultiStream
_PATIENCE_S = 600.0
_MAX_RUNS = 2000
_MOST_SECONDS = 3600.0


@dataclass(frozen=True)
class More:
    """What is asked for (rule A1).

    Attributes:
        batches: Items per run to sweep.
        callers: Threads at once to sweep.
        sweep_seconds: Longest time of one point's timed runs.
        scenarios: LoadGen's scenarios to play.
        scenario_seconds: Least duration of each.
        server_per_s: Queries per second that Server sends; None to search.
        server_limit_ms: Latency that 99 % of Server's queries must keep; None for three medians.
        cold_starts: Fresh processes per variant.
        fix_clocks: Whether the command line holds the clocks meanwhile.
        cold_starts_why: Who asked for cold starts, where nobody did by an option; told in progress.

    Raises:
        UnknownNameError: No such scenario.
        UsageError: A number is not positive.
    """

    batches: tuple[int, ...] = ()
    callers: tuple[int, ...] = ()
    sweep_seconds: float = 5.0
    scenarios: tuple[str, ...] = ()
    scenario_seconds: float = 10.0
    server_per_s: float | None = None
    server_limit_ms: float | None = None
    cold_starts: int = 0
    fix_clocks: bool = False
    cold_starts_why: str = ""

    def __post_init__(self) -> None:
        for name in self.scenarios:
            if name not in SCENARIOS:
                raise UnknownNameError(
                    f"Scenario {name!r} is unknown", expected=f"One of {', '.join(SCENARIOS)}"
                )
        seconds = (self.sweep_seconds, self.scenario_seconds)
        given = (self.server_per_s, self.server_limit_ms)
        numbers = [*self.batches, *self.callers, *seconds, *(n for n in given if n is not None)]
        if min(numbers) <= 0 or self.cold_starts < 0 or max(seconds) > _MOST_SECONDS:
            raise UsageError(
                f"Got batches {list(self.batches)}, callers {list(self.callers)}, "
                f"{self.cold_starts} cold starts, {self.sweep_seconds:g} s per point, "
                f"{self.scenario_seconds:g} s per scenario, rate and limit {given}",
                expected=f"Positive numbers, and at most {_MOST_SECONDS:g} s",
            )

    def steps(self) -> int:
        """How many measurings per variant."""
        points = len(self.batches) + len(self.callers)
        return points + len(self.scenarios) + bool(self.cold_starts)

    def words(self) -> list[str]:
        """The options of 'jetlift bench' that ask for the same."""
        words = []
        if self.batches:
            words += ["--batch", ",".join(map(str, self.batches))]
        if self.callers:
            words += ["--callers", ",".join(map(str, self.callers))]
        if self.scenarios:
            words += ["--scenario", ",".join(self.scenarios)]
            words += ["--scenario-seconds", f"{self.scenario_seconds:g}"]
        if self.server_per_s is not None:
            words += ["--server-qps", f"{self.server_per_s:g}"]
        if self.server_limit_ms is not None:
            words += ["--server-limit-ms", f"{self.server_limit_ms:g}"]
        if self.cold_starts:
            words += ["--cold-starts", str(self.cold_starts)]
        if self.fix_clocks:
            words += ["--fix-clocks"]
        return words


@dataclass(frozen=True)
class Subject:
    """One variant that is measured.

    Attributes:
        bundle: The bundle.
        part: Name of the part.
        variant: Name of the variant.
        target: Target of the engine.
        threads: Threads to compute with, or None for the library's choice.
        seed: Seed of the random inputs.
    """

    bundle: Bundle
    part: str
    variant: str
    target: str
    threads: int | None
    seed: int

    def fields(self) -> dict[str, Any]:
        """What every job about it says of it; see measure.OfAVariant."""
        return vars(self) | {"bundle": str(self.bundle.folder)}


@dataclass
class Found:
    """What was found, in the order measured: the record's fields of the same names."""

    sweep: list[SweepPoint] = field(default_factory=list)
    scenarios: list[Scenario] = field(default_factory=list)
    cold_starts: list[ColdStart] = field(default_factory=list)
    not_done: list[NotDone] = field(default_factory=list)


def measure_more(more: More, subject: Subject, found: Found, tell: Callable[[str], None]) -> None:
    """Measure all that is asked for of one variant (rules A1 to A5).

    Args:
        more: What is asked for.
        subject: Of which variant.
        found: Takes what was found.
        tell: Told each step's name before it begins.

    Raises:
        JetliftError: The bundle or engine is refused, or the call is wrong.
    """
    for what, do in _steps(more, subject, found):
        tell(f"{subject.part} {subject.variant}, {what}")
        try:
            do()
        except (MachineError, UsageError) as error:  # A2
            found.not_done.append(NotDone(subject.part, subject.variant, what, str(error)))


def _steps(more: More, subject: Subject, found: Found) -> Iterator[tuple[str, Callable[[], None]]]:
    if more.cold_starts:
        yield (
            f"{more.cold_starts} cold starts{more.cold_starts_why}",
            lambda: found.cold_starts.append(cold_start(subject, more.cold_starts)),
        )
    own = batch_of(subject.bundle.part(subject.part)[1])
    for batch, callers in _points(more.batches, more.callers, own):
        what = f"batch {batch}" if callers == 0 else f"callers {callers}"

        def point(batch: int = batch, callers: int = callers) -> None:
            found.sweep.append(_point(more, subject, batch, callers or 1))

        yield what, point
    for name in more.scenarios:

        def scenario(name: str = name) -> None:
            found.scenarios.append(_scenario(more, subject, name))

        yield name, scenario


def _points(batches: Sequence[int], callers: Sequence[int], own: int) -> Iterator[tuple[int, int]]:
    """Rule A4; callers are 0 where batches are swept."""
    yield from ((batch, 0) for batch in batches)
    yield from ((own, count) for count in callers)


def _point(more: More, subject: Subject, batch: int, callers: int) -> SweepPoint:
    shapes_at(subject.bundle.part(subject.part)[1], batch)  # A3
    job = SweepJob(
        job="sweep",
        **subject.fields(),
        batch=batch,
        callers=callers,
        seconds=more.sweep_seconds,
        max_runs=_MAX_RUNS,
    )
    limit_s = _PATIENCE_S + 3 * more.sweep_seconds
    answer = measure.run_child(job, SweepAnswer, limit_s=limit_s, worker=MORE_WORKER)
    return SweepPoint(subject.part, subject.variant, batch, callers, **vars(answer))


def _scenario(more: More, subject: Subject, name: str) -> Scenario:
    part = subject.bundle.part(subject.part)[1]
    with tempfile.TemporaryDirectory(prefix="jetlift-loadgen-") as folder:  # A5
        job = ScenarioJob(
            job="scenario",
            **subject.fields(),
            name=name,  # type: ignore[arg-type] # one of SCENARIOS, as More makes sure
            seconds=more.scenario_seconds,
            batch=_batch(part, name),
            samples_per_query=SAMPLES_PER_QUERY,
            server_per_s=more.server_per_s,
            server_limit_ms=more.server_limit_ms,
            folder=folder,
        )
        limit_s = _PATIENCE_S + 6 * more.scenario_seconds
        return measure.run_child(job, Scenario, limit_s=limit_s, worker=MORE_WORKER)


def _batch(part: Part, name: str) -> int:
    """One item at a time where each has its own latency, else as many as the profile admits."""
    if name in ("SingleStream", "Server"):
        return batch_of(part)
    return largest_batch(part, SAMPLES_PER_QUERY)
