"""Makes and judges the variants of one part: fp32 first, then each other one against it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export import fidelity, graph
from jetlift.export.precision.emulate import emulate_fp16
from jetlift.export.precision.fp16 import Typed, to_fp16
from jetlift.export.precision.int8 import to_int8
from jetlift.runtime.errors import FidelityError, UsageError
from jetlift.runtime.manifest import Part, Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import onnx_ir as ir

    from jetlift.export.samples import Samples, SampleSplit
    from jetlift.runtime.session.base import Session

    Outputs = dict[str, list[Any]]

SOURCE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Source:
    """One part on its way into the bundle.

    Attributes:
        name: The part's name.
        model: Its fp32 graph.
        part: What the manifest will say of it, still without variants.
        budget: The fidelity budget its variants are held to.
        answer: How the source of the graph (torch, or the user's own file) answers to feeds:
            outputs in the graph's order.
    """

    name: str
    model: ir.Model
    part: Part
    budget: str
    answer: Callable[[Mapping[str, Any]], Sequence[Any]]


@dataclass(frozen=True)
class PartWriter:
    """Writes one part's graphs into the folder of a bundle under construction.

    Attributes:
        folder: The bundle's folder.
        source: The part.
        split: Prepared samples; None makes neither INT8 nor figures.
        random: Random weights, which have no fidelity.
        tell: Called with a stage's name and its share done.
    """

    folder: Path
    source: Source
    split: SampleSplit | None
    random: bool
    tell: Callable[[str, float], None]

    def write(self, precisions: Sequence[str], *, keep: bool) -> Part:
        """Write fp32 and the asked variants.

        Raises:
            FidelityError: fp32 differs from its source, or a variant misses its budget and is not
                to be kept.
        """
        variants = {"fp32": self._save("fp32", Typed(self.source.model, ()))}
        measured = None if self.split is None or self.random else self.split.report
        with _reference(self.folder / variants["fp32"].file) as session:
            self._check_against_source(session)
            expected = self._run("fp32", session, measured) if measured else None
        for precision in precisions:
            if precision == "fp32":
                continue
            typed = self._typed(precision)
            variant = self._save(precision, typed)
            if measured is not None and expected is not None:
                variant = self._judged(variant, typed, expected, measured, keep=keep)
            variants[precision] = variant
        return replace(self.source.part, variants=variants)

    def _typed(self, precision: str) -> Typed:
        told = f"{self.source.name}: make {precision}"
        self.tell(told, 0.0)
        if precision == "fp16":
            return to_fp16(self.source.model)
        if self.split is None:
            raise UsageError("int8 needs samples", expected="--samples DIR")
        feeds = self.split.calibration.feeds
        return to_int8(self.source.model, feeds, progress=lambda share: self.tell(told, share))

    def _save(self, precision: str, typed: Typed) -> Variant:
        import onnx

        from jetlift.engines.ops import count

        file = f"{self.source.name}.{precision}.onnx"
        data_files = graph.save(graph.infer(typed.model), self.folder / file)
        proto = onnx.load(self.folder / file, load_external_data=False)
        shapes = {s.name: s.opt_shape for s in self.source.part.inputs if s.opt_shape is not None}
        return Variant(
            precision=precision,  # type: ignore[arg-type]  # the request was checked
            rest="fp16" if precision == "fp16" else "fp32",
            file=file,
            data_files=data_files,
            cost=count(proto, shapes).cost,
            kept_wide=typed.kept_wide,
            fidelity=None,
        )

    def _judged(
        self, variant: Variant, typed: Typed, expected: Outputs, measured: Samples, *, keep: bool
    ) -> Variant:
        got, computed_by = self._answers(variant, typed, measured)
        figures = fidelity.compare(expected, got)
        judged = fidelity.judge(figures, self.source.budget, measured, computed_by)
        if not judged.met and not keep:
            raise fidelity.refusal(self.source.name, variant.precision, judged)
        return replace(variant, fidelity=judged)

    def _answers(self, variant: Variant, typed: Typed, measured: Samples) -> tuple[Outputs, str]:
        """The variant's outputs on the samples, and what computed them."""
        library = f"onnxruntime {importlib.metadata.version('onnxruntime')}"
        if variant.precision != "fp16":
            with _reference(self.folder / variant.file) as session:
                return self._run(variant.precision, session, measured), f"{library}, Q/DQ in fp32"
        emulated = self.folder / f".emulated.{variant.file}"
        try:
            graph.save(emulate_fp16(typed.model), emulated)
            with _reference(emulated) as session:
                outputs = self._run(variant.precision, session, measured)
        finally:
            for path in self.folder.glob(f"{emulated.name}*"):
                path.unlink()
        return outputs, f"{library}, fp32 with every float result rounded to fp16 (emulation)"

    def _run(self, precision: str, session: Session, measured: Samples) -> Outputs:
        told, count = f"{self.source.name}: {precision} on samples", len(measured.feeds)
        done = iter(range(1, count + 1))
        return fidelity.outputs_of(
            session, measured.feeds, progress=lambda: self.tell(told, next(done) / count)
        )

    def _check_against_source(self, session: Session) -> None:
        self.tell(f"{self.source.name}: compare with its source", 0.0)
        for feeds in self._some_feeds():
            got = session.run(feeds)
            answers = self.source.answer(feeds)
            for spec, wanted in zip(self.source.part.outputs, answers, strict=True):
                difference = difference_of(got[spec.name], wanted)
                if not difference <= SOURCE_TOLERANCE:
                    raise FidelityError(
                        f"Output {spec.name} of part {self.source.name} differs from its source by "
                        f"{difference:.2e}",
                        expected=f"At most {SOURCE_TOLERANCE:g} of its largest value",
                        do="This is a fault of the export: please report the model and versions",
                    )

    def _some_feeds(self) -> Sequence[Mapping[str, Any]]:
        if self.split is not None:
            return self.split.calibration.feeds[:2]
        inputs = self.source.part.inputs
        arrays = graph.example(inputs)
        return [{spec.name: array for spec, array in zip(inputs, arrays, strict=True)}]


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


def _reference(path: Path) -> Session:
    from jetlift.runtime.session import open_onnx

    return open_onnx(path, library="onnxruntime")
