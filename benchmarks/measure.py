"""Measuring in a process of its own: jobs, answers, and what becomes of a child that fails.

Rules:
    C1  Each part and variant is measured in a fresh child that imports the runtime and one engine
        library and nothing else, so that no other library's threads, allocator or memory is in the
        figures (torch beside it slowed another engine by a fifth).
    C2  A job goes in as JSON on standard input, the answer comes back as JSON on standard output.
    C3  An error that jetlift raised in the child is raised again here, as the same class.
    C4  A child that dies or never answers becomes a MachineError that says how, and no child is
        left running: not after an error here, not after Ctrl-C.
    C5  Random inputs are seeded and cheap to describe; real samples are used where there are any.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from jetlift.benchmarks.stop import StopRules  # noqa: TC001 - jsonform reads the hints at run time
from jetlift.jetson import board
from jetlift.runtime import errors, jsonform
from jetlift.runtime.errors import JetliftError, MachineError, MissingPackageError
from jetlift.runtime.power_form import Conditions, Power  # noqa: TC001
from jetlift.runtime.record import (  # noqa: TC001
    Engine,
    Figure,
    InputShape,
    Latency,
    Memory,
)
from jetlift.runtime.timing_form import GpuTime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Feeds = dict[str, npt.NDArray[Any]]

T = TypeVar("T")

WORKER = (sys.executable, "-m", "jetlift.benchmarks.worker")
_LOAD_LIMIT_S = 600.0
_SHOWN_STDERR_CHARS = 400


@dataclass(frozen=True)
class OfAVariant:
    """A job about one variant of one part; others add what they need to know.

    Attributes:
        job: Says which job this is.
        bundle: The bundle's folder.
        part: Name of the part.
        variant: Name of the variant.
        target: Target of the engine.
        threads: Threads to compute with, or None for the library's choice.
        seed: Seed of the random inputs.
    """

    job: str
    bundle: str
    part: str
    variant: str
    target: str
    threads: int | None
    seed: int


@dataclass(frozen=True)
class VariantJob(OfAVariant):
    """Measure one variant, one run after another.

    Attributes:
        rules: When to stop.
        samples: A file that `save_samples` wrote, or None for random inputs.
    """

    job: Literal["variant"]
    rules: StopRules
    samples: str | None


@dataclass(frozen=True)
class PeakJob:
    """Measure what this machine can reach; the fields are the arguments of `measure_peak`."""

    job: Literal["peak"]
    threads: int | None
    time_limit_s: float
    sizes: tuple[int, ...]
    copy_bytes: int | None


@dataclass(frozen=True)
class VariantAnswer:
    """What a child measured: fields of `Result`, and the bytes that went in and out."""

    engine: Engine
    inputs: tuple[InputShape, ...]
    latency: Latency
    memory: Memory
    power_w: Figure
    others_busy: Figure
    io_bytes: int
    gpu_time: GpuTime = GpuTime.missing()
    power: Power | None = None
    conditions: Conditions | None = None


def patience_s(rules: StopRules) -> float:
    """How long a child may take in all: a slow load, and limits that a slow run overshoots."""
    return _LOAD_LIMIT_S + 3 * (rules.warmup_limit_s + rules.time_limit_s)


def run_child(
    job: OfAVariant | PeakJob,
    answer: type[T],
    *,
    limit_s: float,
    worker: Sequence[str] = WORKER,
) -> T:
    """Have a job done in a fresh process (rules C1 to C4).

    Args:
        job: What to do.
        answer: Dataclass of the answer.
        limit_s: Seconds after which the child is ended.
        worker: Command line of the child.

    Raises:
        JetliftError: What the child raised, as the same class.
        MachineError: The child died, gave no answer, or took too long.
    """
    what = "this machine's peak" if isinstance(job, PeakJob) else f"{job.part} {job.variant}"
    free_bytes = board.available_bytes()
    try:
        # subprocess.run ends the child on every exception on the way, Ctrl-C included.
        done = subprocess.run(
            list(worker),
            input=jsonform.dumps(job).encode(),
            capture_output=True,
            timeout=limit_s,
            check=False,
            env=os.environ | {"PYTHONSAFEPATH": "1"},
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the child
        )
    except subprocess.TimeoutExpired as error:
        raise MachineError(
            f"The process that measured {what} gave no answer within {limit_s:.0f} s and was ended",
            expected="A model that loads and runs within that time",
            do="Raise the time limit, use fewer or more threads, or try a smaller variant",
        ) from error
    if done.returncode != 0 or not done.stdout:
        raise _death(what, done.returncode, done.stderr.decode(errors="replace"), free_bytes)
    return _answer(answer, done.stdout, what)


def _answer(answer: type[T], text: bytes, what: str) -> T:
    try:
        envelope = json.loads(text)
        if "error" in envelope:
            raise _raised_again(envelope["error"])
        return jsonform.read(answer, envelope["ok"])
    except (ValueError, KeyError, TypeError) as error:
        raise MachineError(
            f"The process that measured {what} answered something unreadable ({error})",
            do="Please report it with the engine library's version",
        ) from error


def envelope_of(error: JetliftError) -> dict[str, Any]:
    """An error as it travels from child to parent (rule C3)."""
    told = {"got": error.got, "expected": error.expected, "do": error.do}
    return {"error": {"kind": type(error).__name__, **told}}


def _raised_again(told: Mapping[str, str]) -> JetliftError:
    kind = getattr(errors, told["kind"], MachineError)
    if issubclass(kind, MissingPackageError):  # composes its own message; the message is complete
        kind = MachineError
    raised: JetliftError = kind(told["got"], expected=told["expected"], do=told["do"])
    return raised


def _death(what: str, code: int, stderr: str, free_bytes: int | None) -> MachineError:
    """Say of what a child died (rule C4)."""
    last = " ".join(stderr.split())[-_SHOWN_STDERR_CHARS:]
    heard = f"Its last words: {last}" if last else "It said nothing"
    if code == -signal.SIGKILL:
        free = "" if free_bytes is None else f" ({free_bytes / 2**30:.1f} GiB were free before it)"
        return MachineError(
            f"The process that measured {what} was killed, which nearly always means that memory "
            f"ran out{free}",
            expected="Enough memory for the model and its engine library",
            do="Close other programs, measure a smaller variant (--precision int8), or build the "
            "engine on a larger machine",
        )
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return MachineError(
            f"The process that measured {what} crashed with {name}. {heard}",
            expected="An engine library that works on this processor",
            do="Check the installation with: jetlift doctor",
        )
    return MachineError(
        f"The process that measured {what} ended with code {code} and no answer. {heard}",
        do="Check the installation with: jetlift doctor",
    )


def save_samples(path: Path, samples: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
    """Write prepared inputs for a child to read."""
    arrays = {
        f"{index}/{name}": array
        for index, feeds in enumerate(samples)
        for name, array in feeds.items()
    }
    with path.open("wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type] # numpy's stub takes the names for its own


def load_samples(path: Path) -> list[Feeds]:
    """Read what `save_samples` wrote, in order."""
    samples: dict[int, Feeds] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            index, _, name = key.partition("/")
            samples.setdefault(int(index), {})[name] = arrays[key]
    return [samples[index] for index in sorted(samples)]
