"""Makes a bundle: requires weights and samples, ensures a verified folder or nothing at all.

Rules:
    M1  Everything is written aside; the bundle appears by one rename at the very end.
    M2  The fp32 graph equals its source on real input (or seeded input without samples) within
        judging.SOURCE_TOLERANCE before any variant is made from it.
    M3  Calibration sees one set of samples, the figures come from the other.
    M4  A variant that misses its fidelity budget stops the export, unless it is to be kept; the
        manifest then says that it missed.
    M5  Random weights have no fidelity: the gate is not run on them.
    M6  Preprocessing goes into the graphs last of all, behind gates of its own (inside_part.py).
    M7  Without samples one part is in memory at a time. Samples of a part may need the graphs of
        all others, so with them every fp32 graph is written first.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jetlift.export import fidelity, graph, random_weights, samples
from jetlift.export.inside_part import check_that_some_part_takes_pictures, put_inside
from jetlift.export.judging import Source
from jetlift.export.precision import weight_only
from jetlift.export.precision.int8 import SearchOptions
from jetlift.export.recipe_part import part_of, source_of
from jetlift.export.variants import INT8, PartWriter, Settings, save_fp32
from jetlift.runtime import atomic, jsonform
from jetlift.runtime.bundle import MANIFEST_NAME, Bundle, list_files, sha256_of
from jetlift.runtime.errors import MissingPackageError, UnknownNameError, UsageError
from jetlift.runtime.manifest import SCHEMA_VERSION, Manifest, Part, Weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from jetlift.export.detector import DetectOptions
    from jetlift.export.recipes.base import Loaded, Recipe
    from jetlift.runtime.manifest import SampleSet

    Report = Callable[[str, float], None]

DEFAULT_PRECISIONS = ("fp32", "fp16", "int8")
PRECISIONS = ("fp32", "fp16", "bf16", *INT8, *weight_only.BITS)
_TOOLS = (
    "torch", "transformers", "diffusers", "onnx", "onnx-ir", "onnxsim", "onnxruntime", "numpy",
    "opencv-python",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What to export.

    Attributes:
        out: The bundle's folder; it must not exist.
        precisions: Variants to make, fp32 included.
        samples: Real samples; None means no INT8 and no fidelity figures.
        budget: Fidelity budget in place of the recipe's.
        keep: Keep variants that miss the budget.
        search: How much the precision search may do.
        frame_wh: Width and height of the camera frames that picture parts take, with their
            preprocessing in the graph; None leaves it outside.
    """

    out: Path
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    samples: Path | None = None
    budget: str | None = None
    keep: bool = False
    search: SearchOptions = SearchOptions()
    frame_wh: tuple[int, int] | None = None

    def search_log(self, part: str) -> Path:
        """Where the search of a part keeps its log until the bundle is there."""
        return self.out.with_name(f"{self.out.name}.{part}.search.jsonl")

    @property
    def narrow(self) -> tuple[str, ...]:
        """The variants that have INT8 scales."""
        return tuple(name for name in self.precisions if name in INT8)

    def check(self, *, random: bool = False) -> None:
        """Refuse what cannot work before anything heavy is loaded.

        Args:
            random: The weights are random: INT8 needs no samples, and there is no fidelity.

        Raises:
            UsageError: A precision is unknown, fp32 is missing, int8 has no samples, or the
                budget cannot be read or kept.
        """
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise UnknownNameError(
                    f"Precision {precision!r} is unknown",
                    expected=f"One of {', '.join(PRECISIONS)}",
                )
        if "fp32" not in self.precisions:
            raise UsageError("fp32 is not among the precisions", expected="The reference: keep it")
        if self.narrow and self.samples is None and not random:
            raise UsageError(
                f"{self.narrow[0]} was asked for without samples",
                expected="Real samples to choose its scales from",
                do="Add --samples DIR, or leave int8 out: --precision fp32,fp16",
            )
        if self.samples is not None and not self.samples.exists():
            raise UsageError(f"There is no {self.samples}", expected="A folder with real samples")
        if self.budget is not None and random:
            raise UsageError(
                "Got --fidelity with random weights",
                expected="No budget: random weights have no fidelity to keep",
            )
        if self.budget is not None:
            fidelity.parse_budget(self.budget, fidelity.METRIC_NAMES)


def export_recipe(
    recipe: Recipe, weights: str | None, request: Request, report: Report | None = None
) -> Bundle:
    """Export a model of the zoo.

    Args:
        recipe: Which model.
        weights: None for the recipe's hub id, or a hub id, folder, file, 'package', or 'random'.
        request: What to make of it, and where.
        report: Called with a stage's name and its share done.

    Raises:
        JetliftError: Any gate, input, artefact or machine error on the way; nothing is left behind.
    """
    tell = report or _tell_nobody
    request.check(random=random_weights.seed_of(weights) is not None)
    if request.frame_wh is not None:
        preprocesses = [item.preprocess for item in recipe.parts.values()]
        check_that_some_part_takes_pictures(preprocesses, request.frame_wh)
    with atomic.folder_aside(request.out) as aside, _needs_export_packages():  # M1
        tell("load weights", 0.0)
        loaded = recipe.load(weights)
        for path, asset in loaded.assets.items():
            (aside / path).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(asset, bytes):
                (aside / path).write_bytes(asset)
            else:
                shutil.copyfile(asset, aside / path)
        facts = _Facts(recipe.name, recipe.tasks, loaded.weights, _forms_of(loaded))
        sources = (
            source_of(name, item, loaded.modules[name], request.budget, tell)
            for name, item in recipe.parts.items()
        )
        _fill(aside, facts, sources, request, tell)
    return Bundle.open(request.out)


