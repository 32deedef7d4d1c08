"""What a TensorRT build may be told beyond its graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.runtime.passport import BuildSettings

LEVELS = range(6)
DEFAULT_LEVEL = 3
TIME_LIMIT_S = 4 * 3600.0  # there to end what hangs; no honest build should meet it
_MOST_BUCKETS = 8  # each is compiled on its own, so time and size of an engine grow with them


@dataclass(frozen=True)
class BuildOptions:
    """How a TensorRT engine is built. The graph alone decides on precision.

    Attributes:
        optimization_level: How long the builder searches, 0 to 5; 3 is TensorRT's own choice.
        workspace_bytes: Limit of scratch memory; None leaves it to TensorRT, which takes what the
            GPU has.
        version_compatible: Whether newer TensorRT of the same major may load the engine, with
            tensorrt or tensorrt_lean.
        refittable: Whether its weights can be replaced later.
        stripped: Whether its weights are left out; whoever runs it gives them first.
        dla_core: DLA core to run on, what it cannot run going to the GPU; None for the GPU alone.
        profile_buckets: Optimisation profiles to split wide shapes into, each with an own best
            shape.
        timing_cache: Folder of the timing caches; None for the user's own cache folder.
        keep_timing_cache: Whether timings are kept between builds. TensorRT-RTX times nothing when
            it builds, so there it takes a folder named by `timing_cache`.
        time_limit_s: Seconds that all attempts together may take.
        address_space_bytes: Limit of the builder's address space; None for none. CUDA reserves
            far more than it uses, so it is of use without a GPU alone.

    Raises:
        UsageError: Options that contradict each other or lie outside their range.
    """

    optimization_level: int = DEFAULT_LEVEL
    workspace_bytes: int | None = None
    version_compatible: bool = False
    refittable: bool = False
    stripped: bool = False
    dla_core: int | None = None
    profile_buckets: int = 1
    timing_cache: Path | None = None
    keep_timing_cache: bool = True
    time_limit_s: float = TIME_LIMIT_S
    address_space_bytes: int | None = None

    def __post_init__(self) -> None:
        _within("optimization level", self.optimization_level, LEVELS.start, LEVELS.stop - 1)
        _within("number of profile buckets", self.profile_buckets, 1, _MOST_BUCKETS)
        if self.dla_core is not None:
            _within("DLA core", self.dla_core, 0, 1)
        for name in ("workspace_bytes", "address_space_bytes", "time_limit_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} is {value}", expected="A number above zero")


def _within(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(f"The {what} is {value}", expected=f"A number from {low} to {high}")


def check_for(options: BuildOptions, library: str) -> None:
    """Refuse what a library cannot do, before it is asked.

    TensorRT-RTX 1.7 looks for the lean runtime of TensorRT to make a version-compatible engine,
    which it does not bring, and asks a GPU for one that can be refitted or stripped; it has no
    DLA (docs.nvidia.com/deeplearning/tensorrt-rtx, Polygraphy's CreateConfigRTX).

    Raises:
        UsageError: The library cannot do what the options ask for.
    """
    if library != "tensorrt_rtx":
        return
    asked = {
        "version compatible": options.version_compatible,
        "refittable": options.refittable,
        "stripped": options.stripped,
        "on a DLA": options.dla_core is not None,
    }
    names = [name for name, is_asked in asked.items() if is_asked]
    if names:
        raise UsageError(
            f"TensorRT-RTX builds no engine that is {' or '.join(names)}",
            expected="These options with a target that TensorRT builds for: a Jetson or gpu",
        )


def as_arguments(options: BuildOptions) -> dict[str, str | float | bool | None]:
    """Options that are not the default, under their names on the command line."""
    given: dict[str, str | float | bool | None] = {
        "optimization-level": options.optimization_level,
        "workspace": options.workspace_bytes and options.workspace_bytes // 2**20,
        "version-compatible": options.version_compatible,
        "refit": options.refittable,
        "strip": options.stripped,
        "dla-core": options.dla_core,
        "profile-buckets": options.profile_buckets,
        "timing-cache": str(options.timing_cache) if options.timing_cache else None,
        "no-timing-cache": not options.keep_timing_cache,
        "time-limit-s": options.time_limit_s,
    }
    default = BuildOptions()
    usual: dict[str, object] = {
        "optimization-level": default.optimization_level,
        "profile-buckets": default.profile_buckets,
        "time-limit-s": default.time_limit_s,
    }
    return {
        name: value
        for name, value in given.items()
        if value is not None and value is not False and value != usual.get(name)
    }


def lacking(built: BuildSettings | None, asked: BuildOptions) -> str:
    """What an engine was built without and is asked for now; empty where it has all of it.

    What a default leaves open is no demand. An engine that memory kept from its level or its
    workspace (its passport tells of the attempts) is not built again for these.

    Args:
        built: What it was built with; None for a CPU.
        asked: What is asked for.
    """
    if built is None:
        return ""
    wanted = {
        "version compatibility": asked.version_compatible and not built.version_compatible,
        "refitting": asked.refittable and not built.refittable,
        "stripping": asked.stripped and not built.stripped,
        f"DLA core {asked.dla_core}": asked.dla_core not in (None, built.dla_core),
    }
    if not built.attempts:
        level, workspace = asked.optimization_level, asked.workspace_bytes
        wanted[f"optimisation level {level}"] = level not in (
            DEFAULT_LEVEL,
            built.optimization_level,
        )
        wanted["that limit of the workspace"] = workspace not in (None, built.workspace_bytes)
    return " and ".join(name for name, is_lacking in wanted.items() if is_lacking)
