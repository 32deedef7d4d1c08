"""A record in which every section of a report has something to show."""

from __future__ import annotations

from dataclasses import replace

from jetlift.benchmarks import bench_budget
from jetlift.runtime.budget_form import BudgetFile, Head, Limit, Limits
from jetlift.runtime.figure import Figure
from jetlift.runtime.layer_form import LayerTime
from jetlift.runtime.power_form import Clock, Conditions, Power, Rail, Temperature
from jetlift.runtime.record import Record
from jetlift.runtime.scenario_form import ColdStart, NotDone, Scenario, SweepPoint

NONE = Figure.missing("nobody looked")


def full_record(bare: Record) -> Record:
    """A record with results alone, given everything that a record may have beside them.

    Args:
        bare: The record.
    """
    rail = Rail("VDD_IN", Figure(7.5), Figure(9.0))
    power = Power("INA3221", "the module's input", 42, Figure(7.5), Figure(9.0), NONE,
                  Figure(0.25), (rail,))  # fmt: skip
    state = Conditions(
        source="sysfs",
        power_mode="15W",
        clocks_fixed=False,
        clocks=(Clock("gpu", Figure(306.0), Figure(612.0), Figure(624.0)),),
        temperatures=(Temperature("gpu-thermal", Figure(40.0), Figure(55.0)),),
        fan_percent=Figure(30.0),
        throttled=("soft throttling",),
        unsteady=("the gpu clock moved",),
    )
    layer = LayerTime("Gemm_7", "FullyConnected", ("Gemm_7",), 1.5, Figure(3e6))
    first = replace(bare.results[0], power=power, conditions=state,
                    layers=(layer, replace(layer, name="Reorder_1", operations=NONE)))  # fmt: skip
    return replace(
        bare,
        results=(first, *bare.results[1:]),
        sweep=(SweepPoint("main", "int8", 4, 2, 90, 8.5, NONE, 940.0, Figure(2.0**28)),),
        scenarios=(
            Scenario(
                part="main", variant="int8", name="Server", by="LoadGen 5", seconds=10.0,
                samples_per_query=1, asked_per_s=20.0, asked_how="the user", limit_ms=50.0, batch=1,
                queries=200, samples=200, p50_ms=Figure(8.0), p90_ms=Figure(9.0),
                p99_ms=Figure(60.0), throughput_per_s=Figure(20.0), valid=False,
                reasons=("Latency constraint not met",),
            ),
        ),
        cold_starts=(
            ColdStart("main", "int8", (1.5, 1.25), 1.375, Figure(0.5), Figure(0.5), Figure(0.25),
                      "the files' pages"),
        ),
        not_done=(NotDone("main", "int8", "batch 64", "memory ran out"),),
    )  # fmt: skip


def judged_record(bare: Record) -> Record:
    """The same, judged on noise by a budget that it misses."""
    full = full_record(bare)
    loud = replace(full, results=tuple(replace(item, noisy=True) for item in full.results))
    limits = Limits(latency_p50_ms=1e-3, memory_mib=1e6, power_w=Limit(5.0, optional=True))
    budget = BudgetFile(Head("door-camera-with-a-name-of-some-length"), limits)
    return bench_budget.held(loud, budget, device=None, power_mode=None)
