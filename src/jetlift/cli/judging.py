"""What a run of the command line is found to have been: its record, its budget."""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING

from jetlift import console

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jetlift.cli.live import Live
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.pipeline.form import Snapshot
    from jetlift.runtime.pipeline.pipeline import Pipeline
    from jetlift.runtime.run_facts import FinishedRun, RunEngine
    from jetlift.runtime.view.form import BudgetLine

_LOOK_EVERY_S = 1.0
_UNITS = {
    "_per_s": "per s", "_j_per_item": "J per item", "_ms": "ms", "_s": "s", "_mib": "MiB", "_w": "W"
}  # fmt: skip


class Judge:
    """Looks at the machine and the process around a run. Made before an engine is loaded.

    Args:
        live: Whether a budget or a record is wanted.
        target: Where the engines run.

    Raises:
        InputError: The budget cannot be read.
    """

    def __init__(self, live: Live, target: str = "cpu") -> None:
        from jetlift.engines.where import board_of
        from jetlift.jetson import board
        from jetlift.jetson.power import NoMeter, PoweredProbe
        from jetlift.jetson.sysfs import board_root
        from jetlift.jetson.watch import Watch
        from jetlift.runtime import host
        from jetlift.runtime.budget import read_budget
        from jetlift.runtime.figure import Figure

        self._live, self.probe = live, PoweredProbe(board.ProcessProbe(), board_root())
        self.budget = None if live.budget is None else read_budget(live.budget)
        self._machine = board.describe_machine(watch_s=0.2 if live.judged else 0.0)
        self._before = self.loaded = self.probe.read()
        here = host.here(gpu=False) if live.judged else None
        device = None if here is None else board_of(here)
        self._device = None if device is None else device.name
        self._mode = None if here is None or here.board is None else here.board.power_mode
        self.watch = Watch(
            board_root(),
            on_gpu=not target.startswith("cpu"),
            period_s=_LOOK_EVERY_S,
            meter=None if live.judged else NoMeter("neither a record nor a budget was asked for"),
        )
        if live.judged:
            self.watch.look_idle()
        self._began, self._cores, self._own_s = _now(), board.cpu_times(), board.own_cpu_s()
        self._cold_start_s = Figure.missing("there was no result")

    def first_result(self) -> None:
        """To be called once, when the first result is there."""
        from jetlift.runtime.run_facts import since_process_start_s

        self._cold_start_s = since_process_start_s()

    def run_of(
        self,
        bundle: Bundle,
        target: str,
        engines: Sequence[RunEngine],
        pipeline: Pipeline,
        snapshot: Snapshot,
        ended: str,
    ) -> FinishedRun:
        """All that is known of the run."""
        from jetlift.jetson import board
        from jetlift.runtime.run_facts import FinishedRun, throughput

        after = self.probe.read()
        own_s = board.own_cpu_s() - self._own_s
        return FinishedRun(
            bundle=bundle,
            target=target,
            command=("jetlift", *sys.argv[1:]),
            began=self._began,
            ended=ended,
            snapshot=snapshot,
            engines=engines,
            item_ms=pipeline.item_ms,
            machine=self._machine,
            before=self._before,
            loaded=self.loaded,
            after=after,
            threads=pipeline.threads,
            power_w=self.watch.power_w(),
            power=self.watch.power(throughput(snapshot).value),
            conditions=self.watch.conditions(),
            others_busy=board.others_share(self._cores, board.cpu_times(), own_s),
            cold_start_s=self._cold_start_s,
            device=self._device,
            power_mode=self._mode,
        )

    def conclude(self, run: FinishedRun) -> None:
        """Keep the record, show the verdict, and raise where it is no.

        Raises:
            GateError: The budget is not met.
            StorageError: The record cannot be written.
        """
        if not self._live.judged:
            return
        from jetlift.cli.verdicts import conclude
        from jetlift.runtime.run_record import record_of, write_run

        record = record_of(run, self.budget)
        if self._live.record is not None:
            path = write_run(record, self._live.record)
            console.say(f"Recorded: {path}. To read it: jetlift report {self._live.record}")
        verdict = None if record.run is None else record.run.budget
        if verdict is not None:
            conclude(record, verdict, self._live.verdict)

    def lines(self, run: Callable[[], FinishedRun]) -> tuple[BudgetLine, ...]:
        """Where a run stands against the budget now, for the live page."""
        if self.budget is None:
            return ()
        from jetlift.runtime.budget import judge
        from jetlift.runtime.run_facts import figures_of
        from jetlift.runtime.view.form import BudgetLine

        verdict = judge(self.budget, figures_of(run()))
        return tuple(
            BudgetLine(
                name=_named(line.name)[0],
                value=line.value,
                limit=line.limit,
                unit=_named(line.name)[1],
                better="lower" if line.sign == "<=" else "higher",
                ok=None if line.state == "not measured" else line.state == "ok",
            )
            for line in verdict.lines
        )


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def told(snapshot: Snapshot) -> str:
    """A run in a sentence."""
    lost = [("dropped", snapshot.dropped), ("too old", snapshot.stale)]
    losses = "".join(f", {count} {what}" for what, count in lost if count)
    reconnects = sum(source.reconnects for source in snapshot.sources)
    healed = f", {reconnects} reconnects" if reconnects else ""
    rate = snapshot.done / snapshot.running_s if snapshot.running_s > 0 else 0.0
    ages = [stage.age for stage in snapshot.stages if stage.age is not None]
    age = ""
    if ages and any(source.live for source in snapshot.sources):
        age = f"; frames were {ages[-1].p50_ms:.0f} ms old (p99 {ages[-1].p99_ms:.0f})"
    done = f"{snapshot.done} in {snapshot.running_s:.1f} s, {rate:.1f} per second"
    return f"{done}{losses}{healed}{age}."


def lost(snapshot: Snapshot) -> list[str]:
    """What sinks could not pass on, a sentence each."""
    return [
        f"{sink.name} lost {sink.dropped} of {sink.dropped + sink.written} results. {sink.trouble}"
        for sink in snapshot.sinks
        if sink.dropped
    ]


def _named(limit: str) -> tuple[str, str]:
    """A limit's name and unit for people, as in `latency p99` and `ms`."""
    for suffix, unit in _UNITS.items():
        if limit.endswith(suffix):
            return limit.removesuffix(suffix).replace("_", " "), unit
    return limit.replace("_", " "), ""
