"""The table system x step, written from what zoo.py left.

Rules:
    T1  No cell is empty: it has what was seen, `structure` for random weights, or why there is
        nothing, with a footnote where that takes a sentence.
    T2  A figure comes from the files of the step (manifest, passports, record), not from a log.
    T3  Of outputs that are judged alike, a decoder's caches say, the worst is told.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from jetlift.benchmarks import zoo
from jetlift.benchmarks.zoo_systems import SYSTEMS
from jetlift.runtime import record
from jetlift.runtime.bundle import MANIFEST_NAME, read_facts
from jetlift.runtime.errors import JetliftError
from jetlift.runtime.manifest import Manifest
from jetlift.runtime.passport import read_passport

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jetlift.benchmarks.zoo import Step
    from jetlift.benchmarks.zoo_systems import System
    from jetlift.runtime.manifest import Variant

HEADS = (
    "system", "model", "weights", "parameters", "export", "fp16", "int8 or int8w",
    "TensorRT-RTX SM 8.6", "runs on the CPU", "record",
)  # fmt: skip
_GIB = 2**30
_LISTED = 2
_GROUPED_MS = 1000
_NOT_TRIED = "not tried"


def render(out: Path) -> str:
    """The table as Markdown, with its footnotes."""
    notes: list[str] = []
    lines = ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    lines += ["| " + " | ".join(_row(system, out, notes)) + " |" for system in SYSTEMS]
    footnotes = [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    return "\n".join([*lines, "", *footnotes]) + "\n"


def _row(system: System, out: Path, notes: list[str]) -> list[str]:
    steps = {step.step: step for step in zoo.read_steps(out / system.key)}
    manifest = _manifest(zoo.bundle_of(system, out))
    title = system.title
    if system.note:
        title += _footnote(system.note, notes)
    weights, parameters = _NOT_TRIED, _NOT_TRIED
    if manifest is not None:
        weights = "random" if manifest.weights.random else "real"
        count = sum(part.parameters for part in manifest.parts.values())
        parameters = f"{count / 1e6:,.1f} M"
    cells = [title, f"`{system.model}`", weights, parameters]
    if system.bundle_of:
        same = f"as {system.bundle_of}"
        return [*cells, same, same, same, same, _cost(steps.get("run"), notes), same]
    return [
        *cells,
        _cost(steps.get("export"), notes),
        _fidelity(manifest, ("fp16",), notes),
        _fidelity(manifest, ("int8", "int8w-fp16", "int8w"), notes),
        _engines(system, steps, out, notes),
        _cost(steps.get("run"), notes),
        _record(steps.get("bench"), out / system.key / "record", notes),
    ]


def _manifest(bundle: Path) -> Manifest | None:
    try:
        return (
            read_facts(Manifest, bundle / MANIFEST_NAME)
            if (bundle / MANIFEST_NAME).exists()
            else None
        )
    except JetliftError:
        return None


def _cost(step: Step | None, notes: list[str]) -> str:
    if step is None:
        return _NOT_TRIED
    spent = f"{_time(step.seconds)}, {step.peak_bytes / _GIB:.1f} GiB"
    return spent if step.ok else f"no, after {spent}{_footnote(step.told, notes)}"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _fidelity(manifest: Manifest | None, names: tuple[str, ...], notes: list[str]) -> str:
    """Whether the variants of all parts keep their budget, and their least figure."""
    if manifest is None:
        return _NOT_TRIED
    found = [
        (part, part_name, name)
        for part_name, part in manifest.parts.items()
        for name in names
        if name in part.variants
    ]
    if not found:
        return "not made"
    told = "/".join(dict.fromkeys(name for _, _, name in found if name != "fp16"))
    prefix = f"{told}: " if told not in ("", "int8") else ""
    if manifest.weights.random:
        return f"{prefix}structure"
    missed = [
        f"{part_name} {name}: {_figures(part.variants[name])}"
        for part, part_name, name in found
        if (judged := part.variants[name].fidelity) is not None and not judged.met
    ]
    unjudged = sum(part.variants[name].fidelity is None for part, _, name in found)
    if missed:
        return f"{prefix}misses its budget{_footnote('; '.join(missed), notes)}"
    kept = "; ".join(f"{p} {_figures(part.variants[name])}" for part, p, name in found)
    text = f"{prefix}within budget{_footnote(kept, notes)}"
    return text if not unjudged else f"{text}, {unjudged} not measured"


def _figures(variant: Variant) -> str:
    if variant.fidelity is None:
        return "not measured"
    figures = ", ".join(_by_kind(variant.fidelity.figures))
    share = variant.quantisation
    return figures if share is None else f"{figures} ({share.int8_share:.0%} in INT8)"


def _by_kind(figures: Mapping[str, float]) -> list[str]:
    """Each figure; of more than two outputs judged alike, the least alone (rule T3)."""
    kinds: dict[str, list[tuple[str, float]]] = {}
    for name, value in figures.items():
        kinds.setdefault(name.rpartition(".")[2], []).append((name, value))
    told = []
    for kind, found in kinds.items():
        if len(found) > _LISTED:
            told.append(f"{kind} of {len(found)} outputs {min(v for _, v in found):.4g} or more")
        else:
            told += [f"{name} {value:.4g}" for name, value in found]
    return told


def _engines(system: System, steps: Mapping[str, Step], out: Path, notes: list[str]) -> str:
    """How many engines were built, and what of them runs narrow."""
    tried = {name: steps.get(f"rtx {name}") for name in system.precisions}
    if not any(tried.values()):
        return _NOT_TRIED
    cells = []
    for name, step in tried.items():
        if step is None:
            cells.append(f"{name} {_NOT_TRIED}")
        elif not step.ok:
            cells.append(f"{name} **no**{_footnote(step.told, notes)}")
        else:
            count, share = _built(out / system.key / "bundle" / "engines" / zoo.RTX, name)
            cells.append(f"{name} {count}{share}")
    return ", ".join(cells)


def _built(folder: Path, name: str) -> tuple[int, str]:
    passports = [read_passport(path) for path in sorted(folder.glob(f"*.{name}.engine"))]
    narrow = name.partition("-")[0].removesuffix("w") if not name.startswith("fp32") else ""
    shares = [
        p.receipt.operations_share.get(narrow, 0.0)
        for p in passports
        if p is not None and p.receipt.operations_share
    ]
    if not narrow or not shares or name.startswith("int8w"):
        return len(passports), ""
    return len(passports), f" ({min(shares):.0%} or more in {narrow.upper()})"


def _record(step: Step | None, folder: Path, notes: list[str]) -> str:
    if step is None:
        return _NOT_TRIED
    if not step.ok:
        return f"no{_footnote(step.told, notes)}"
    results = record.read_record(folder / record.RECORD_NAME).results
    parts = dict.fromkeys(result.part for result in results)
    told = []
    for part in parts:
        medians_ms = [result.latency.p50_ms for result in results if result.part == part]
        times = "/".join(f"{ms:.3g}" if ms < _GROUPED_MS else f"{ms:,.0f}" for ms in medians_ms)
        told.append(f"{part} {times} ms")
    return ", ".join(told)


def _footnote(text: str, notes: list[str]) -> str:
    flat = " ".join(text.split()).replace("|", "/")
    if flat not in notes:
        notes.append(flat)
    return f" [{notes.index(flat) + 1}]"


def steps_as_json(out: Path) -> str:
    """Every step of every system, for programs."""
    told = {
        system.title: [vars(step) for step in zoo.read_steps(out / system.key)]
        for system in SYSTEMS
    }
    return json.dumps(told, indent=2) + "\n"
