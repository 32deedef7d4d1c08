"""Several sessions on one variant, for threads that call at once.

Rules:
    L1  OpenVINO: one compiled model with as many streams as callers, and a session, which is an
        infer request, per caller. The weights are there once; the threads are shared out.
    L2  Elsewhere each caller has a session of its own, with weights of its own.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from jetlift.runtime.errors import UsageError
from jetlift.runtime.session import CPU, admitted_engine, open_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session


class Callers(NamedTuple):
    """Sessions, one per caller, and how they share the engine in words."""

    sessions: tuple[Session, ...]
    how: str


@contextlib.contextmanager
def open_callers(
    bundle: Bundle,
    part: str,
    precision: str,
    callers: int,
    *,
    target: str = CPU,
    threads: int | None = None,
) -> Iterator[Callers]:
    """Open a variant for several threads at once (rules L1, L2), and close all at the end.

    Args:
        bundle: A verified bundle.
        part: Name of the part.
        precision: Name of the variant.
        callers: How many, 1 or more.
        target: As `open_session` has it.
        threads: Threads of the processor for all of them together, where the library shares.

    Raises:
        UsageError: `callers` is not positive.
        JetliftError: What `open_session` raises.
    """
    if callers < 1:
        raise UsageError(f"Got {callers} callers", expected="1 or more")
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(
            _streaming(bundle, part, precision, callers, threads)
            if target == CPU and callers > 1
            else open_session(bundle, part, precision, target=target, threads=threads)
        )
        rest = [
            stack.enter_context(
                _another(first)
                or open_session(bundle, part, precision, target=target, threads=threads)
            )
            for _ in range(callers - 1)
        ]
        yield Callers((first, *rest), _how(first, callers))


def _streaming(
    bundle: Bundle, part: str, precision: str, callers: int, threads: int | None
) -> Session:
    """OpenVINO with a stream per caller; ONNX Runtime where it is not installed (rule E3)."""
    from jetlift.runtime.errors import MissingPackageError
    from jetlift.runtime.session.openvino import OpenVINOSession, library

    try:
        library()
    except MissingPackageError:
        return open_session(bundle, part, precision, target=CPU, threads=threads)
    described = bundle.part(part)[1]
    admitted = admitted_engine(bundle, part, precision, CPU)
    if admitted is not None:
        return OpenVINOSession.from_engine(
            admitted.path, threads=threads, part=described, streams=callers
        )
    onnx = bundle.path(bundle.variant(part, precision).file)
    return OpenVINOSession.from_onnx(onnx, threads=threads, part=described, streams=callers)


def _another(first: Session) -> Session | None:
    from jetlift.runtime.session.openvino import OpenVINOSession

    return first.another() if isinstance(first, OpenVINOSession) else None


def _how(first: Session, callers: int) -> str:
    from jetlift.runtime.session.openvino import OpenVINOSession

    if callers == 1:
        return "one session"
    if isinstance(first, OpenVINOSession):
        streams = int(first.compiled.get_property("NUM_STREAMS"))
        shared = "1 stream" if streams == 1 else f"{streams} streams"
        return f"one compiled model with {shared}, an infer request per caller"
    return "one session per caller, each with the engine's weights"
