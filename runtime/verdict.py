"""Whether an engine may load here, told before a library sees a byte of it.

Rules: those of jetlift.runtime.passport, P1 to P3, and
    V1  `refuse` is what nothing on this machine mends, or what cannot be trusted; `rebuild` is what
        `jetlift build` on this machine mends; `load` leaves nothing open that is known to matter.
    V2  The first thing that is wrong is told: first what the file is, then what it needs, then what
        has changed since it was built.
    V3  What changes its speed and not its results is a notice.
What binds a TensorRT engine is in jetlift.runtime.verdict_gpu, with NVIDIA's pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jetlift.runtime import verdict_gpu
from jetlift.runtime.bundle import sha256_of
from jetlift.runtime.errors import PassportError

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.runtime.host import Host
    from jetlift.runtime.passport import Passport

NOT_BUILT = "it has no passport, so nothing says what it is"


@dataclass(frozen=True)
class Verdict:
    """What is to be done with an engine.

    Attributes:
        action: `load` it; `rebuild` it, since it was right once; or `refuse` it.
        reason: Why, as a clause that can follow the engine's name.
        do: The next step for the reader; empty where it loads.
        notices: Sentences on what does not keep it from loading and should be known.
        library: Engine library that loads it; None where it does not load.
    """

    action: Literal["load", "rebuild", "refuse"]
    reason: str
    do: str
    notices: tuple[str, ...] = ()
    library: str | None = None


def judge(
    passport: Passport | None,
    host: Host,
    engine_path: Path,
    *,
    onnx_sha256: str | None = None,
    target: str | None = None,
    library: str | None = None,
    own_target: str | None = None,
    bundle: str = "BUNDLE",
) -> Verdict:
    """Decide whether an engine may load here, without loading it (rules V1 to V3).

    Args:
        passport: Its passport, or None where there is none.
        host: The machine that is to load it.
        engine_path: The engine file; it is hashed.
        onnx_sha256: Hash of the graph in the bundle it lies in; None where it lies in none.
        target: What it has to be built for; None where that is all one.
        library: Engine library that is to load it; None for the one it was built with, or the lean
            one of TensorRT where only that is installed.
        own_target: Name of the target that this machine is, for advice; None where nobody knows.
        bundle: How advice names the bundle.
    """
    again = _Advice(bundle, own_target, host)
    if passport is None:
        return _refuse(NOT_BUILT, again.build(target))
    if problem := _altered(passport, engine_path):
        return _refuse(problem, again.build(passport.target))
    if target is not None and passport.target != target:
        problem = f"it was built for target {passport.target}, not {target}"
        return _refuse(problem, again.build(target))
    loader = _loader(passport, host, library)
    for check in (_unfit, _missing, _outdated):
        if verdict := check(passport, host, loader, again, onnx_sha256):
            return verdict
    return Verdict(
        "load",
        "it was built from this graph, by this library, for this machine",
        "",
        verdict_gpu.notices(passport, host, loader),
        loader,
    )


def judge_file(
    engine_path: Path,
    host: Host,
    *,
    onnx_sha256: str | None = None,
    target: str | None = None,
    library: str | None = None,
    own_target: str | None = None,
    bundle: str = "BUNDLE",
) -> tuple[Passport | None, Verdict]:
    """Read the passport beside an engine and judge both; the arguments are those of `judge`.

    Returns:
        The passport, or None where there is none that can be read; and the verdict.
    """
    from jetlift.runtime.passport import read_passport

    try:
        passport = read_passport(engine_path)
    except PassportError as error:
        return None, _refuse(error.got, error.do)
    verdict = judge(
        passport, host, engine_path,
        onnx_sha256=onnx_sha256, target=target, library=library,
        own_target=own_target, bundle=bundle,
    )  # fmt: skip
    return passport, verdict


@dataclass(frozen=True)
class _Advice:
    """Commands that lead on."""

    bundle: str
    own_target: str | None
    host: Host

    def build(self, target: str | None, option: str = "") -> str:
        """Build for the same target again, with an option if any."""
        command = f"jetlift build {self.bundle} --target {target or 'TARGET'}{option}"
        return f"Build it again with: {command}"

    def build_for_here(self, passport: Passport) -> str:
        """Build what this machine can load."""
        board = self.host.board is not None
        where = "on this board" if board else "on this machine"
        name = self.own_target or verdict_gpu.target_here(passport, self.host)
        hint = "" if name else ", where BOARD is its name in: jetlift targets"
        return (
            f"Build one {where} with: jetlift build {self.bundle} --target {name or 'BOARD'}{hint}"
        )


def _loader(passport: Passport, host: Host, asked: str | None) -> str:
    """The library that is to load an engine."""
    if asked is not None:
        return asked
    settings = passport.settings
    lean = settings is not None and settings.version_compatible and passport.library == "tensorrt"
    only_lean = passport.library not in host.libraries and verdict_gpu.LEAN in host.libraries
    return verdict_gpu.LEAN if lean and only_lean else passport.library


def _unfit(
    passport: Passport, host: Host, loader: str, again: _Advice, _graph: str | None
) -> Verdict | None:
    """What no build on this machine mends: another kind of engine, another kind of machine."""
    if problem := verdict_gpu.wrong_library(passport, loader):
        return _refuse(problem, verdict_gpu.library_advice(passport, loader, again.bundle))
    if passport.settings is not None and passport.settings.stripped:
        problem = "its weights were left out when it was built, and it cannot run without them"
        command = f"jetlift build {again.bundle} --target {passport.target}"
        return _refuse(problem, f"Build it again without --strip: {command}")
    if passport.machine != host.machine:
        problem = f"it was built for {passport.machine} and this machine is {host.machine}"
        return Verdict("rebuild", problem, again.build_for_here(passport))
    if problem := verdict_gpu.wrong_gpu(passport, host):
        return _refuse(problem, again.build_for_here(passport))
    if advice := verdict_gpu.not_first(passport, host):
        return _refuse("its GPU is not the first of this machine, which is the one used", advice)
    if problem := verdict_gpu.no_dla(passport, host):
        return _refuse(problem, again.build_for_here(passport))
    return None


def _missing(
    passport: Passport, host: Host, loader: str, _again: _Advice, _graph: str | None
) -> Verdict | None:
    """What this machine lacks."""
    if loader not in host.libraries:
        problem = f"it needs {passport.library} {passport.library_version}, which is not installed"
        if loader == verdict_gpu.LEAN:
            problem = f"{loader}, which is to load it, is not installed"
        return _refuse(problem, verdict_gpu.install_advice(loader, host))
    if problem := verdict_gpu.untold(passport, host):
        return _refuse(problem, verdict_gpu.UNTOLD_ADVICE)
    if problem := verdict_gpu.old_driver(passport, host):
        return _refuse(problem, verdict_gpu.driver_advice(host))
    return None


def _outdated(
    passport: Passport, host: Host, loader: str, again: _Advice, graph: str | None
) -> Verdict | None:
    """What was right when the engine was built and is not any more (rule P3)."""
    if graph is not None and passport.onnx_sha256 != graph:
        problem = "it was built from another graph than the bundle now holds"
        return Verdict("rebuild", problem, again.build(passport.target))
    if problem := verdict_gpu.other_version(passport, host, loader):
        option = verdict_gpu.version_option(passport)
        return Verdict("rebuild", problem, again.build(passport.target, option))
    problem = verdict_gpu.other_cuda(passport, host, loader)
    if problem := problem or verdict_gpu.other_system(passport, host):
        return Verdict("rebuild", problem, again.build(passport.target))
    if problem := verdict_gpu.other_device(passport, host):
        return Verdict("rebuild", problem, again.build_for_here(passport))
    if passport.isa and passport.isa != host.isa:
        difference = " ".join(sorted(set(passport.isa) ^ set(host.isa)))
        problem = f"it was built on {passport.cpu_name}; this processor differs in {difference}"
        return Verdict("rebuild", problem, again.build(passport.target))
    return None


def _refuse(reason: str, do: str) -> Verdict:
    return Verdict("refuse", reason, do)


def _altered(passport: Passport, engine_path: Path) -> str:
    if not engine_path.is_file():
        return "there is no such file"
    size = engine_path.stat().st_size
    if size != passport.engine_size_bytes:
        return f"it has {size} bytes where its passport says {passport.engine_size_bytes}"
    if sha256_of(engine_path) != passport.engine_sha256:
        return "its content is not what its passport says: it was altered or damaged"
    return ""
