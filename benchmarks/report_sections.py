"""What a record tells beside its results: power and the board, sweeps, scenarios, cold starts.

Rules:
    E1  A section stands in the report only where the record has something for it.
    E2  A figure that is missing shows as a dash, and its reason stands under the table, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.benchmarks.report_table import DASH, digits, mib, operations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from jetlift.runtime.figure import Figure
    from jetlift.runtime.layer_form import LayerTime
    from jetlift.runtime.power_form import Clock, Conditions, Power, Rail
    from jetlift.runtime.record import Record, Result


_LAYERS = 10


@dataclass(frozen=True)
class Section:
    """One table with its title.

    Attributes:
        title: Of the section.
        caption: How to read the table.
        columns: Over the cells; the first column has none.
        rows: The label, then a text per column.
        notes: Reasons of what is missing, and what else is to be said.
        words: Those of `columns` that hold words, which may wrap, rather than figures.
    """

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


def sections(record: Record) -> tuple[Section, ...]:
    """Every section that this record has something for (rule E1)."""
    made = (
        _power(record),
        _board(record),
        _sweep(record),
        _scenarios(record),
        _cold(record),
        *map(_layers, record.results),
    )
    return tuple(section for section in (*made, _not_done(record)) if section is not None)


class _Teller:
    """Texts of figures, and the reasons of those that are missing (rule E2)."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def __call__(self, figure: Figure, form: Callable[[float], str] = digits) -> str:
        if figure.value is not None:
            return form(figure.value)
        self.note(figure.reason)
        return DASH

    def note(self, reason: str) -> None:
        if reason not in self.reasons:
            self.reasons.append(reason)


def _name(part: str, variant: str) -> str:
    return f"{part} {variant}"


def _layers(result: Result) -> Section | None:
    """The slowest layers."""
    if not result.layers:
        return None
    tell, total = _Teller(), sum(layer.time_ms for layer in result.layers)
    shown = result.layers[:_LAYERS]
    rows = tuple(
        (
            layer.name, digits(layer.time_ms, 3), f"{layer.time_ms / total:.1%}",
            tell(layer.operations, operations), _layer_tops(layer), layer.kind,
        )
        for layer in shown
    )  # fmt: skip
    name = _name(result.part, result.variant)
    return Section(
        f"Time per layer: {name}",
        f"The {len(shown)} slowest of {len(result.layers)} layers, {digits(total)} ms together, "
        "in a run of its own that counted them; record.json has all",
        ("median, ms", "share of time", "operations", "TOPS", "kind"),
        rows,
        tuple(tell.reasons),
        words=("kind",),
    )


def _layer_tops(layer: LayerTime) -> str:
    if not layer.operations.value or layer.time_ms <= 0:
        return DASH
    return digits(layer.operations.value / layer.time_ms / 1e9, 3)


def _power(record: Record) -> Section | None:
    found = [(result, result.power) for result in record.results if result.power is not None]
    if not found:
        return None
    tell, rows = _Teller(), []
    for result, power in found:
        name = _name(result.part, result.variant)
        rows.append(_power_row(name, power, tell))
        rows += [_rail_row(name, rail, tell) for rail in power.rails]
    about = "; ".join(dict.fromkeys(f"{power.source}: {power.scope}" for _, power in found))
    return Section(
        "Power",
        f"Watts while measuring; {about}",
        ("mean, W", "most, W", "idle before, W", "J per item", "readings"),
        tuple(rows),
        tuple(tell.reasons),
    )


def _power_row(name: str, power: Power, tell: _Teller) -> tuple[str, ...]:
    figures = (power.mean_w, power.max_w, power.idle_w, power.energy_j_per_item)
    return (name, *map(tell, figures), str(power.looks))


def _rail_row(name: str, rail: Rail, tell: _Teller) -> tuple[str, ...]:
    return (f"{name}: rail {rail.name}", tell(rail.mean_w), tell(rail.max_w), "", "", "")


def _board(record: Record) -> Section | None:
    found = [(item, item.conditions) for item in record.results if item.conditions is not None]
    if not found:
        return None
    tell, rows = _Teller(), []
    for result, state in found:
        rows += list(_board_rows(result, state, tell))
    return Section(
        "The board while measuring",
        "; ".join(dict.fromkeys(_board_caption(state) for _, state in found)),
        ("lowest, or at the start", "highest", "limit"),
        tuple(rows),
        tuple(tell.reasons),
    )


