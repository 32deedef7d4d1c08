"""One cold start: `python -m jetlift.benchmarks.cold_start_child`, a job on standard input.

Rules:
    Z1  It does what a program of the user's does: imports jetlift's runtime and one engine
        library, verifies the bundle, opens the session, makes one input, computes one result.
        What a benchmark needs beyond that is imported after the result.
    Z2  Times are of CLOCK_MONOTONIC, which the process that started this one reads too
        (https://man7.org/linux/man-pages/man2/clock_gettime.2.html), so that the start of the
        interpreter is in the first of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jetlift.benchmarks.more_jobs import ColdStartAnswer

_RTX = "rtx-"


def main() -> None:
    """Read a job, do it, write the answer."""
    from jetlift.runtime.errors import JetliftError

    kept = os.dup(1)  # standard output is for the answer; what a library prints goes to stderr
    os.dup2(2, 1)
    try:
        answer = start(json.loads(sys.stdin.buffer.read()))
    except JetliftError as error:
        from jetlift.benchmarks import measure

        told = measure.envelope_of(error)
    else:
        from jetlift.runtime import jsonform

        told = {"ok": jsonform.to_data(answer)}
    with os.fdopen(kept, "w", encoding="utf-8") as answer_to:
        json.dump(told, answer_to, allow_nan=False)


def start(job: dict[str, Any]) -> ColdStartAnswer:
    """From nothing to the first result (rules Z1, Z2).

    Args:
        job: The fields of a ColdStartJob.

    Raises:
        JetliftError: The bundle, the engine or the run failed.
    """
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.feeds import random_feeds
    from jetlift.runtime.session import open_session

    _import_library(job["target"])
    imported_s = _since(job)
    bundle, notices = Bundle.open(job["bundle"]), []  # type: ignore[var-annotated]
    with open_session(
        bundle,
        job["part"],
        job["variant"],
        target=job["target"],
        threads=job["threads"],
        notices=notices,
    ) as session:
        opened_s = _since(job)
        session.run(random_feeds(bundle.part(job["part"])[1], job["seed"]))
        first_s = _since(job)
    from jetlift.benchmarks.more_jobs import ColdStartAnswer

    built = bundle.engine_path(job["target"], job["part"], job["variant"]).is_file()
    return ColdStartAnswer(imported_s, opened_s, first_s, built and not notices)


def _import_library(target: str) -> None:
    """Import what the target's sessions compute with; a missing one is told on opening."""
    from jetlift.runtime.errors import JetliftError
    from jetlift.runtime.session import CPU, REFERENCE

    with contextlib.suppress(JetliftError, ImportError):
        if target == CPU:
            from jetlift.runtime.session.openvino import library

            library()
        elif target == REFERENCE:
            import onnxruntime  # noqa: F401
        else:
            from jetlift.runtime.session.cuda import cuda_device
            from jetlift.runtime.session.trt_library import import_library

            cuda_device()
            import_library("tensorrt_rtx" if target.startswith(_RTX) else "tensorrt")


def _since(job: dict[str, Any]) -> float:
    return round(time.monotonic() - float(job["started_s"]), 4)


if __name__ == "__main__":
    main()
