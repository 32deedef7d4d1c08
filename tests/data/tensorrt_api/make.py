"""Read the names of a TensorRT Python API from its real bindings, without TensorRT or a GPU.

    python make.py WHEEL [WHEEL ...]     a wheel of bindings for this machine and this Python
    python make.py tensorrt_rtx          a package that is installed and imports by itself

The bindings link a handful of C functions of NVIDIA's libraries. Stub libraries that export them
and return null are compiled here with gcc, and that is enough to import the bindings and list what
they define: classes, enums and their members.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Classes and enums whose members jetlift may name; of everything else the name alone is kept.
CLASSES = """
    Builder BuilderFlag DataType DeviceType Dims EngineInspector HardwareCompatibilityLevel
    IBuilderConfig ICudaEngine IExecutionContext IHostMemory ILayer ILogger INetworkDefinition
    IOptimizationProfile IOutputAllocator IProgressMonitor ITensor ITimingCache
    LayerInformationFormat Logger MemoryPoolType NetworkDefinitionCreationFlag OnnxParser
    OnnxParserFlag ProfilingVerbosity Runtime TacticSource TensorFormat TensorIOMode
    TensorLocation
"""
_NULL = "void *{0}(void) {{ return 0; }}\n"
_FUNCTIONS = """
    createInferRefitter_INTERNAL createInferBuilder_INTERNAL createInferRuntime_INTERNAL
    getPluginRegistry getBuilderPluginRegistry initLibNvInferPlugins
    createNvOnnxParserRefitter_INTERNAL createNvOnnxParser_INTERNAL getNvOnnxParserVersion
"""
_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser", "nvinfer_lean")
_CHILD = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
public = lambda owner: sorted(name for name in dir(owner) if not name.startswith("_"))
print(json.dumps({"version": module.__version__, "names": public(module), "classes": {
    name: public(getattr(module, name)) for name in sys.argv[2:] if hasattr(module, name)}}))
"""


def surface(package: str, environment: dict[str, str]) -> dict[str, object]:
    """Import a package in a child process and list its names."""
    command = [sys.executable, "-c", _CHILD, package, *CLASSES.split()]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    return {
        "library": package.removesuffix("_bindings"),
        "version": told["version"],
        "names": " ".join(told["names"]),
        "classes": {name: " ".join(members) for name, members in told["classes"].items()},
    }


def stubs(folder: Path, major: str) -> None:
    """Compile the libraries that the bindings want to see."""
    source = folder / "stubs.c"
    source.write_text("".join(map(_NULL.format, _FUNCTIONS.split())))
    for name in _LIBRARIES:
        file = f"lib{name}.so.{major}"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{file}", "-o", folder / file, source],
            check=True,
        )


def of_wheel(wheel: Path) -> dict[str, object]:
    """The names in a wheel of bindings, as in tensorrt_cu12_bindings-10.3.0-….whl."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        stubs(folder, wheel.name.split("-")[1].split(".")[0])
        (package,) = (path.name for path in folder.glob("tensorrt*_bindings"))
        return surface(package, {"LD_LIBRARY_PATH": name, "PYTHONPATH": name})


def write(told: dict[str, object], folder: Path) -> Path:
    """Write a surface as this folder keeps them."""
    path = folder / f"{told['library']}-{told['version']}.json"
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        found = of_wheel(Path(argument)) if argument.endswith(".whl") else surface(argument, {})
        print(write(found, Path(__file__).parent))  # noqa: T201