def _board_caption(state: Conditions) -> str:
    fixed = {True: "clocks fixed", False: "clocks not fixed", None: "not told if clocks are fixed"}
    mode = "power mode not told" if state.power_mode is None else f"power mode {state.power_mode}"
    return f"{mode}, {fixed[state.clocks_fixed]}; {state.source}"


def _board_rows(result: Result, state: Conditions, tell: _Teller) -> Iterator[tuple[str, ...]]:
    name = _name(result.part, result.variant)
    for clock in state.clocks:
        yield _clock_row(name, clock, tell)
    for sensor in state.temperatures:
        start, most = tell(sensor.start_c), tell(sensor.max_c)
        yield (f"{name}: {sensor.name}, \u00b0C", start, most, "")
    if state.fan_percent.value is not None:
        yield (f"{name}: fan, %", "", f"{state.fan_percent.value:.0f}", "")
    for text in dict.fromkeys((*state.throttled, *state.unsteady)):
        tell.note(f"{name}: {text}")


def _clock_row(name: str, clock: Clock, tell: _Teller) -> tuple[str, ...]:
    figures = (clock.min_mhz, clock.max_mhz, clock.limit_mhz)
    return (f"{name}: {clock.name}, MHz", *map(tell, figures))


def _sweep(record: Record) -> Section | None:
    if not record.sweep:
        return None
    tell = _Teller()
    rows = tuple(
        (
            _name(point.part, point.variant), str(point.batch), str(point.callers),
            digits(point.p50_ms), tell(point.p99_ms), digits(point.throughput_per_s),
            tell(point.rss_peak_bytes, mib), str(point.runs),
        )
        for point in record.sweep
    )  # fmt: skip
    how = "; ".join(dict.fromkeys(point.how for point in record.sweep))
    columns = ("batch", "callers", "p50, ms", "p99, ms", "items per s", "memory, MiB", "runs")
    caption = f"One run's time and all callers' items per second; {how}"
    return Section("Batches and callers", caption, columns, rows, tuple(tell.reasons))


def _scenarios(record: Record) -> Section | None:
    if not record.scenarios:
        return None
    tell, rows = _Teller(), []
    for item in record.scenarios:
        asked = DASH if item.asked_per_s is None else digits(item.asked_per_s)
        times = (item.p50_ms, item.p90_ms, item.p99_ms, item.throughput_per_s)
        rows.append(
            (
                f"{_name(item.part, item.variant)}: {item.name}",
                "valid" if item.valid else "not valid", asked, *map(tell, times),
                str(item.queries), str(item.batch),
            )
        )  # fmt: skip
        for reason in item.reasons:
            tell.note(f"{item.variant} {item.name}: {reason}")
        if item.asked_how:
            tell.note(f"{item.variant} {item.name}: rate {item.asked_how}")
    by = "; ".join(dict.fromkeys(item.by for item in record.scenarios))
    columns = ("rules kept", "asked per s", "p50, ms", "p90, ms", "p99, ms", "items per s",
               "queries", "batch")  # fmt: skip
    caption = f"Times of a query, load drawn by {by}"
    return Section("Scenarios", caption, columns, tuple(rows), tuple(tell.reasons))


def _cold(record: Record) -> Section | None:
    if not record.cold_starts:
        return None
    tell = _Teller()
    rows = tuple(
        (
            _name(item.part, item.variant), digits(item.p50_s), digits(min(item.starts_s)),
            digits(max(item.starts_s)), tell(item.import_s), tell(item.open_s), tell(item.first_s),
            str(len(item.starts_s)),
        )
        for item in record.cold_starts
    )  # fmt: skip
    caches = "; ".join(dict.fromkeys(item.cache for item in record.cold_starts))
    columns = ("median, s", "fastest, s", "slowest, s", "imports, s", "then open, s",
               "then first result, s", "starts")  # fmt: skip
    caption = f"From the start of a process to its first result; warm: {caches}"
    return Section("Cold starts", caption, columns, rows, tuple(tell.reasons))


def _not_done(record: Record) -> Section | None:
    rows: Sequence[tuple[str, ...]] = [
        (_name(item.part, item.variant), item.what, item.reason) for item in record.not_done
    ]
    if not rows:
        return None
    caption = "Points, scenarios, cold starts and times per layer that were asked for"
    columns = ("asked for", "reason")
    return Section("What could not be done", caption, columns, tuple(rows), words=columns)
