"""INT8 earns its place: after a build, it is timed against fp32 wherever that can be done.

Rules:
    P1  A variant with INT8 weights is timed against fp32 of its part on the target itself; where
        the target is not this machine, its passport says that the build there decides.
    P2  Both engines stay. The passport holds the verdict, and what runs without a --precision is
        chosen by it (runtime/choice.py).
    P3  A verdict holds for the processor it was measured on; on another one it is measured anew.
    P4  An engine whose outputs are not those of its graph wins nothing (agreement.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jetlift.engines import race
from jetlift.engines.race import REFERENCE, Contender, Race
from jetlift.engines.where import is_here
from jetlift.runtime.choice import processor
from jetlift.runtime.errors import PassportError
from jetlift.runtime.passport import judge, onnx_sha256, read_passport, write_passport
from jetlift.runtime.receipt import Speed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jetlift.engines.build import BuildResult
    from jetlift.engines.targets import Target
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.passport import Host


def untimed(bundle: Bundle, part: str, precision: str, target: Target, host: Host) -> Speed:
    """What a passport says of an engine's speed before any race."""
    if precision == REFERENCE:
        return Speed.not_measured("the others are timed against it")
    if not _must_earn(bundle, part, precision):
        return Speed.not_measured("only INT8 has to earn its place")
    if REFERENCE not in bundle.part(part)[1].variants:
        return Speed.not_measured(f"the bundle has no {REFERENCE} to time it against")
    if not is_here(target, host):
        return Speed.not_measured(
            f"target {target.name} is not this machine; the build on the target decides"
        )
    return Speed.not_measured("the build was stopped before")


def earn(
    bundle: Bundle,
    target: Target,
    host: Host,
    results: Sequence[BuildResult],
    *,
    limit_s: float,
    tell: Callable[[str], None],
) -> list[BuildResult]:
    """Time what has to earn its place, and write the verdicts (rules P1 to P4).

    Args:
        bundle: The bundle.
        target: Where the engines are for.
        host: This machine.
        results: What was built or kept.
        limit_s: Seconds per part; 0 times nothing.
        tell: Called with what is being done.
    """
    open_ones: dict[str, list[BuildResult]] = {}
    for result in results:
        if is_here(target, host) and _is_open(bundle, target, host, result):
            open_ones.setdefault(result.part, []).append(result)
    speeds: dict[tuple[str, str], Speed] = {}
    for part, own in open_ones.items():
        names = [result.precision for result in own]
        if limit_s <= 0:
            found = dict.fromkeys(names, Speed.not_measured("it was given no time"))
        else:
            tell(f"{part}: time {', '.join(names)} against {REFERENCE}")
            found = race.race(
                _race(bundle, target, host, own, limit_s), processor(host, target.name)
            )
        speeds |= {(part, name): speed for name, speed in found.items()}
    return [_with_speed(result, speeds.get((result.part, result.precision))) for result in results]


def sentence(bundle: Bundle, result: BuildResult) -> str:
    """The finding on one engine, or why there is none; empty where nothing was to be earned."""
    if not _must_earn(bundle, result.part, result.precision):
        return ""
    fidelity = bundle.variant(result.part, result.precision).fidelity
    unfit = "its fidelity was not measured" if fidelity is None else ""
    if fidelity is not None and not fidelity.met:
        unfit = "it misses its fidelity budget"
    return race.told(result.part, result.precision, result.passport.speed, unfit)


def _must_earn(bundle: Bundle, part: str, precision: str) -> bool:
    return bundle.variant(part, precision).precision.startswith("int")


def _is_open(bundle: Bundle, target: Target, host: Host, result: BuildResult) -> bool:
    """Whether an engine has still to earn its place (rule P3)."""
    if not _must_earn(bundle, result.part, result.precision):
        return False
    if REFERENCE not in bundle.part(result.part)[1].variants:
        return False
    return result.passport.speed.processor != processor(host, target.name)


def _race(
    bundle: Bundle, target: Target, host: Host, own: Sequence[BuildResult], limit_s: float
) -> Race:
    part = own[0].part
    contenders = [
        Contender(
            item.precision,
            str(item.engine_path),
            built=True,
            onnx=_onnx(bundle, part, item.precision),
        )
        for item in own
    ]
    return Race(
        replace(bundle.part(part)[1], variants={}),
        (_reference(bundle, target, host, part), *contenders),
        limit_s,
        target.library,
    )


def _onnx(bundle: Bundle, part: str, precision: str) -> str:
    return str(bundle.path(bundle.variant(part, precision).file))


def _reference(bundle: Bundle, target: Target, host: Host, part: str) -> Contender:
    """fp32's engine where one may load, else its graph, which computes the same."""
    engine = bundle.engine_path(target.name, part, REFERENCE)
    expected = onnx_sha256(bundle, part, REFERENCE)
    try:
        passport = read_passport(engine) if engine.is_file() else None
    except PassportError:
        passport = None
    verdict = judge(passport, host, engine, onnx_sha256=expected, target=target.name)
    graph = _onnx(bundle, part, REFERENCE)
    if verdict.action == "load":
        return Contender(REFERENCE, str(engine), built=True, onnx=graph)
    return Contender(REFERENCE, graph, built=False, onnx=graph)


def _with_speed(result: BuildResult, speed: Speed | None) -> BuildResult:
    if speed is None or speed == result.passport.speed:
        return result
    passport = replace(result.passport, speed=speed)
    write_passport(passport, result.engine_path)
    return replace(result, passport=passport)
