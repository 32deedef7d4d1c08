"""Judges the variants of one part on real samples, by the task's metric.

Rules:
    J1  fp32 is held to its source first: SOURCE_TOLERANCE of the largest value.
    J2  FP16 and BF16 are judged by emulation, as is such a rest of an INT8 graph.
    J3  A budget of the user's holds where its lines are about the part's metric; a part about
        which nothing is said keeps its recipe's.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export import fidelity, graph
from jetlift.export.precision.diagnose import worst_tensors
from jetlift.export.precision.emulate import emulate_half
from jetlift.runtime.errors import FidelityError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import onnx_ir as ir

    from jetlift.export.fidelity import Metric, MetricContext
    from jetlift.export.precision.fp16 import Typed
    from jetlift.export.samples import ReadItems, Samples, SampleSplit
    from jetlift.runtime.manifest import Part, Variant
    from jetlift.runtime.session.base import Session

    Outputs = dict[str, list[Any]]
    MakeMetric = Callable[[MetricContext], Metric]

SOURCE_TOLERANCE = 1e-4
_DIAGNOSED = 4


@dataclass(frozen=True)
class Source:
    """One part on its way into the bundle.

    Attributes:
        name: The part's name.
        model: Its fp32 graph.
        part: What the manifest will say of it, still without variants.
        budget: The fidelity budget its variants are held to by default.
        answer: How the source of the graph (torch, or the user's own file) answers to feeds:
            outputs in the graph's order.
        metric: Makes the task's own metric; None compares outputs as vectors.
        items: Reads the part's samples; None reads them as the preprocessing asks.
        asked: The user's budget; its lines about metrics of this part replace the default.
        exact_inputs: Operators of which an input is a place to read at, and its position.
    """

    name: str
    model: ir.Model
    part: Part
    budget: str
    answer: Callable[[Mapping[str, Any]], Sequence[Any]]
    metric: MakeMetric | None = None
    items: ReadItems | None = None
    asked: str | None = None
    exact_inputs: Mapping[str, int] = field(default_factory=dict)

    def budget_for(self, metric: Metric) -> str:
        """The budget that holds for this part."""
        return fidelity.lines_for(self.asked or "", metric.names) or self.budget

    def check_ranks(self, split: SampleSplit, *, searched: bool) -> None:
        """Hold the samples to what the budget asks of them, before anything is made.

        Args:
            split: The samples.
            searched: Whether a variant is searched for on them.

        Raises:
            InputError: It asks for a rank among samples that are too few to be ranked.
        """
        lines = fidelity.parse_budget(self.budget_for(fidelity.VectorMetric()))
        ranks = [line.metric for line in lines if line.metric in fidelity.RANKED]
        counts = {"searched on": len(split.search.feeds)} if searched else {}
        counts["reported on"] = len(split.report.feeds)
        if ranks and min(counts.values()) < fidelity.RANKABLE:
            told = " and ".join(f"{count} are {how}" for how, count in counts.items())
            raise InputError(
                f"Of the samples, {told}",
                expected=f"At least {fidelity.RANKABLE} of each for {self.name}'s {ranks[0]}",
                do="Give more samples: 12 pictures or 15 texts are enough",
            )


@dataclass(frozen=True)
class PartJudge:
    """Judges one part's variants.

    Attributes:
        folder: The folder of the bundle under construction.
        files: The fp32 graph of every part, by part.
        source: The part.
        tell: Called with a stage's name and its share done.
    """

    folder: Path
    files: Mapping[str, Path]
    source: Source
    tell: Callable[[str, float], None]

    def metric(self, samples: Samples) -> Metric:
        """The part's metric on these samples."""
        if self.source.metric is None:
            return fidelity.VectorMetric()
        return self.source.metric(
            fidelity.MetricContext(self.source.name, samples, self.files, self.folder)
        )

    def outputs_of_fp32(self, samples: Samples) -> Outputs:
        """What everything is compared with."""
        with reference(self.files[self.source.name]) as session:
            return self._run("fp32", session, samples)

    def judged(
        self,
        variant: Variant,
        typed: Typed,
        expected: Outputs,
        measured: Samples,
        metric: Metric,
        *,
        float_model: ir.Model,
        keep: bool,
    ) -> Variant:
        """The variant with its figures (rules J2 and J3).

        Args:
            variant: As it was written.
            typed: Its graph.
            expected: fp32's outputs on the samples.
            measured: The samples to report on.
            metric: The part's metric on them, one for all variants: it knows fp32's side by then.
            float_model: The float graph with tensors of the same names and meaning.
            keep: Let it pass though it misses its budget.

        Raises:
            FidelityError: It misses its budget.
        """
        emulated = emulate_half(typed.model) if variant.rest != "fp32" else None
        got, computed_by = self._answers(variant, emulated, measured)
        figures, budget = metric.figures(expected, got), self.source.budget_for(metric)
        judged = fidelity.judge(figures, budget, measured, computed_by)
        if not judged.met and not keep:
            feeds = measured.feeds[:_DIAGNOSED]
            worst = worst_tensors(float_model, emulated or typed.model, feeds)
            name = variant.file.split(".")[1]
            raise fidelity.refusal(self.source.name, name, judged, worst)
        return replace(variant, fidelity=judged)

    def _answers(
        self, variant: Variant, emulated: ir.Model | None, measured: Samples
    ) -> tuple[Outputs, str]:
        """The variant's outputs on the samples, and what computed them (rule J2)."""
        library = f"onnxruntime {importlib.metadata.version('onnxruntime')}"
        if emulated is None:
            with reference(self.folder / variant.file) as session:
                return self._run(variant.precision, session, measured), f"{library}, Q/DQ in fp32"
        path = self.folder / f".emulated.{variant.file}"
        try:
            graph.save(emulated, path)
            with reference(path) as session:
                outputs = self._run(variant.precision, session, measured)
        finally:
            for left in self.folder.glob(f"{path.name}*"):
                left.unlink()
        half = variant.rest
        return outputs, f"{library}, fp32 with every float result rounded to {half} (emulation)"

    def _run(self, precision: str, session: Session, measured: Samples) -> Outputs:
        told, count = f"{self.source.name}: {precision} on samples", len(measured.feeds)
        done = iter(range(1, count + 1))
        return fidelity.outputs_of(
            session, measured.feeds, progress=lambda: self.tell(told, next(done) / count)
        )

    def check_against_source(self, feeds_to_try: Sequence[Mapping[str, Any]]) -> None:
        """Hold fp32 to its source (rule J1).

        Raises:
            FidelityError: It differs.
        """
        self.tell(f"{self.source.name}: compare with its source", 0.0)
        with reference(self.files[self.source.name]) as session:
            for feeds in feeds_to_try:
                got, answers = session.run(feeds), self.source.answer(feeds)
                for spec, wanted in zip(self.source.part.outputs, answers, strict=True):
                    self._check_output(spec.name, difference_of(got[spec.name], wanted))

    def _check_output(self, name: str, difference: float) -> None:
        if not difference <= SOURCE_TOLERANCE:
            raise FidelityError(
                f"Output {name} of part {self.source.name} differs from its source by "
                f"{difference:.2e}",
                expected=f"At most {SOURCE_TOLERANCE:g} of its largest value",
                do="This is a fault of the export: please report the model and versions",
            )


def difference_of(got: Any, wanted: Any) -> float:  # noqa: ANN401 - arrays of any dtype
    """Largest absolute difference, relative to the largest wanted value where that is above 1.

    Another shape or a NaN is infinitely far.
    """
    a, b = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    if a.shape != b.shape:
        return float("inf")
    scale = max(1.0, float(np.max(np.abs(b), initial=0.0)))
    largest = float(np.max(np.abs(a - b), initial=0.0)) / scale
    return largest if np.isfinite(largest) else float("inf")


def reference(path: Path) -> Session:
    """The reference engine of one graph."""
    from jetlift.runtime.session import open_onnx

    return open_onnx(path, library="onnxruntime")
