"""A snapshot of a pipeline in Prometheus' text format, version 0.0.4.

Rules:
    E1  Names begin with `jetlift_` and end with their unit (seconds, bytes, watts, ratio); counters
        end with `_total`. Times are in seconds.
        (https://prometheus.io/docs/practices/naming/)
    E2  Every sample carries the labels of the run, as `model` and `task`.
    E3  A figure that was not measured has no sample: a zero would be a lie.
    E4  Two sources or sinks of one name are told apart as `name` and `name-2`, since a sample that
        comes twice makes Prometheus refuse all of them.
    E5  In the values of labels backslash, quote and line feed are escaped, in help texts backslash
        and line feed.
        (https://prometheus.io/docs/instrumenting/exposition_formats/)
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jetlift.runtime.errors import UsageError
from jetlift.runtime.streams.address import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jetlift.runtime.pipeline.form import AgeSummary, Snapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_TAKEN = ("stage", "source", "sink", "quantile")
_LABEL_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


@dataclass
class Page:
    """Metrics as they are written, one family after another.

    Attributes:
        common: Labels of every sample (rule E2).
    """

    common: Mapping[str, str]
    _lines: list[str] = field(default_factory=list)

    def family(
        self, name: str, kind: str, what: str, samples: Iterable[tuple[Mapping[str, str], float]]
    ) -> None:
        """One counter or gauge with its samples; without any, nothing is written."""
        rows = [self._sample(name, labels, value) for labels, value in samples]
        self._begin(name, kind, what, rows)

    def summary(
        self, name: str, what: str, samples: Iterable[tuple[Mapping[str, str], AgeSummary]]
    ) -> None:
        """One summary: quantiles in seconds of what is given in milliseconds."""
        rows = []
        for labels, ages in samples:
            quantiles = (("0.5", ages.p50_ms), ("0.9", ages.p90_ms), ("0.99", ages.p99_ms))
            for quantile, age_ms in quantiles:
                rows.append(self._sample(name, {**labels, "quantile": quantile}, age_ms / 1000))
            total_s = ages.mean_ms * ages.count / 1000
            rows.append(self._sample(f"{name}_sum", labels, total_s))
            rows.append(self._sample(f"{name}_count", labels, ages.count))
        self._begin(name, "summary", what, rows)

    def text(self) -> str:
        """The whole page."""
        return "".join(f"{line}\n" for line in self._lines)

    def _begin(self, name: str, kind: str, what: str, rows: Sequence[str]) -> None:
        if rows:
            self._lines += [f"# HELP {name} {what.translate(_HELP_ESCAPES)}"]
            self._lines += [f"# TYPE {name} {kind}", *rows]

    def _sample(self, name: str, labels: Mapping[str, str], value: float) -> str:
        pairs = ",".join(
            f'{label}="{text.translate(_LABEL_ESCAPES)}"'
            for label, text in {**self.common, **labels}.items()
        )
        return f"{name}{{{pairs}}} {_number(value)}" if pairs else f"{name} {_number(value)}"


def checked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels for every sample, without empty ones.

    Raises:
        UsageError: Prometheus refuses the name, or it is one of those that samples have already.
    """
    for name in labels:
        if not _LABEL.fullmatch(name) or name.startswith("__") or name in _TAKEN:
            raise UsageError(
                f"Got a label called {name!r} for metrics",
                expected="Letters, digits and _, as in model, and none of " + ", ".join(_TAKEN),
            )
    return {name: text for name, text in labels.items() if text}


def exposition(snapshot: Snapshot, labels: Mapping[str, str]) -> str:
    """A snapshot as a page for Prometheus (rules E1 to E5).

    Args:
        snapshot: What is told.
        labels: Of every sample; see `checked_labels`.
    """
    page = Page(labels)
    _whole(page, snapshot)
    _stages(page, snapshot)
    _sources(page, snapshot)
    _sinks(page, snapshot)
    return page.text()


