"""Makes and judges the variants of one part: fp32 first, then each other one against it.

Rules:
    V1  fp32 is held to its source before any variant is made from it.
    V2  INT8 is calibrated on one set of samples and searched on another; every figure that is
        reported comes from the third, which is read once. A variant that misses its budget there
        is refused, never searched again.
    V3  What must stay FP32 in 16 bits is what the recipe says, and what is found on calibration
        samples beside it.
    V4  With random weights nothing is searched or measured: everything is narrow that can be and
        that the recipe does not name, and no figure is written.
"""

from __future__ import annotations

import importlib.metadata
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export import fidelity, graph
from jetlift.export.judging import PartJudge
from jetlift.export.precision import weight_only
from jetlift.export.precision.estimate import RANKED_FOR, saved_by_int8
from jetlift.export.precision.evaluate import Evaluator, fingerprint_of, open_log
from jetlift.export.precision.fp16 import Typed, to_half
from jetlift.export.precision.fp16_wide import TOLERANCE, find_wide
from jetlift.export.precision.int8 import Quantised, SearchOptions, to_int8
from jetlift.export.precision.weight_only import to_weight_only
from jetlift.export.precision.wide_rules import makers_of
from jetlift.jetson.facts import device
from jetlift.runtime.bundle import sha256_of
from jetlift.runtime.errors import UsageError
from jetlift.runtime.manifest import ImagePreprocess, Part, Variant
from jetlift.runtime.preprocess import prepare_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from jetlift.engines.ops import GraphCost
    from jetlift.export.fidelity import Metric, MetricContext
    from jetlift.export.judging import Source
    from jetlift.export.precision.evaluate import SearchLog
    from jetlift.export.precision.half import HalfKind
    from jetlift.export.samples import SampleSplit

    Outputs = dict[str, list[Any]]
    MakeMetric = Callable[[MetricContext], Metric]

