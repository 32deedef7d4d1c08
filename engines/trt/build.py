"""A TensorRT or TensorRT-RTX engine from a typed graph: told before, built guarded, read after.

Rules:
    T1  The build runs in a child process under a watchdog (watch.py): the builder takes several
        times the graph's size in memory, and it may die of that.
    T2  Before it starts, what will not fit and what will be slow is told (memory.py, profiles.py).
    T3  Where memory runs out, smaller settings are tried (ladder.py); else the cause is told
        (diagnosis.py).
    T4  The engine is the library's own bytes and nothing besides, so that trtexec --loadEngine and
        every other tool takes it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetlift.engines.trt import cache, memory, watch
from jetlift.engines.trt.child import MISSING
from jetlift.engines.trt.diagnosis import Diagnosis, diagnose, people_say
from jetlift.engines.trt.ladder import climb, steps
from jetlift.engines.trt.log import BuildLog
from jetlift.engines.trt.options import BuildOptions, check_for
from jetlift.engines.trt.profiles import lint, profiles_of
from jetlift.engines.trt.result import Job, Made, built
from jetlift.runtime.errors import EngineLibraryError, MissingPackageError
from jetlift.runtime.host import here

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jetlift.engines.ops import GraphCost
    from jetlift.engines.receipt import Built
    from jetlift.engines.trt.cache import TimingCache
    from jetlift.engines.trt.ladder import Climbed, Step
    from jetlift.engines.trt.memory import Room
    from jetlift.engines.trt.profiles import Cost, Range
    from jetlift.engines.trt.watch import Watched
    from jetlift.runtime.manifest import TensorSpec

    Tell = Callable[[str, float], None]
    Notify = Callable[[str], None]

MODULE = "jetlift.engines.trt.child"
_EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}


def build_engine(
    onnx: Path,
    destination: Path,
    cost: GraphCost | None,
    *,
    inputs: Sequence[TensorSpec],
    compute_capability: str,
    library: str = "tensorrt_rtx",
    options: BuildOptions | None = None,
    device: str = "any",
    operations: Cost | None = None,
    tell: Tell = lambda _doing, _share: None,
    notify: Notify = lambda _sentence: None,
) -> Built:
    """Compile a typed ONNX graph for a compute capability and write the engine (rules T1 to T4).

    Args:
        onnx: The graph; external data is found beside it.
        destination: Where to write the engine. The caller makes it appear atomically.
        cost: What the graph's nodes cost, for the receipt and the estimate of memory.
        inputs: The part's inputs, whose shapes make the optimisation profiles.
        compute_capability: As in `8.6`.
        library: `tensorrt`, which builds for the GPU of this machine, or `tensorrt_rtx`.
        options: How to build; what BuildOptions says by itself if not given.
        device: The board or GPU, which timings are kept for.
        operations: Operations of one run at given shapes, for the linter of profiles.
        tell: Called with the builder's phase and the share of this build that is done.
        notify: Takes a sentence the user should read, when it is due; they are in the result too.

    Raises:
        MissingPackageError: The library or polygraphy is not installed.
        EngineLibraryError: The library refuses the graph, time was up, or memory ran out and no
            smaller settings helped.
        UsageError: An input has dynamic axes and no shapes to build for, or the library cannot do
            what the options ask for.
        StorageError: The timing cache cannot be written.
    """
    options = options or BuildOptions()
    check_for(options, library)
    notices: list[str] = []

    def note(sentence: str) -> None:
        notices.append(sentence)
        notify(sentence)

    profiles = profiles_of(inputs, options.profile_buckets)
    for sentence in _of_profiles(inputs, profiles, operations):  # T2
        note(f"{onnx.name}: {sentence}")
    has = memory.room()
    if sentence := _of_memory(onnx, cost, library, options, has):
        note(f"{onnx.name}: {sentence}")
    job = Job(
        onnx, destination, library, compute_capability,
        profiles,
        _timings(options, library, compute_capability, device, note), tell,
        time.monotonic() + options.time_limit_s,
    )  # fmt: skip
    climbed = climb(steps(options, has), lambda step: _attempt(job, step), note)  # T3
    if climbed.made is None:
        raise _refused(climbed)
    return built(job, climbed, climbed.made, cost, notices)


def _of_profiles(
    inputs: Sequence[TensorSpec], profiles: Sequence[Mapping[str, Range]], operations: Cost | None
) -> tuple[str, ...]:
    """What should be known of the profiles before they are built for."""
    if len(profiles) == 1:
        return lint(inputs, operations)
    shapes = ", ".join(f"{name} {own.min} to {own.max}" for name, own in profiles[0].items())
    told = f"The engine gets {len(profiles)} profiles. Sessions of jetlift run the first, {shapes}"
    return (f"{told}; the others are for applications that choose one themselves",)


def _of_memory(
    onnx: Path, cost: GraphCost | None, library: str, options: BuildOptions, has: Room | None
) -> str:
    """What will not fit, before it starts; empty where it does."""
    need = memory.estimate(
        _size_bytes(onnx), cost,
        workspace_bytes=options.workspace_bytes, on_gpu=library == "tensorrt",
    )  # fmt: skip
    return memory.preflight(need, has)


def _size_bytes(onnx: Path) -> int:
    """Size of a graph with its data file, which bears its name and `.data`."""
    found = (onnx, onnx.with_name(onnx.name + ".data"), onnx.with_suffix(".data"))
    return sum(path.stat().st_size for path in found if path.is_file())


def _timings(
    options: BuildOptions, library: str, compute_capability: str, device: str, note: Notify
) -> TimingCache | None:
    """The timing cache to build with; None where none is kept."""
    folder = options.timing_cache
    if folder is None and library == "tensorrt":
        folder = cache.user_folder()
    if folder is None or not options.keep_timing_cache:
        return None
    version = here(gpu=False).libraries.get(library, "unknown")
    found = cache.find(folder, cache.name_of(library, version, compute_capability, device))
    if found.notice:
        note(found.notice)
    return found


def _attempt(job: Job, step: Step) -> Made | Diagnosis:
    """Build once, in a child process (rule T1)."""
    log = BuildLog(job.tell)
    with tempfile.TemporaryDirectory(prefix="jetlift-") as folder:
        layers, timings = Path(folder) / "layers.json", Path(folder) / "timings"
        request = _request(job, step) | {"layers": str(layers), "new_timing_cache": None}
        if job.cache is not None:
            request["new_timing_cache"] = str(timings)
        seen = watch.run(
            [sys.executable, "-m", MODULE, json.dumps(request)],
            log.take,
            environment=_environment(job.library),
            time_limit_s=max(1.0, job.deadline - time.monotonic()),
        )
        if seen.status == MISSING:
            raise MissingPackageError(
                str(log.told.get("missing")), extra=_EXTRAS[job.library],
                purpose=f"to build {people_say(job.library)} engines",
            )  # fmt: skip
        if not _is_whole(job, seen, log):
            job.destination.unlink(missing_ok=True)
            return diagnose(seen, log, job.onnx, job.library, step.options)
        return Made(seen, log, _text(layers), timings.read_bytes() if timings.is_file() else None)


def _is_whole(job: Job, seen: Watched, log: BuildLog) -> bool:
    """Whether the engine was finished; what ended its inspection takes nothing from it."""
    if not job.destination.is_file():
        return False
    return seen.status == 0 or log.told.get("written") == job.destination.stat().st_size


def _request(job: Job, step: Step) -> dict[str, Any]:
    """What the child is asked for."""
    options = step.options
    return {
        "onnx": str(job.onnx.resolve()),
        "destination": str(job.destination.resolve()),
        "compute_capability": [int(number) for number in job.compute_capability.split(".")],
        "profiles": [
            {name: [shapes.min, shapes.opt, shapes.max] for name, shapes in own.items()}
            for own in job.profiles
        ],
        "optimization_level": options.optimization_level,
        "workspace_bytes": options.workspace_bytes,
        "fewer_tactics": step.fewer_tactics,
        "version_compatible": options.version_compatible,
        "refittable": options.refittable,
        "stripped": options.stripped,
        "dla_core": options.dla_core,
        "timing_cache": str(job.cache.path) if job.cache and job.cache.sha256 else None,
        "address_space_bytes": options.address_space_bytes,
        "parent": os.getpid(),
    }


def _environment(library: str) -> dict[str, str]:
    """The child's variables, with the parent's import path, so that it finds this package."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
    choice = "1" if library == "tensorrt_rtx" else "0"
    return {**os.environ, "POLYGRAPHY_USE_TENSORRT_RTX": choice, "PYTHONPATH": path}


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _refused(climbed: Climbed[Made]) -> EngineLibraryError:
    """The error of a build that failed, with every attempt where there were several."""
    last = climbed.last
    if last is None or len(climbed.failures) == 1:
        return EngineLibraryError(
            last.got if last else "no attempt was made", do=last.do if last else ""
        )
    told = "; ".join(climbed.failures)
    return EngineLibraryError(
        f"{last.got}. {len(climbed.failures)} settings were tried ({told})", do=last.do
    )
