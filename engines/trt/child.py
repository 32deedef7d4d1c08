"""The program of the child process that builds one engine; nothing else touches the library.

Rules:
    C1  Polygraphy decides at import which TensorRT it drives, by POLYGRAPHY_USE_TENSORRT_RTX, which
        the parent sets.
    C2  The network is strongly typed: precision is what the graph says, nothing else. TensorRT 11
        knows nothing but that and ignores the flag, which it still has.
    C3  TF32 stays on, as TensorRT has it: FP32 products of a strongly typed network may use it.
        Polygraphy would clear it.
    C4  Where memory runs out the kernel takes this process first, and where its parent dies it dies
        too.
    C6  The engine is whole before it is loaded to be inspected, and that is told: what happens
        afterwards takes nothing from it.
    C5  A name that not every supported version has is read with getattr and stands in GUARDED.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetlift.engines.trt.log import message
from jetlift.engines.trt.progress import Phases

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import TypeAlias

    # Objects of the library, whose bindings have no types to import before it is chosen.
    Builder: TypeAlias = Any
    Network: TypeAlias = Any
    Config: TypeAlias = Any
    Monitor: TypeAlias = Any
    PolyProfile: TypeAlias = Any

MISSING = 66  # exit status where a package is not installed
GUARDED = {
    "IBuilderConfig.max_num_tactics": "since 10.7: with fewer tactics less is held at once",
}
_SET_PDEATHSIG = 1  # prctl(2)


def main(request: Mapping[str, Any]) -> int:
    """Build one engine as the request says, and tell of it on stdout."""
    _guard(request["parent"], request["address_space_bytes"])
    try:
        build = _import()
    except ModuleNotFoundError as error:
        _send({"missing": error.name})
        return MISSING
    return build(request)


def _guard(parent: int, address_space_bytes: int | None) -> None:
    """Be the first to go (rule C4), within the given address space."""
    with contextlib.suppress(OSError, AttributeError):  # Linux alone has these
        ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if os.getppid() != parent:  # it died before the request above
        raise SystemExit(1)
    if address_space_bytes is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes, address_space_bytes))


def _import() -> Callable[[Mapping[str, Any]], int]:
    """The build, once its packages are there.

    Raises:
        ModuleNotFoundError: One of them is not.
    """
    if os.environ.get("POLYGRAPHY_USE_TENSORRT_RTX") == "1":  # C1
        import tensorrt_rtx as trt
        from polygraphy.backend.tensorrt_rtx import CreateConfigRTX
    else:
        import tensorrt as trt
    from polygraphy.backend import trt as poly
    from polygraphy.exception import PolygraphyException
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.EXTRA_VERBOSE
    rtx = trt.__name__ == "tensorrt_rtx"

    def build(request: Mapping[str, Any]) -> int:
        try:
            settings = _settings(trt, poly, request)
            if rtx:
                capability = tuple(request["compute_capability"])
                config = CreateConfigRTX(compute_capabilities=[capability], **settings)
            else:
                config = poly.CreateConfig(tf32=True, **settings)  # C3
            _write(trt, poly, poly.PostprocessConfig(config, _finisher(trt, request)), request)
        except PolygraphyException:
            return 1  # it has logged why
        if not rtx:
            _inspect(trt, poly, request)
        return 0

    return build


def _settings(trt: ModuleType, poly: ModuleType, request: Mapping[str, Any]) -> dict[str, Any]:
    """What both libraries are configured with."""
    limits = request["workspace_bytes"]
    return {
        "profiles": [_profile(poly, shapes) for shapes in request["profiles"]],
        "profiling_verbosity": trt.ProfilingVerbosity.DETAILED,
        "builder_optimization_level": request["optimization_level"],
        "memory_pool_limits": None if limits is None else {trt.MemoryPoolType.WORKSPACE: limits},
        "tactic_sources": [] if request["fewer_tactics"] else None,
        "version_compatible": request["version_compatible"],
        "refittable": request["refittable"],
        "strip_plan": request["stripped"],
        "load_timing_cache": request["timing_cache"],
        "progress_monitor": _monitor(trt),
    }


def _profile(poly: ModuleType, shapes: Mapping[str, Any]) -> PolyProfile:
    profile = poly.Profile()
    for name, (smallest, best, largest) in shapes.items():
        profile.add(name, smallest, best, largest)
    return profile


def _monitor(trt: ModuleType) -> Monitor:
    """A progress monitor of the library that tells the parent."""

    class Told(trt.IProgressMonitor):  # type: ignore[misc, name-defined]  # known at run time
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases = Phases(lambda name, share: _send({"phase": name, "share": share}))

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases.start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            self.phases.finish(phase_name)

        def step_complete(self, phase_name: str, _step: int) -> bool:
            self.phases.step(phase_name)
            return True  # False would cancel the build

    return Told()


def _finisher(
    trt: ModuleType, request: Mapping[str, Any]
) -> Callable[[Builder, Network, Config], None]:
    """What Polygraphy has no setting for."""

    def finish(builder: Builder, network: Network, config: Config) -> None:
        if request["fewer_tactics"] and getattr(config, "max_num_tactics", None) is not None:
            config.max_num_tactics = 1  # guarded: IBuilderConfig.max_num_tactics
        if request["dla_core"] is not None:
            _use_dla(trt, builder, network, config, request["dla_core"])

    return finish


def _use_dla(
    trt: ModuleType, builder: Builder, network: Network, config: Config, core: int
) -> None:
    """Give the DLA what it can run; the rest falls back to the GPU and is told by name.

    Polygraphy's own way sets flags that a strongly typed network refuses, and core 0 always.
    """
    if builder.num_DLA_cores <= core:
        _send({"dla_cores": builder.num_DLA_cores, "asked_core": core})
        raise SystemExit(1)
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    _send({"dla_fallback": [layer.name for layer in layers if not config.can_run_on_DLA(layer)]})


def _write(trt: ModuleType, poly: ModuleType, config: Config, request: Mapping[str, Any]) -> None:
    flags = None
    if request["version_compatible"]:  # the plugin for it is not in the lean runtime
        flags = [trt.OnnxParserFlag.NATIVE_INSTANCENORM]
    network = poly.NetworkFromOnnxPath(request["onnx"], flags=flags, strongly_typed=True)  # C2
    engine = poly.EngineBytesFromNetwork(
        network, config=config, save_timing_cache=request["new_timing_cache"]
    )()
    with open(request["destination"], "wb") as file:  # noqa: PTH123 - the path comes as text
        file.write(engine)
    _send({"written": Path(request["destination"]).stat().st_size})  # C6


def _inspect(trt: ModuleType, poly: ModuleType, request: Mapping[str, Any]) -> None:
    """Write the engine's own list of its layers, which takes a GPU that can load it."""
    try:
        runtime = trt.Runtime(poly.get_trt_logger())
        runtime.engine_host_code_allowed = request["version_compatible"]
        engine = runtime.deserialize_cuda_engine(Path(request["destination"]).read_bytes())
        if engine is None:  # a stripped one without its weights, or no memory for it now
            return
        inspector = engine.create_engine_inspector()
        told = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    except (RuntimeError, TypeError, MemoryError):  # how the bindings say that something failed
        return
    Path(request["layers"]).write_text(told or "", encoding="utf-8")


def _send(content: Mapping[str, Any]) -> None:
    print(message(content), flush=True)  # noqa: T201 - how the child tells its parent


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