WIDE_SAMPLES = 4
# BF16 has three bits less than FP16, so sound graphs lose eight times as much.
WIDE_TOLERANCES: dict[HalfKind, float] = {"fp16": TOLERANCE, "bf16": 8 * TOLERANCE}
INT8 = ("int8", "int8-fp16")  # with scales of activations, which samples choose
HALVES: dict[str, HalfKind] = {
    "fp16": "fp16", "bf16": "bf16", "int8-fp16": "fp16", "int8w-fp16": "fp16", "int4w-fp16": "fp16",
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How variants are made.

    Attributes:
        search: How much the precision search may do.
        log: Search log to write and to go on from, by part; None keeps none.
        keep: Keep a variant that misses its budget.
    """

    search: SearchOptions = SearchOptions()
    log: Callable[[str], Path] | None = None
    keep: bool = False


def save_fp32(folder: Path, source: Source) -> Path:
    """Write a part's fp32 graph into a bundle under construction."""
    path = folder / f"{source.name}.fp32.onnx"
    graph.save(graph.infer(source.model), path)
    return path


@dataclass(frozen=True)
class PartWriter:
    """Writes one part's graphs into the folder of a bundle under construction.

    Attributes:
        folder: The bundle's folder, in which the fp32 graph of every part lies.
        files: These graphs, by part.
        source: The part.
        split: Prepared samples; None makes neither INT8 nor figures.
        random: Random weights, which have no fidelity.
        settings: How variants are made.
        tell: Called with a stage's name and its share done.
    """

    folder: Path
    files: Mapping[str, Path]
    source: Source
    split: SampleSplit | None
    random: bool
    settings: Settings
    tell: Callable[[str, float], None]
    _wide: dict[HalfKind, dict[str, str]] = field(default_factory=dict, init=False, repr=False)

    def write(self, precisions: Sequence[str]) -> Part:
        """Judge fp32, and write the asked variants.

        Raises:
            FidelityError: fp32 differs from its source, or a variant misses its budget and is not
                to be kept.
        """
        variants = {"fp32": self._described("fp32", self.files[self.source.name], (), ())}
        measured = None if self.split is None or self.random else self.split.report
        judge = PartJudge(self.folder, self.files, self.source, self.tell)
        judge.check_against_source(self._some_feeds())
        expected = judge.outputs_of_fp32(measured) if measured else None
        metric = judge.metric(measured) if measured else None
        quantised: Quantised | None = None
        for precision in precisions:
            if precision == "fp32":
                continue
            if precision in INT8:
                quantised = quantised or self._quantised()
                made = self._from_int8(precision, quantised)
            elif precision in weight_only.BITS:
                made = self._with_narrow_weights(precision)
            else:
                made = self._halved(HALVES[precision])
            variant, near = self._save(precision, made), self.source.model
            if precision in INT8 and quantised is not None:
                variant = replace(variant, quantisation=quantised.quantisation)
                near = quantised.treated  # whose tensors are not fp32's own
            if measured is not None and expected is not None and metric is not None:
                variant = judge.judged(
                    variant,
                    made,
                    expected,
                    measured,
                    metric,
                    float_model=near,
                    keep=self.settings.keep,
                )
            variants[precision] = variant
        return replace(self.source.part, variants=variants)

    def _halved(self, kind: HalfKind) -> Typed:
        """The float graph in 16 bits, with what must stay FP32 on real samples."""
        return to_half(self.source.model, kind, wide=self._found_wide(kind))

    def _with_narrow_weights(self, precision: str) -> Typed:
        """The float graph, in 16 bits where asked, with its weights in integers."""
        kind = HALVES.get(precision)
        wide = Typed(self.source.model, ()) if kind is None else self._halved(kind)
        stored = to_weight_only(wide.model, weight_only.BITS[precision])
        return Typed(stored.model, (*wide.kept_wide, *stored.kept_wide))

    def _from_int8(self, precision: str, quantised: Quantised) -> Typed:
        """The INT8 graph as it is, or with a rest in 16 bits."""
        kind, typed = HALVES.get(precision), quantised.typed
        if kind is None or self.split is None:
            return typed
        # One rounding flips integers far down, so here only overflows are looked for; what the
        # float graph loses by rounding was found on the float graph.
        start = self._found_wide(kind)
        wide = start
        if not self.random:
            few = self._few()
            wide = find_wide(typed.model, few, kind=kind, tolerance=math.inf, start=start).wide
        halved = to_half(typed.model, kind, wide=wide)
        return Typed(halved.model, (*typed.kept_wide, *halved.kept_wide))

    def _found_wide(self, kind: HalfKind) -> dict[str, str]:
        """What must stay FP32 in the float graph, found once for all variants with this type."""
        said = makers_of(self.source.model, self.source.exact_inputs)
        if self.split is None or self.random:  # V4
            return said
        if kind not in self._wide:
            told = f"{self.source.name}: what must stay fp32 in {kind}"
            self._wide[kind] = find_wide(
                self.source.model,
                self._few(),
                kind=kind,
                tolerance=WIDE_TOLERANCES[kind],
                start=said,
                progress=lambda share: self.tell(told, share),
            ).wide
        return self._wide[kind]

    def _few(self) -> Sequence[Mapping[str, Any]]:
        """Calibration samples, evenly taken, to look for overflows and losses on."""
        feeds = self.split.calibration.feeds if self.split is not None else ()
        return feeds[:: max(1, len(feeds) // WIDE_SAMPLES)][:WIDE_SAMPLES]

    def _quantised(self) -> Quantised:
        """The INT8 graph, searched on the search samples (rule V2)."""
        if self.split is None:
            raise UsageError("int8 needs samples", expected="--samples DIR")
        search, calibration = self.split.search, self.split.calibration
        judge = PartJudge(self.folder, self.files, self.source, self.tell)
        metric = fidelity.VectorMetric() if self.random else judge.metric(search)
        lines = () if self.random else fidelity.parse_budget(self.source.budget_for(metric))
        rows = self._cost(self.files[self.source.name]).nodes
        operations = {row.name: row.operations for row in rows if row.weighted}
        told = f"{self.source.name}: make int8"

        def search_with(log: SearchLog | None) -> Quantised:
            evaluator = Evaluator(self.source.model, search.feeds, metric, lines, log)
            return to_int8(
                self.source.model,
                calibration.feeds,
                evaluator,
                operations,
                saved_s=saved_by_int8(rows, device(RANKED_FOR)),
                options=self._search_options(),
                samples=search.described,
                tell=lambda doing, share: self.tell(f"{told}: {doing}", share),
            )

        if self.random:
            return _unjudged(search_with(None))
        if self.settings.log is None:
            return search_with(None)
        key = [
            sha256_of(self.files[self.source.name]),
            calibration.described.sha256,
            search.described.sha256,
            type(metric).__name__,
            importlib.metadata.version("jetlift"),
        ]
        with open_log(self.settings.log(self.source.name), fingerprint_of(key)) as log:
            return search_with(log)

    def _search_options(self) -> SearchOptions:
        """How much the search may do; nothing with random weights (rule V4)."""
        if self.random:
            return SearchOptions(time_limit_s=0.0, keep=True)
        return replace(self.settings.search, keep=self.settings.keep)

    def _save(self, precision: str, typed: Typed) -> Variant:
        path = self.folder / f"{self.source.name}.{precision}.onnx"
        data_files = graph.save(graph.infer(typed.model), path)
        return self._described(precision, path, data_files, typed.kept_wide)

    def _described(
        self, precision: str, path: Path, data_files: tuple[str, ...], kept_wide: tuple[str, ...]
    ) -> Variant:
        data = path.with_name(f"{path.name}.data")
        return Variant(
            precision=precision.partition("-")[0],  # type: ignore[arg-type]  # was checked
            rest=HALVES.get(precision, "fp32"),
            file=path.name,
            data_files=data_files or ((data.name,) if data.exists() else ()),
            cost=self._cost(path).cost,
            kept_wide=kept_wide,
            fidelity=None,
        )

    def _cost(self, path: Path) -> GraphCost:
        import onnx

        from jetlift.engines.ops import count

        proto = onnx.load(path, load_external_data=False)
        inputs = self.source.part.inputs
        return count(proto, {s.name: s.opt_shape for s in inputs if s.opt_shape is not None})

    def _some_feeds(self) -> Sequence[Mapping[str, Any]]:
        if self.split is not None:
            return self.split.calibration.feeds[:2]
        inputs = self.source.part.inputs
        arrays = graph.example(inputs)
        feeds = {spec.name: array for spec, array in zip(inputs, arrays, strict=True)}
        pictures = self.source.part.preprocess
        if isinstance(pictures, ImagePreprocess):  # normal noise is near black for some models
            width, height = pictures.size_wh
            shape = (len(feeds[pictures.input]), height, width, 3)
            noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
            feeds[pictures.input] = prepare_batch(list(noise), pictures)
        return [feeds]


def _unjudged(quantised: Quantised) -> Quantised:
    """The same without what was measured on the way: it would be a figure of noise (rule V4)."""
    told = replace(quantised.quantisation, curve=(), search=None, evaluations=0, finished=True)
    return replace(quantised, quantisation=told)
