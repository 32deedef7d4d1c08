"""One comparison: makes every method's graph, judges it, keeps the result.

A result of an earlier run is used again where graph, samples, options, versions and the judging
code are the same.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import shutil
import sys
import tempfile
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.benchmarks import compare_request, quantisers
from jetlift.benchmarks.compare_form import (
    Comparison,
    MethodResult,
    fingerprint,
    keep_result,
    kept_result,
)
from jetlift.benchmarks.compare_judge import Judge
from jetlift.benchmarks.quantisers import METHODS
from jetlift.runtime.bundle import sha256_of
from jetlift.runtime.errors import EngineLibraryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jetlift.benchmarks.compare_request import Request
    from jetlift.benchmarks.quantisers import Method, Peer
    from jetlift.export.samples import SampleSplit

_SOURCES = ("benchmarks/quantiser_child.py", "benchmarks/compare_judge.py", "engines/ops.py")


class Progress:
    """Says on standard error what is done; shares of it only where a person watches."""

    def __init__(self) -> None:
        self._text, self._shown = "", -1

    def step(self, text: str) -> None:
        """Begin something."""
        self._end_line()
        self._text = text
        sys.stderr.write(text if sys.stderr.isatty() else f"{text}\n")
        sys.stderr.flush()

    def share(self, done: float) -> None:
        """How much of it is done, 0 to 1."""
        percent = int(done * 100)
        if sys.stderr.isatty() and percent != self._shown:
            sys.stderr.write(f"\r{self._text}: {percent} %")
            sys.stderr.flush()
            self._shown = percent

    def _end_line(self) -> None:
        if self._text and sys.stderr.isatty():
            sys.stderr.write("\n")
        self._shown = -1


def compare(request: Request, progress: Progress) -> Comparison:
    """Make, or take from an earlier run, every method's result.

    Raises:
        UsageError: The bundle has no such variant, or its weights are random.
        InputError: The samples are not those of the bundle.
        MachineError: A peer that was asked for by name is not installed.
    """
    from jetlift.export.recipes import samples_for

    bundle, part = request.bundle, request.part
    compare_request.check(request)
    found, missing = compare_request.find_peers(request, progress.step)
    names = [
        name for name in compare_request.names_of(request) if METHODS[name].peer in {"", *found}
    ]
    progress.step("read samples")
    split = samples_for(bundle, part, request.samples)
    compare_request.check_samples(bundle, part, split)
    with tempfile.TemporaryDirectory(prefix="jetlift-compare-") as folder:
        run = _Run(request, split, found, Path(folder), progress)
        results = []
        for number, name in enumerate(names, 1):
            results.append(run.result(name, f"[{number}/{len(names)}] {METHODS[name].title}"))
    return Comparison(
        model=bundle.manifest.model,
        part=part,
        weights=bundle.manifest.weights,
        graph_sha256=run.fp32_sha256,
        budget=run.budget,
        judged_on=request.judge_on,
        judged=run.judged.described,
        calibration=run.calibration.described,
        searched=0 if request.calibrate_on == "both" else split.search.described.count,
        computed_by=f"onnxruntime {_version('onnxruntime')} on the CPU, which computes FP16 in "
        "FP32",
        results=tuple(results),
        not_installed=tuple(missing),
    )


class _Run:
    """Makes the results of one comparison."""

    def __init__(
        self,
        request: Request,
        split: SampleSplit,
        found: dict[str, Peer],
        folder: Path,
        progress: Progress,
    ) -> None:
        self._request, self._peers, self._progress = request, found, progress
        self._folder = folder
        self._bundle, self._part = request.bundle, request.part
        self.judged = split.search if request.judge_on == "search" else split.report
        self.calibration = (
            compare_request.both_of(split) if request.calibrate_on == "both" else split.calibration
        )
        variants = self._bundle.part(self._part)[1].variants
        self._fp32 = variants["fp32"]
        self.fp32_sha256 = self._sha256_of(self._fp32.file)
        judged = {name: v.fidelity for name, v in variants.items() if v.fidelity is not None}
        fidelity = judged.get("int8") or next(iter(judged.values()), None)
        if fidelity is None:
            raise UsageError(
                "The bundle was exported without fidelity figures, so there is no budget to judge "
                "by",
                do="Export it again with --samples",
            )
        self.budget = fidelity.budget
        self._judge = Judge(self._bundle, self._part, self.judged, progress.share)

    def result(self, name: str, told: str) -> MethodResult:
        """The result of a method, from an earlier run where it is the same."""
        empty = self._empty(name)
        kept = kept_result(self._request.out, name, empty.key)
        if kept is not None:
            self._progress.step(f"{told}: as before")
            return kept
        folder = self._folder / name
        folder.mkdir()
        made = self._made(METHODS[name], empty, folder, lambda doing: self._step(told, doing))
        shutil.rmtree(folder)
        keep_result(self._request.out, made)
        return made

    def _step(self, told: str, doing: str) -> None:
        self._progress.step(f"{told}: {doing}")

    def _made(
        self, method: Method, empty: MethodResult, folder: Path, tell: Callable[[str], None]
    ) -> MethodResult:
        if not method.peer:
            file = self._bundle.variant(self._part, method.tool).file
            return self._judged(empty, self._bundle.path(file), tell)
        tell("quantise")
        fp32 = self._bundle.path(self._fp32.file)
        try:
            graph = quantisers.quantise(method, self._peers[method.peer], fp32, self._feeds, folder)
        except EngineLibraryError as error:
            return replace(empty, remarks=(error.got,))
        return self._judged(empty, graph, tell)

    def _judged(
        self, empty: MethodResult, graph: Path, tell: Callable[[str], None]
    ) -> MethodResult:
        size = sum(path.stat().st_size for path in graph.parent.glob(f"{graph.name}*"))
        judged, remarks = replace(empty, size_bytes=size), list(empty.remarks)
        tell(f"run {self.judged.described.count} samples")
        try:
            figures = self._judge.figures(graph)
            finite = {name: value for name, value in figures.items() if math.isfinite(value)}
            remarks += [f"{name} is no number" for name in figures if name not in finite]
            judged = replace(judged, figures=finite)
        except EngineLibraryError as error:
            remarks.append(error.got.replace(f"{graph.parent}/", ""))
        try:
            share, products = self._judge.shares(graph)
            judged = replace(judged, int8_share=share, attention_int8_share=products)
        except UsageError as error:
            remarks.append(f"INT8 share not known: {error.got}")
        if self._request.rtx:
            tell("build with TensorRT-RTX")
            judged = replace(judged, rtx=self._judge.rtx(graph))
        return replace(judged, remarks=tuple(remarks))

    def _empty(self, name: str) -> MethodResult:
        method = METHODS[name]
        versions = (
            self._peers[method.peer].versions
            if method.peer
            else {"jetlift": self._bundle.manifest.jetlift}
        )
        options = json.dumps(method.options)
        made_by = {"options": options, "tool": method.tool, "versions": versions}
        if not method.peer:
            made_by["variant"] = self._sha256_of(self._bundle.variant(self._part, method.tool).file)
        return MethodResult(
            method=name,
            title=method.title,
            words=method.words,
            options=options,
            key=fingerprint([made_by, self._surroundings]),
            versions=versions,
            figures=None,
            int8_share=None,
            attention_int8_share=None,
            size_bytes=None,
            rtx=None,
            remarks=(),
        )

    @cached_property
    def _surroundings(self) -> list[object]:
        """What every result depends on."""
        package = Path(__file__).parents[1]
        sources = [package / name for name in _SOURCES]
        sources += sorted((package / "export" / "fidelity").glob("*.py"))
        tools = ("jetlift", "onnxruntime", "onnx", "numpy")
        graphs = [self._sha256_of(name) for name in (self._fp32.file, *self._fp32.data_files)]
        return [
            graphs,
            self.calibration.described.sha256,
            self.judged.described.sha256,
            [sha256_of(path) for path in sources],
            [_version(name) for name in tools],
            _version("tensorrt_rtx") if self._request.rtx else None,
        ]

    @cached_property
    def _feeds(self) -> Path:
        path = self._folder / "calibration.npz"
        quantisers.save_feeds(path, self.calibration.feeds)
        return path

    def _sha256_of(self, file: str) -> str:
        return next(e.sha256 for e in self._bundle.manifest.files if e.path == file)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