def _whole(page: Page, snapshot: Snapshot) -> None:
    counters = (
        ("results", "Inputs with a result.", snapshot.done),
        ("frames_dropped", "Frames that a newer one replaced.", snapshot.dropped),
        ("frames_stale", "Frames that were too old to be worth computing.", snapshot.stale),
        ("inputs_skipped", "Inputs that could not be read or used.", snapshot.skipped),
    )
    for name, what, count in counters:
        page.family(f"jetlift_{name}_total", "counter", what, [({}, count)])
    gauges = (
        ("running_seconds", "Time since the start.", snapshot.running_s),
        ("results_per_second", "Results over the last few seconds.", snapshot.per_s),
        ("resident_memory_bytes", "Memory resident now.", snapshot.rss_bytes.value),
        ("power_watts", "Power drawn now.", snapshot.power_w.value),
    )
    for name, what, value in gauges:
        if value is not None:  # E3
            page.family(f"jetlift_{name}", "gauge", what, [({}, float(value))])


def _stages(page: Page, snapshot: Snapshot) -> None:
    stages = [({"stage": stage.name}, stage) for stage in snapshot.stages]
    page.family(
        "jetlift_stage_items_total", "counter", "Items that a stage finished.",
        [(labels, stage.done) for labels, stage in stages],
    )  # fmt: skip
    page.family(
        "jetlift_stage_busy_ratio", "gauge", "Share of the running time that a stage worked.",
        [(labels, stage.busy_share) for labels, stage in stages],
    )  # fmt: skip
    service = [(labels, stage.service) for labels, stage in stages if stage.service is not None]
    ages = [(labels, stage.age) for labels, stage in stages if stage.age is not None]
    kinds = (
        ("jetlift_stage_service", "Time that a stage takes per item", service),
        ("jetlift_frame_age", "Age of frames at the end of a stage", ages),
    )
    for name, what, summaries in kinds:
        page.summary(f"{name}_seconds", f"{what}.", summaries)
        longest = [(labels, summary.max_ms / 1000) for labels, summary in summaries]
        page.family(f"{name}_max_seconds", "gauge", f"{what}, the longest.", longest)


def _sources(page: Page, snapshot: Snapshot) -> None:
    names = _distinct(source.name for source in snapshot.sources)
    sources = [
        ({"source": name}, source) for name, source in zip(names, snapshot.sources, strict=True)
    ]
    families = (
        ("frames_total", "counter", "Frames that a source delivered.", "captured"),
        ("skipped_total", "counter", "Inputs or frames that could not be read.", "skipped"),
        ("reconnects_total", "counter", "Times that a source came back.", "reconnects"),
        ("lost_seconds_total", "counter", "Time without a connection.", "lost_s"),
        ("connected", "gauge", "Whether a source delivers now.", "connected"),
    )
    for name, kind, what, attribute in families:
        samples = [(labels, float(getattr(source, attribute))) for labels, source in sources]
        page.family(f"jetlift_source_{name}", kind, what, samples)


def _sinks(page: Page, snapshot: Snapshot) -> None:
    names = _distinct(sink.name for sink in snapshot.sinks)
    sinks = [({"sink": name}, sink) for name, sink in zip(names, snapshot.sinks, strict=True)]
    families = (
        ("results_total", "counter", "Results that a sink took and passed on.", "written"),
        ("dropped_total", "counter", "Results that a sink lost.", "dropped"),
        ("connected", "gauge", "Whether a sink reaches its peer now.", "connected"),
    )
    for name, kind, what, attribute in families:
        samples = [(labels, float(getattr(sink, attribute))) for labels, sink in sinks]
        page.family(f"jetlift_sink_{name}", kind, what, samples)


def _distinct(names: Iterable[str]) -> list[str]:
    """The names without secrets, each once (rule E4)."""
    found: list[str] = []
    for name in map(shown, names):
        unique, number = name, 1
        while unique in found:
            number += 1
            unique = f"{name}-{number}"
        found.append(unique)
    return found


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))
