"""What is to be compared, and whether it can be.

Rules:
    Q1  Samples that are not those of the bundle's export are refused: its INT8 would be judged on
        what it was calibrated on.
    Q2  A peer that was asked for by name and is not installed stops the comparison before anything
        is made; else it is left out and named.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jetlift.benchmarks import quantisers
from jetlift.benchmarks.quantisers import METHODS
from jetlift.runtime.errors import InputError, MachineError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jetlift.benchmarks.quantisers import Peer
    from jetlift.export.samples import Samples, SampleSplit
    from jetlift.runtime.bundle import Bundle


@dataclass(frozen=True)
class Request:
    """What to compare.

    Attributes:
        bundle: A bundle with an int8 variant.
        part: Name of the part.
        samples: The samples that the bundle was exported with.
        out: Where results go, and where those of an earlier run lie.
        methods: Names in METHODS; None takes all whose peer is installed.
        judge_on: `report`, or `search` while something is still being chosen.
        calibrate_on: What peers see: `calibration`, or `both` for the search samples too.
        modelopt_python: Interpreter with Model Optimizer; None looks in this one.
        rtx: Also build every graph with TensorRT-RTX.
    """

    bundle: Bundle
    part: str
    samples: Path
    out: Path
    methods: tuple[str, ...] | None = None
    judge_on: Literal["report", "search"] = "report"
    calibrate_on: Literal["calibration", "both"] = "calibration"
    modelopt_python: str | None = None
    rtx: bool = False


def check(request: Request) -> None:
    """Refuse what cannot be compared.

    Raises:
        UnknownNameError: There is no such method, or the bundle has no such variant.
        UsageError: The weights are random.
    """
    for name in request.methods or ():
        if name not in METHODS:
            raise UnknownNameError(
                f"Method {name!r} is unknown", expected=f"One of {', '.join(METHODS)}"
            )
    if request.bundle.manifest.weights.random:
        raise UsageError(
            "The bundle's weights are random, and random weights have no fidelity",
            expected="A bundle of trained weights",
        )
    for name in names_of(request):
        if not METHODS[name].peer:
            request.bundle.variant(request.part, METHODS[name].tool)


def names_of(request: Request) -> tuple[str, ...]:
    """The methods asked for, or all that the bundle has a variant for."""
    variants = request.bundle.part(request.part)[1].variants
    by_default = (name for name in METHODS if name != "jetlift-fp16" or "int8-fp16" in variants)
    return request.methods or tuple(by_default)


def find_peers(request: Request, tell: Callable[[str], None]) -> tuple[dict[str, Peer], list[str]]:
    """Peers that are here by their names, and sentences on those that are not (rule Q2).

    Raises:
        MachineError: One that was asked for by name is not installed.
    """
    wanted = dict.fromkeys(METHODS[name].peer for name in names_of(request))
    found: dict[str, Peer] = {}
    missing = []
    for name in filter(None, wanted):
        python = request.modelopt_python if name == "modelopt" else None
        tell(f"look for {name}")
        try:
            found[name] = quantisers.find_peer(name, python or sys.executable)
        except MachineError as error:
            if request.methods is not None or python is not None:
                raise
            missing.append(str(error))
            tell(f"left out: {error}")
    return found, missing


def check_samples(bundle: Bundle, part: str, split: SampleSplit) -> None:
    """Refuse samples that are not the bundle's own (rule Q1).

    Raises:
        InputError: They are others.
    """
    had = bundle.manifest.calibration.get(part)
    if had is None or had.sha256 != split.calibration.described.sha256:
        raise InputError(
            "These are not the samples that the bundle was exported with: they give another "
            "calibration set, so its int8 variant may have seen what it would be judged on",
            expected=had.note if had else "A bundle with calibrated INT8",
            do="Name the --samples of its export",
        )


def both_of(split: SampleSplit) -> Samples:
    """Calibration and search samples together."""
    from jetlift.export.samples import Samples
    from jetlift.runtime.manifest import SampleSet

    sets = (split.calibration, split.search)
    digests = "".join(item.described.sha256 for item in sets)
    described = SampleSet(
        count=sum(item.described.count for item in sets),
        sha256=hashlib.sha256(digests.encode()).hexdigest(),
        note="; ".join(item.described.note for item in sets),
    )
    return Samples([feeds for item in sets for feeds in item.feeds], described)
