"""The precision search: the most operations in INT8 that stay within the fidelity budget.

Order of work, each step measured on the search samples, which calibration never saw:
    S1  One treatment for all blocks, by coordinate descent from a plain one.
    S2  If everything in INT8 is within the budget, that is the answer.
    S3  Else sensitivity: how much nearer to fp32 the outputs come with one block alone kept wide.
    S4  Other treatments for the most sensitive blocks, one after another, each kept if it helps.
    S5  Blocks are widened by gain per operation, doubling their number until the budget is met,
        then halving the last step.
    S6  Each widened block, dearest first, is narrowed again and stays narrow if the budget holds
        with all the others as they are now: the first ranking knew nothing of interactions.
    S7  Of two blocks with the same operations the one stays wide that INT8 helps less, by the
        estimated time, if the budget holds with them exchanged.
Rules:
    R1  Within the budget means with MARGIN of its room to spare, since the report is made on other
        samples. No assignment without it is ever returned, but where the user keeps what misses.
    R2  Time bounds S1, S3, S4, S6 and S7; S5 always runs, since it alone makes an answer sure.
    R3  Everything is deterministic, so an interrupted search goes on from its log.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from jetlift.export.fidelity import breaches
from jetlift.export.precision.treat import Prepared, Treatment, prepare
from jetlift.runtime.errors import FidelityError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    import onnx_ir as ir

    from jetlift.export.precision.calibrate import Activation
    from jetlift.export.precision.evaluate import Evaluator, Measured

MARGIN = 0.25
TIME_LIMIT_S = 900.0
_PLAIN = Treatment(0.5)
_ALPHAS = (None, 0.35, 0.65, 0.8, 1.0)
# A treatment that adds work or complexity must gain at least this share of the loss.
_WORTH = 0.03
_REFINED = 8
_EXCHANGED = 2


@dataclass(frozen=True)
class Assignment:
    """How each block is treated, and which stay wide."""

    treatments: Mapping[str, Treatment]
    wide: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Found:
    """What the search ends with.

    Attributes:
        prepared: The treated graph, from which `wide` is typed.
        assignment: The answer.
        measured: Its measurement.
        sensitivity: Per block, the share of the whole loss that goes when it alone is wide.
        seen: Assignments of the widening and their measurements, for the curve.
        finished: Whether every step ran to its end.
    """

    prepared: Prepared
    assignment: Assignment
    measured: Measured
    sensitivity: dict[str, float]
    seen: tuple[tuple[frozenset[str], Measured], ...]
    finished: bool


class _OutOfTimeError(Exception):
    """The time bound was reached."""


@dataclass
class Search:
    """One search.

    Attributes:
        model: The fp32 graph.
        seen: What calibration showed of each block's tensor.
        operations: Operations per block, MAC x 2.
        evaluator: Measures on the search samples.
        saved_s: Estimated seconds that INT8 saves per block (estimate.py); where it is empty, no
            block is preferred to another of the same operations.
        time_limit_s: Bound of S1, S3, S4, S6 and S7 (rule R2).
        explore: Measure sensitivity and the curve even where everything fits in INT8.
        keep: Where nothing meets the budget, answer with everything in INT8.
        tell: Called with what is done and the share done, 0 to 1.
        clock: Seconds, for the bound.
    """

    model: ir.Model
    seen: Mapping[str, Activation]
    operations: Mapping[str, float]
    evaluator: Evaluator
    saved_s: Mapping[str, float] = field(default_factory=dict)
    time_limit_s: float = TIME_LIMIT_S
    explore: bool = False
    keep: bool = False
    tell: Callable[[str, float], None] = lambda _doing, _share: None
    clock: Callable[[], float] = time.monotonic
    _prepared: tuple[Mapping[str, Treatment], Prepared] | None = None
    _curve: dict[frozenset[str], Measured] = field(default_factory=dict)
    _sensitivity: dict[str, float] = field(default_factory=dict)
    _done: int = 0

    def run(self) -> Found:
        """Search.

        Raises:
            FidelityError: Nothing with a block in INT8 is within the budget.
        """
        self._deadline = self.clock() + self.time_limit_s
        self._current = Assignment(dict.fromkeys(self.seen, _PLAIN))
        in_time = self._in_time(self._choose_treatment)
        fits = self._fits(self._now())
        if fits and not self.explore:
            return self._found(frozenset(), finished=in_time)
        in_time = in_time and self._in_time(self._rank)
        if not fits:
            in_time = in_time and self._in_time(self._refine)
        try:
            wide, sure = self._least_wide()
        except FidelityError:
            if not self.keep:
                raise
            wide, sure = frozenset(), True
        if self.explore:
            self._trace()
        return self._found(wide, finished=in_time and sure)

    @staticmethod
    def _in_time(step: Callable[[], None]) -> bool:
        try:
            step()
        except _OutOfTimeError:
            return False
        return True

    def _least_wide(self) -> tuple[frozenset[str], bool]:
        """What must stay wide (S5 to S7), and whether there was time to make sure."""
        wide, in_time = self._widen(), True
        try:
            for step in (self._give_back, self._exchange):
                wide = step(wide)
        except _OutOfTimeError as late:
            wide, in_time = late.args[0], False
        if wide and len(wide) == len(self.seen):
            raise self._unmeetable()
        return wide, in_time

    def _choose_treatment(self) -> None:
        """One treatment for all blocks (S1)."""
        best, loss = _PLAIN, self._now(bounded=True).loss
        for options in self._alternatives():
            start = best
            for change in options:
                tried = replace(start, **change)
                measured = self._measure(
                    Assignment(dict.fromkeys(self.seen, tried)), "choose a treatment", bounded=True
                )
                if measured.loss < loss * (1 - _WORTH):
                    best, loss = tried, measured.loss
                    self._current = Assignment(dict.fromkeys(self.seen, best))

    @staticmethod
    def _alternatives() -> list[list[dict[str, Any]]]:
        return [
            [{"alpha": alpha} for alpha in _ALPHAS],
            [{"shift": False}],
            [{"guard": 4.0}, {"guard": 1.0}],
            [{"calibrate": True}],
        ]

    def _rank(self) -> None:
        """How much each block alone is to blame (S3)."""
        whole = self._now().loss
        for block in self.seen:
            measured = self._measure(
                replace(self._current, wide=frozenset([block])), "sensitivity", bounded=True
            )
            self._sensitivity[block] = (whole - measured.loss) / whole if whole > 0 else 0.0

    def _refine(self) -> None:
        """Other treatments where it matters most (S4)."""
        ranked = sorted(self._sensitivity, key=lambda block: -self._sensitivity[block])
        for block in ranked[:_REFINED]:
            before = self._now()
            for change in self._changes(self._current.treatments[block]):
                tried = replace(self._current.treatments[block], **change)
                treatments = {**self._current.treatments, block: tried}
                measured = self._measure(Assignment(treatments), "refine", bounded=True)
                if measured.loss < before.loss * (1 - _WORTH / 3):
                    self._current, before = Assignment(treatments), measured

    @staticmethod
    def _changes(treatment: Treatment) -> list[dict[str, Any]]:
        alphas = [alpha for alpha in (0.35, 0.5, 0.65, 0.8) if alpha != treatment.alpha]
        return [
            *({"alpha": alpha} for alpha in alphas),
            {"shift": not treatment.shift},
            {"guard": 4.0 if treatment.guard == 2.0 else 2.0},
        ]

    def _widen(self) -> frozenset[str]:
        """The shortest prefix of the ranking that meets the budget (S5)."""
        order = self._order()
        if self._fits(self._at(())):
            return frozenset()
        low, high = 0, 1
        while not self._fits(self._at(order[:high])):
            if high >= len(order):
                raise self._unmeetable()
            low, high = high, min(2 * high, len(order))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._fits(self._at(order[:middle])) else (middle, high)
        return frozenset(order[:high])

    def _give_back(self, wide: frozenset[str]) -> frozenset[str]:
        """Narrow again what need not be wide (S6)."""
        for block in sorted(wide, key=lambda name: (-self.operations[name], -self._saved(name))):
            wide = self._if_it_fits(wide - {block}, wide)
        return wide

    def _exchange(self, wide: frozenset[str]) -> frozenset[str]:
        """Keep wide what loses less time by it (S7)."""
        for block in sorted(wide, key=lambda name: -self._saved(name)):
            for other in self._cheaper_alike(block, wide):
                changed = self._if_it_fits(wide - {block} | {other}, wide)
                if changed != wide:
                    wide = changed
                    break
        return wide

    def _cheaper_alike(self, block: str, wide: Collection[str]) -> list[str]:
        """Narrow blocks of the same operations that INT8 helps less, the least helped first."""
        alike = [
            name
            for name, operations in self.operations.items()
            if name not in wide
            and operations == self.operations[block]
            and self._saved(name) < self._saved(block)
        ]
        return sorted(alike, key=self._saved)[:_EXCHANGED]

    def _if_it_fits(self, changed: frozenset[str], wide: frozenset[str]) -> frozenset[str]:
        """The changed assignment where it is within the budget, else the one before."""
        try:
            measured = self._at(changed, bounded=True)
        except _OutOfTimeError as late:
            raise _OutOfTimeError(wide) from late
        return changed if self._fits(measured) else wide

    def _saved(self, block: str) -> float:
        return self.saved_s.get(block, 0.0)

    def _trace(self) -> None:
        """More points for the curve of share against fidelity."""
        order = self._order()
        for count in (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64):
            if count <= len(order):
                self._at(order[:count])

    def _order(self) -> list[str]:
        """Blocks by gain per operation, those that were not ranked last, cheapest first.

        Of equally cheap ones, those come first that INT8 helps least.
        """
        return sorted(
            self.seen,
            key=lambda block: (
                -max(0.0, self._sensitivity.get(block, 0.0)) / max(self.operations[block], 1.0),
                self.operations[block],
                self._saved(block),
            ),
        )

    def _fits(self, measured: Measured) -> bool:
        """Rule R1."""
        return measured.slack >= (MARGIN if self.evaluator.budget else 0.0)

    def _now(self, *, bounded: bool = False) -> Measured:
        return self._measure(self._current, "everything in INT8", bounded=bounded)

    def _at(self, wide: Collection[str], *, bounded: bool = False) -> Measured:
        assignment = replace(self._current, wide=frozenset(wide))
        measured = self._measure(assignment, "widen", bounded=bounded)
        self._curve[assignment.wide] = measured
        return measured

    def _measure(self, assignment: Assignment, doing: str, *, bounded: bool) -> Measured:
        key = [
            {name: str(treatment) for name, treatment in assignment.treatments.items()},
            sorted(assignment.wide),
        ]
        if bounded and not self.evaluator.knows(key) and self._late():
            raise _OutOfTimeError
        self._done += 1
        expected = 10 + len(self.seen) + 5 * min(_REFINED, len(self.seen)) + 12
        self.tell(doing, min(0.99, self._done / expected))
        return self.evaluator.measure(key, lambda: self._prepare(assignment).typed(assignment.wide))

    def _late(self) -> bool:
        return self.clock() > self._deadline

    def _prepare(self, assignment: Assignment) -> Prepared:
        if self._prepared is None or self._prepared[0] != assignment.treatments:
            prepared = prepare(self.model, self.seen, assignment.treatments)
            self._prepared = (assignment.treatments, prepared)
        return self._prepared[1]

    def _found(self, wide: frozenset[str], *, finished: bool) -> Found:
        assignment = replace(self._current, wide=wide)
        measured = self._at(wide)
        return Found(
            prepared=self._prepare(assignment),
            assignment=assignment,
            measured=measured,
            sensitivity=self._sensitivity,
            seen=tuple(self._curve.items()),
            finished=finished,
        )

    def _unmeetable(self) -> FidelityError:
        """The error that says how near the search came with anything in INT8."""
        tried = [item for wide, item in self._curve.items() if len(wide) < len(self.seen)]
        nearest = max(tried, key=lambda item: item.slack)
        missed: Sequence[str] = breaches(nearest.figures, self.evaluator.budget)
        why = "; ".join(missed) or f"less than {MARGIN:.0%} of the budget's room is left"
        return FidelityError(
            f"No graph with a block in INT8 meets the fidelity budget on the search samples. "
            f"The nearest: {why}",
            expected="A budget that leaves room for some rounding",
            do="Loosen --fidelity, leave int8 out, or keep it as it is with --keep",
        )