def export_onnx(
    path: Path,
    request: Request,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    detect: DetectOptions | None = None,
    report: Report | None = None,
) -> Bundle:
    """Make a bundle of a graph of one's own.

    Args:
        path: The ONNX file.
        request: What to make of it, and where.
        shapes: Shape to optimise for and measure at, per input with dynamic axes.
        detect: Take the graph for a detector; None gives it no task.
        report: Called with a stage's name and its share done.

    Raises:
        JetliftError: As `export_recipe`.
    """
    tell = report or _tell_nobody
    request.check()
    with atomic.folder_aside(request.out) as aside, _needs_export_packages():
        from jetlift.export.detector import detecting
        from jetlift.export.fidelity.boxes import BUDGET as BOX_BUDGET
        from jetlift.export.own_graph import answer, describe_inputs

        tell("read the graph", 0.0)
        model = graph.from_file(path)
        inputs = describe_inputs(model, shapes or {})
        part = part_of(model, inputs, graph.parameter_count(model), None)
        budget = fidelity.OWN_GRAPH_BUDGET if detect is None else BOX_BUDGET
        source = Source("main", model, part, budget, answer(path, inputs), asked=request.budget)
        note = "A graph of the user's own; without a task's metric it is held to output cosine"
        if detect is not None:
            source, note = detecting(source, detect, aside)
        if request.frame_wh is not None:
            check_that_some_part_takes_pictures([source.part.preprocess], request.frame_wh)
        weights = Weights(
            source=path.name,
            licence="not stated",
            sha256=sha256_of(path),
            note=note,
            random=False,
        )
        name = re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_") or "graph"
        tasks = () if detect is None else ("detect",)
        _fill(aside, _Facts(name, tasks, weights), [source], request, tell)
    return Bundle.open(request.out)


@dataclass(frozen=True)
class _Facts:
    """What the manifest says of the model as a whole."""

    model: str
    tasks: tuple[str, ...]
    weights: Weights
    forms: Mapping[str, Any] = field(default_factory=dict)


def _forms_of(loaded: Loaded) -> dict[str, Any]:
    """How the model's outputs become results, by the manifest's names for it."""
    names = ("zero_shot", "open_vocabulary", "diffusion", "unclip", "radiance")
    return {name: getattr(loaded, name) for name in names}


def _fill(
    aside: Path,
    facts: _Facts,
    sources: Iterable[Source],
    request: Request,
    tell: Report,
) -> None:
    """Write every file of the bundle into the aside folder, the manifest last (rule M7)."""
    files: dict[str, Path] = {}
    if request.samples is not None:
        sources = list(sources)
        files = {source.name: save_fp32(aside, source) for source in sources}
    parts: dict[str, Part] = {}
    calibration: dict[str, SampleSet] = {}
    settings = Settings(request.search, request.search_log, request.keep)
    for source in sources:
        if source.name not in files:
            files[source.name] = save_fp32(aside, source)
        split = None
        if request.samples is not None:
            tell(f"{source.name}: read samples", 0.0)
            context = samples.ItemContext(request.samples, source.part, aside, files)
            split = samples.prepare(context, source.items)
            if not facts.weights.random:
                source.check_ranks(split, searched=bool(request.narrow))
        elif facts.weights.random and request.narrow:
            split = samples.seeded(source.part)
        if split is not None:
            calibration[source.name] = split.calibration.described
        writer = PartWriter(aside, files, source, split, facts.weights.random, settings, tell)
        parts[source.name] = writer.write(request.precisions)
        del source, writer  # M7: before the next is made
    if request.frame_wh is not None:  # M6
        parts = {
            name: put_inside(aside, name, part, request.frame_wh, request.samples, tell)
            for name, part in parts.items()
        }
    _check_that_budget_was_used(request, parts)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        jetlift=importlib.metadata.version("jetlift"),
        model=facts.model,
        tasks=facts.tasks,
        weights=facts.weights,
        parts=parts,
        calibration=calibration if request.narrow else {},
        tools=_tool_versions(),
        files=list_files(aside),
        **facts.forms,
    )
    (aside / MANIFEST_NAME).write_text(jsonform.dumps(manifest), encoding="utf-8")
    for name in parts:  # the manifest says now what the log said
        request.search_log(name).unlink(missing_ok=True)


def _check_that_budget_was_used(request: Request, parts: Mapping[str, Part]) -> None:
    """A line that is about no part's metric would be a limit that nobody keeps."""
    judged = [v.fidelity for part in parts.values() for v in part.variants.values() if v.fidelity]
    if request.budget is None or not judged:
        return
    known = sorted({name.rpartition(".")[2] for item in judged for name in item.figures})
    fidelity.parse_budget(request.budget, known)


def _tool_versions() -> dict[str, str]:
    versions = {}
    for name in _TOOLS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _tell_nobody(_stage: str, _share: float) -> None:
    return


@contextlib.contextmanager
def _needs_export_packages() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("jetlift"):
            raise
        raise MissingPackageError(error.name, extra="export", purpose="to export models") from error
