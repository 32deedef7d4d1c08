"""A race: variants of a part timed against fp32 of the same part, on the machine that runs them.

Rules:
    G1  It is run in a child process that knows the runtime and one engine library, since others
        beside it slow an engine down, and since it may need more memory than there is.
    G2  Rounds: in each, every contender is timed once, in an order that turns from round to round.
        Only times of one round are compared, so that the machine's mood cancels out.
    G3  The number of rounds is set by the warm-up, before the first one is timed: a race that
        stops once it likes the result would find a winner among equals. Time bounds it all the
        same.
    G4  The interval of the median ratio is that of a sign test. `faster` means that all of it lies
        below 1; a tie is no win.
    G5  A race that cannot be run is no failure of the build: it is `not measured`, with the reason.
    G6  Who computes something else than its graph says has no place to earn, however fast: its
        outputs on the race's inputs are compared before its speed counts (agreement.py).
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.engines.agreement import LEAST_WITH_FP32, confirm, disagreement
from jetlift.runtime import jsonform
from jetlift.runtime.errors import EngineLibraryError, JetliftError
from jetlift.runtime.feeds import random_feeds
from jetlift.runtime.manifest import Part  # noqa: TC001 - jsonform reads the hints
from jetlift.runtime.medians import median_interval
from jetlift.runtime.receipt import Speed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from jetlift.runtime.session.base import Session

    Outputs = Mapping[str, npt.NDArray[Any]]
    Run = Callable[[], object]

REFERENCE = "fp32"
LIMIT_S = 15.0
WRONG = "its outputs are wrong"
CONFIDENCE = 0.99
MOST_ROUNDS, FEWEST_ROUNDS = 151, 9
_SEED = 0
_SHORTEST_MS = 1.0  # what takes less is run several times per timing
_MOST_REPEATS = 200
_WARM_UP_RUNS, _WARM_UP_SHARE = 5, 0.1
_LOAD_LIMIT_S = 600.0
_MODULE = "jetlift.engines.race"
_SHOWN_CHARS = 300


@dataclass(frozen=True)
class Contender:
    """One variant in a race.

    Attributes:
        name: The variant.
        path: Its engine, or its ONNX graph where no engine is built.
        built: Whether `path` is an engine.
        onnx: Its ONNX graph, which the reference is asked about (rule G6).
    """

    name: str
    path: str
    built: bool
    onnx: str


@dataclass(frozen=True)
class Race:
    """One race.

    Attributes:
        part: The part; its variants are not looked at.
        contenders: Variants of it, fp32 among them.
        limit_s: Seconds it may take.
        library: Engine library that runs them.
    """

    part: Part
    contenders: tuple[Contender, ...]
    limit_s: float
    library: str = "openvino"


@dataclass(frozen=True)
class Times:
    """What a race gives.

    Attributes:
        latencies_ms: Milliseconds per run and contender, one per round.
        failure: Why there are none; empty where there are.
        wrong: Contenders whose outputs are not those of their graph, with what speaks against them.
    """

    latencies_ms: dict[str, tuple[float, ...]]
    failure: str
    wrong: dict[str, str]


def race(asked: Race, processor: str) -> dict[str, Speed]:
    """Time the contenders in a child process and judge each against fp32 (rules G1 to G6).

    Args:
        asked: The race.
        processor: Name of this machine's processor.

    Returns:
        The speed of each contender but fp32.
    """
    times = _in_child(asked)
    names = [item.name for item in asked.contenders if item.name != REFERENCE]
    if times.failure:
        return {name: Speed.not_measured(times.failure) for name in names}
    reference = times.latencies_ms[REFERENCE]
    found = {name: decide(times.latencies_ms[name], reference) for name in names}
    for name, why in times.wrong.items():
        found[name] = Speed.not_measured(f"{WRONG}: {why}")
    return {name: replace(speed, processor=processor) for name, speed in found.items()}


def decide(own_ms: Sequence[float], fp32_ms: Sequence[float]) -> Speed:
    """Judge a variant by its latencies and fp32's of the same rounds (rule G4).

    Args:
        own_ms: One latency per round, at least one.
        fp32_ms: The same of fp32, in the same order.
    """
    ratios = np.asarray(own_ms, np.float64) / np.asarray(fp32_ms, np.float64)
    interval = median_interval(ratios.tolist(), CONFIDENCE)
    note = f"interleaved on this machine, seeded inputs at opt_shape, {len(ratios)} rounds"
    if interval is None:
        note += f", which are too few for {CONFIDENCE:.0%} confidence"
    low, high = interval or (None, None)
    beaten = high is not None and high < 1
    beats = low is not None and low > 1
    return Speed(
        verdict="faster" if beaten else "slower" if beats else "undecided",
        note=note,
        latency_ms_p50=round(float(np.median(own_ms)), 5),
        fp32_latency_ms_p50=round(float(np.median(fp32_ms)), 5),
        ratio=round(float(np.median(ratios)), 5),
        ratio_low=None if low is None else round(low, 5),
        ratio_high=None if high is None else round(high, 5),
        confidence=CONFIDENCE,
        rounds=len(ratios),
    )


def told(part: str, precision: str, speed: Speed, unfit: str = "") -> str:
    """The finding in one sentence, with both medians where there are any.

    Args:
        part: Name of the part.
        precision: Name of the variant.
        speed: What was found.
        unfit: Why it may not run without being asked for, however fast; empty where it may.
    """
    who = f"{part} {precision}"
    if speed.ratio is None:
        if speed.note.startswith(WRONG):
            return f"{who} has no place to earn, so fp32 keeps it: {speed.note}."
        return f"{who} was not timed against fp32: {speed.note}."
    spread = ""
    if speed.ratio_low is not None:
        spread = (
            f", {speed.confidence:.0%} interval {speed.ratio_low:.3g} to {speed.ratio_high:.3g}"
        )
    figures = (
        f"{speed.latency_ms_p50:.3g} ms against {speed.fp32_latency_ms_p50:.3g} ms of fp32, "
        f"{speed.ratio:.3g} of its time (medians of {speed.rounds} interleaved rounds{spread})"
    )
    if speed.verdict == "faster" and unfit:
        return f"{who} is faster here, but fp32 keeps its place, since {unfit}: {figures}."
    if speed.verdict == "faster":
        return f"{who} earns its place: {figures}."
    finding = "is slower than fp32" if speed.verdict == "slower" else "is not clearly faster"
    return f"{who} {finding} here, so fp32 keeps its place: {figures}."


def time_rounds(
    runs: Mapping[str, Run], limit_s: float, clock: Callable[[], float] = time.perf_counter
) -> dict[str, tuple[float, ...]]:
    """Warm up, then time every contender once per round (rules G2 and G3).

    Args:
        runs: What computes once, per contender.
        limit_s: Seconds for all of it; one round is made in any case.
        clock: Seconds from any start.

    Returns:
        Milliseconds of one run, per contender one per round.
    """
    started = clock()
    allowed = _WARM_UP_SHARE * limit_s / len(runs)
    first = {name: _warmed_up(run, allowed, clock) for name, run in runs.items()}
    repeats = {
        name: int(min(_MOST_REPEATS, max(1.0, np.ceil(_SHORTEST_MS / 1e3 / max(seconds, 1e-9)))))
        for name, seconds in first.items()
    }
    round_s = sum(first[name] * repeats[name] for name in runs)
    affordable = (limit_s - (clock() - started)) / max(round_s, 1e-9)
    rounds = int(min(MOST_ROUNDS, max(FEWEST_ROUNDS, affordable)))
    names, times = list(runs), {name: list[float]() for name in runs}
    for index in range(rounds):
        turn = index // 2 % len(names)
        order = [*names[turn:], *names[:turn]]
        for name in order[:: -1 if index % 2 else 1]:
            times[name].append(_timed_ms(runs[name], repeats[name], clock))
        if clock() - started >= limit_s:
            break
    return {name: tuple(own) for name, own in times.items()}


def _warmed_up(run: Run, allowed_s: float, clock: Callable[[], float]) -> float:
    """Seconds of the fastest of a few first runs."""
    started, best = clock(), float("inf")
    for _ in range(_WARM_UP_RUNS):
        best = min(best, _timed_ms(run, 1, clock) / 1e3)
        if clock() - started >= allowed_s:
            break
    return best


def _timed_ms(run: Run, repeats: int, clock: Callable[[], float]) -> float:
    started = clock()
    for _ in range(repeats):
        run()
    return (clock() - started) * 1e3 / repeats


def _in_child(asked: Race) -> Times:
    """Run the race in a child process (rule G1)."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
    # An empty working folder, since `-m` puts the working folder on the child's import path.
    with tempfile.TemporaryDirectory(prefix="jetlift-") as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-m", _MODULE],
                input=jsonform.dumps(asked).encode(),
                capture_output=True,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": path},
                timeout=_LOAD_LIMIT_S + 3 * asked.limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return Times({}, f"the race gave no answer within {error.timeout:.0f} s", {})
    try:
        return jsonform.loads(Times, done.stdout.rpartition(b"\n")[2])
    except jsonform.FormError:
        last = " ".join(done.stderr.decode(errors="replace").split())[-_SHOWN_CHARS:]
        cause = f"was stopped by signal {-done.returncode}, as the system does when memory runs out"
        if done.returncode >= 0:
            cause = f"ended with status {done.returncode}: {last}"
        return Times({}, f"the process that timed them {cause}", {})


