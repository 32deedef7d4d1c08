"""What an assignment is worth on the search samples; measured once, then read from a log.

Rules:
    E1  The reference is the fp32 graph on the same samples.
    E2  Two numbers judge: the loss, which ranks, and the slack, which says how far within the
        budget. Both come from the metric's figures.
    E3  Each measurement is one line of the log, written before it is used. A log of another graph,
        other samples or another budget is not used.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jetlift.export.fidelity import worst_slack
from jetlift.export.precision.calibrate import reference_session
from jetlift.runtime.errors import InputError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import TextIO

    import numpy.typing as npt
    import onnx_ir as ir

    from jetlift.export.fidelity import BudgetLine, Metric

    Feeds = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Measured:
    """One assignment on the search samples.

    Attributes:
        figures: Metric to value.
        loss: How far it is from fp32; 0 is equal.
        slack: How far within the budget, as a share of what may be lost; infinite without one.
    """

    figures: dict[str, float]
    loss: float
    slack: float


@dataclass
class SearchLog:
    """Measurements by the fingerprint of what was measured.

    Attributes:
        file: Where new ones are appended; None keeps them in memory only.
        known: Those that are there.
    """

    file: TextIO | None = None
    known: dict[str, dict[str, float]] = field(default_factory=dict)

    def put(self, fingerprint: str, figures: dict[str, float]) -> None:
        """Add a measurement and make sure it is on the disk (rule E3)."""
        self.known[fingerprint] = figures
        if self.file is not None:
            line = json.dumps({"assignment": fingerprint, "figures": figures})
            try:
                self.file.write(line + "\n")
                self.file.flush()
            except OSError as error:
                raise StorageError(f"The search log cannot be written: {error}") from error


@contextmanager
def open_log(path: Path, key: str) -> Iterator[SearchLog]:
    """Open a search log to go on with, or begin one.

    Args:
        path: The file.
        key: Fingerprint of graph, samples and metric.

    Raises:
        InputError: The file is there and is no search log, or one of something else.
        StorageError: It cannot be written.
    """
    known = _read(path, key)
    fresh = not path.exists()
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
    with file:
        if fresh:
            file.write(json.dumps({"search": key}) + "\n")
            file.flush()
        yield SearchLog(file, known)


def _read(path: Path, key: str) -> dict[str, dict[str, float]]:
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    *whole, rest = lines
    rows = []
    for index, line in enumerate(whole):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise _not_a_log(path, f"line {index + 1} cannot be read") from error
    if rest:  # a line that a killed process did not finish: it is measured again
        cut = len("\n".join(whole)) + 1
        with path.open("r+", encoding="utf-8") as file:
            file.truncate(cut)
    if not rows or not isinstance(rows[0], dict) or "search" not in rows[0]:
        raise _not_a_log(path, "its first line names no search")
    if rows[0]["search"] != key:
        raise _not_a_log(path, "it is of another graph, other samples or another metric")
    return {row["assignment"]: row["figures"] for row in rows[1:]}


def _not_a_log(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} is not this search's log: {why}",
        expected="The log of the same export, interrupted",
        do=f"Remove {path.name} to search from the beginning",
    )


def fingerprint_of(content: object) -> str:
    """A short name of JSON-ready content."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class Evaluator:
    """Measures graphs against fp32 on the search samples.

    Args:
        model: The fp32 graph.
        feeds: Graph inputs of the search samples.
        metric: The task's metric on these samples.
        budget: Lines to be within; empty where any loss is accepted.
        log: Measurements that are there already.
    """

    def __init__(
        self,
        model: ir.Model,
        feeds: Sequence[Feeds],
        metric: Metric,
        budget: Sequence[BudgetLine],
        log: SearchLog | None = None,
    ) -> None:
        self.feeds, self.metric, self.budget = feeds, metric, budget
        self.log = log or SearchLog()
        self.evaluations = 0
        self._model = model
        self._reference: dict[str, list[npt.NDArray[Any]]] | None = None

    def knows(self, assignment: object) -> bool:
        """Whether an assignment is measured already."""
        return fingerprint_of(assignment) in self.log.known

    def measure(self, assignment: object, make: Callable[[], ir.Model]) -> Measured:
        """The measurement of a graph, from the log where it is known.

        Args:
            assignment: What was assigned, as JSON-ready content.
            make: Makes its graph.
        """
        fingerprint = fingerprint_of(assignment)
        if fingerprint not in self.log.known:
            if self._reference is None:
                self._reference = outputs_on(self._model, self.feeds)
            got = outputs_on(make(), self.feeds)
            self.log.put(fingerprint, self.metric.figures(self._reference, got))
            self.evaluations += 1
        figures = self.log.known[fingerprint]
        slack = worst_slack(figures, self.budget) if self.budget else float("inf")
        return Measured(figures, self.metric.loss(figures), slack)


def outputs_on(model: ir.Model, samples: Sequence[Feeds]) -> dict[str, list[npt.NDArray[Any]]]:
    """A graph's outputs on samples, by the reference engine."""
    names = [str(value.name) for value in model.graph.outputs]
    session = reference_session(model, fuse=True)
    collected: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in names}
    for feeds in samples:
        for name, array in zip(names, session.run(names, dict(feeds)), strict=True):
            collected[name].append(array)
    return collected
