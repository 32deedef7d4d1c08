"""Which nodes of a 16-bit graph must stay FP32, found on real samples by what it does to outputs.

Rules:
    N1  All starts narrow. First, what overflows: values that are infinite or no number though FP32
        has them finite, the earliest in the graph, until none is left. A value stays FP32 when the
        node that makes it and all nodes that read it are wide; a value and its reshaped, split or
        joined forms are one (a family).
    N2  A value that FP32 has in range and that is infinite all the same comes of something that was
        lost before it: the families above it that lose most to zero are widened.
    N3  Then accuracy: while the loss is above the tolerance, families and constants are widened,
        the one whose own rounding, with all else in FP32, moves the outputs most first.
    N4  Last, nodes are given back, in halves, as long as nothing overflows and the loss stays
        within the tolerance. So no node is kept that was not needed when it was tried.
    N5  Effects rank on the sample that is worst; trials that decide see all samples. Runs are
        bounded: where they are spent, what was found so far is returned and says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jetlift.export.precision.half import half_of
from jetlift.export.precision.wide_trials import Trials, relative_error
from jetlift.export.precision.wide_units import Unit, units_of
from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt
    import onnx_ir as ir

    from jetlift.export.precision.half import HalfKind
    from jetlift.export.precision.wide_trials import Loss, Trial

    Feeds = Mapping[str, npt.NDArray[Any]]

TOLERANCE = 0.01
RUNS = 2000
# Families whose rounding together moves the outputs by less than this share of what all do.
_SILENT = 0.1


@dataclass(frozen=True)
class Widened:
    """What a search found.

    Attributes:
        wide: Reason per node that must stay FP32; `to_half` takes it as `wide`.
        narrow_loss: The loss with every node narrow.
        loss: The loss with these nodes wide.
        narrow_overflows: Values that overflowed with every node narrow.
        overflows: Those that still do.
        met: Whether nothing overflows and the loss is within the tolerance.
        runs: Runs of the graph that it took.
    """

    wide: dict[str, str]
    narrow_loss: float
    loss: float
    narrow_overflows: tuple[str, ...]
    overflows: tuple[str, ...]
    met: bool
    runs: int


def find_wide(
    model: ir.Model,
    samples: Sequence[Feeds],
    *,
    kind: HalfKind = "fp16",
    tolerance: float = TOLERANCE,
    loss: Loss = relative_error,
    start: Mapping[str, str] | None = None,
    limit: int = RUNS,
    progress: Callable[[float], None] | None = None,
) -> Widened:
    """Find the nodes that must stay FP32 (rules N1 to N5).

    Args:
        model: A float32 graph; it may hold Q/DQ pairs. It is not changed.
        samples: Graph inputs of real samples; some eight to sixteen are enough.
        kind: The narrow type.
        tolerance: The largest loss to allow. The default goes with the default loss: rounding
            everything moves the outputs of a sound transformer by one to eight parts in a thousand,
            and by other parts on other samples, so what is widened below that follows noise; above
            ten something else is at work. `math.inf` looks for overflows only, as is
            right for a Q/DQ graph, where one rounding flips integers far down: search its float
            graph first and give the nodes found there as `start`.
        loss: What is lost, from FP32's outputs and the 16-bit graph's: per output name an array per
            sample. It is never asked about outputs that are not finite.
        start: Nodes to keep wide whatever is found, with the reason.
        limit: Most runs of the graph.
        progress: Called with the share done, 0 to 1; it may stand still.

    Raises:
        InputError: No samples, or FP32 itself gives NaN or infinity.
        UsageError: A value has no type, or a name in `start` is no node.
    """
    trials = Trials(model, half_of(kind), samples, loss)
    search = _Search(trials, tolerance, dict(start or {}), limit, progress or _tell_nobody)
    return search.run()


class _Search:
    """One search; lives as long as it takes."""

    def __init__(
        self,
        trials: Trials,
        tolerance: float,
        start: dict[str, str],
        limit: int,
        progress: Callable[[float], None],
    ) -> None:
        self.trials, self.tolerance, self.limit, self.progress = trials, tolerance, limit, progress
        self.start, self.wide = start, dict(start)
        self.graph = trials.graph
        if unknown := set(start) - {*self.graph.nodes, *self.graph.rules}:
            raise UsageError(f"No node is named {min(unknown)}", expected="Names of nodes")
        self.families, self.constants = units_of(self.graph)
        self.units = list({id(u): u for u in self.families.values()}.values()) + self.constants
        # What a node is worth: how far its unit alone moves the outputs.
        self.worth: dict[str, float] = dict.fromkeys(start, math.inf)

    def run(self) -> Widened:
        narrow = self.trials.trial(self.wide, everything=True)
        state = self._mend(narrow)
        self.progress(0.3)
        if not state.overflows and state.loss > self.tolerance:
            state = self._sharpen(state)
        self.progress(0.6)
        if self._is_good(state):
            self._give_back()
        if self.wide != self.start:
            state = self.trials.trial(self.wide, everything=True)
        self.progress(1.0)
        order = {name: i for i, name in enumerate(self.graph.nodes)}
        kept = sorted(self.wide, key=lambda name: order.get(name, -1))
        return Widened(
            wide={name: self.wide[name] for name in kept},
            narrow_loss=narrow.loss,
            loss=state.loss,
            narrow_overflows=tuple(v for v in self.graph.values if v in narrow.overflows),
            overflows=tuple(v for v in self.graph.values if v in state.overflows),
            met=self._is_good(state),
            runs=self.trials.runs,
        )

    def _is_good(self, trial: Trial) -> bool:
        return not trial.overflows and trial.loss <= self.tolerance

    def _spent(self) -> bool:
        return self.trials.runs >= self.limit

    def _widen(self, unit: Unit, reason: str, worth: float) -> int:
        """Widen a unit's nodes; returns how many were narrow."""
        new = [name for name in unit.nodes if name not in self.wide]
        self.wide |= dict.fromkeys(new, reason)
        for name in unit.nodes:
            self.worth[name] = max(worth, self.worth.get(name, 0.0))
        return len(new)

    def _mend(self, state: Trial) -> Trial:
        """Widen until nothing overflows, or nothing more can be done (rules N1 and N2)."""
        while state.overflows and not self._spent():
            roots = [
                name
                for name in self.graph.values
                if name in state.overflows
                and not any(v in state.overflows for v in self.graph.values[name].sources)
            ]
            if not sum(self._cure(name) for name in roots or state.overflows):
                break
            state = self.trials.trial(self.wide, everything=True)
        return state

    def _cure(self, name: str) -> int:
        """Widen what makes a value overflow; returns how many nodes were widened."""
        seen, half = self.trials.seen[name], self.trials.half
        limit = f"{half.kind.upper()}'s {half.largest:.5g}"
        widened = 0
        if seen.peak >= half.to_infinity:
            reason = f"{name} reaches {seen.peak:.3g}, beyond {limit}"
            widened = self._widen(self.families[name], reason, math.inf)
        if widened:
            return widened
        for source in self._lossy_above(name):
            lost = self.trials.seen[source].lost
            reason = f"{source} loses {lost:.2%} to zero, and {name} becomes infinite"
            widened += self._widen(self.families[source], reason, math.inf)
        return widened

    def _lossy_above(self, name: str) -> list[str]:
        """The nearest narrow families at and above a value, those that lose to zero if any do."""
        found: list[str] = []
        level, known = [name], {name}
        while level:
            narrow = [v for v in level if any(n not in self.wide for n in self.families[v].nodes)]
            found += narrow
            if lossy := [v for v in narrow if self.trials.seen[v].lost > 0]:
                return lossy
            level = [
                source
                for value in level
                for source in self.graph.values[value].sources
                if source in self.graph.values and source not in known
            ]
            known |= set(level)
        return found[:1]

    def _sharpen(self, state: Trial) -> Trial:
        """Widen the units that cost most until the loss is within the tolerance (rule N3)."""
        sample = self.trials.worst_sample(self.wide)
        effects = self._effects(sample)
        ranked = sorted((u for u in self.units if u.nodes), key=lambda u: -effects[id(u)])
        step, position = 1, 0
        while state.loss > self.tolerance and position < len(ranked) and not self._spent():
            widened = 0
            while position < len(ranked) and widened < step:
                unit = ranked[position]
                effect = effects[id(unit)]
                reason = f"rounding {unit.name} alone {_told(effect)}"
                widened += self._widen(unit, reason, effect)
                position += 1
            step *= 2
            state = self.trials.trial(self.wide)
        return state

    def _effects(self, sample: int) -> dict[int, float]:
        """How far each unit's rounding alone moves the outputs, by identity of the unit.

        Units are tried together and then in halves, unless they are silent together.
        """
        effects: dict[int, float] = {}
        whole = self._effect(sample, self.units)
        todo = [self.units]
        while todo:
            group = todo.pop(0)
            effect = whole if group is self.units else self._effect(sample, group)
            effects |= {id(unit): effect for unit in group}
            if len(group) > 1 and effect > _SILENT * whole and not self._spent():
                middle = len(group) // 2
                todo += [group[:middle], group[middle:]]
            self.progress(0.3 + 0.3 * (1 - len(todo) / (len(todo) + 4)))
        return effects

    def _effect(self, sample: int, group: Iterable[Unit]) -> float:
        positions = {edge for unit in group for edge in unit.edges}
        positions = {i for i in positions if not self.graph.edges[i].is_raw(self._kept())}
        return self.trials.effect(sample, positions) if positions else 0.0

    def _kept(self) -> set[str]:
        return {*self.wide, *self.graph.rules}

    def _give_back(self) -> None:
        """Make nodes narrow again that need not be wide (rule N4), the least worth first."""
        names = [name for name in self.wide if name not in self.start]
        names.sort(key=lambda name: self.worth[name])
        total = max(1, len(names))
        todo = [names] if names else []
        while todo and not self._spent():
            group = todo.pop(0)
            rest = {k: v for k, v in self.wide.items() if k not in group}
            if self._is_good(self.trials.trial(rest)):
                self.wide = rest
            elif len(group) > 1:
                middle = len(group) // 2
                todo = [group[:middle], group[middle:], *todo]
            self.progress(1.0 - 0.4 * sum(map(len, todo)) / total)


def _told(effect: float) -> str:
    if math.isfinite(effect):
        return f"moves the outputs by {effect:.2%}"
    return "makes the outputs infinite or no numbers"


def _tell_nobody(_share: float) -> None:
    return