def _run(asked: Race) -> Times:
    """Open every contender, look at its outputs, and time them. Runs in the child process."""
    try:
        feeds = random_feeds(asked.part, _SEED)
        with ExitStack() as stack:
            sessions = {
                item.name: stack.enter_context(_opened(item, asked)) for item in asked.contenders
            }
            outputs = {name: _copied(session.run(feeds)) for name, session in sessions.items()}
            gc.disable()
            times = time_rounds(
                {name: partial(session.run, feeds) for name, session in sessions.items()},
                asked.limit_s,
            )
            gc.enable()
        return Times(times, "", _wrong(asked, outputs))
    except JetliftError as error:
        return Times({}, " ".join(str(error).split()), {})


def _opened(item: Contender, asked: Race) -> Session:
    if asked.library != "openvino":
        return _opened_on_gpu(item, asked)
    from jetlift.runtime.session.openvino import OpenVINOSession

    opener = OpenVINOSession.from_engine if item.built else OpenVINOSession.from_onnx
    return opener(Path(item.path), part=asked.part)


def _opened_on_gpu(item: Contender, asked: Race) -> Session:
    from jetlift.runtime.session.tensorrt import TensorRTSession

    if not item.built:
        raise EngineLibraryError(
            f"There is no {item.name} engine that may load, which the others are timed against",
            do="Build it too: --precision fp32,int8",
        )
    library: Any = asked.library
    return TensorRTSession.from_engine(Path(item.path), library=library, part=asked.part)


def _copied(outputs: Outputs) -> Outputs:
    """Outputs that the next run does not write over."""
    return {name: np.array(array) for name, array in outputs.items()}


def _wrong(asked: Race, outputs: Mapping[str, Outputs]) -> dict[str, str]:
    """Contenders that compute something else than their graph says, and what (rule G6).

    The reference is loaded after the last round, when it slows nobody down any more (rule G1).
    """
    found = {}
    for item in asked.contenders:
        own = outputs[item.name]
        doubt = disagreement(own, outputs[REFERENCE], LEAST_WITH_FP32)
        if doubt and (why := confirm(own, Path(item.onnx), asked.part, _SEED, doubt)):
            found[item.name] = why
    return found


if __name__ == "__main__":
    result = _run(jsonform.loads(Race, sys.stdin.buffer.read()))
    sys.stdout.write("\n" + json.dumps(jsonform.to_data(result)))
