"""Every name that jetlift's source uses of TensorRT exists in every release it says it runs with.

How the source is read: `trt` is the library; other objects of it go by the names in OBJECTS, and
what their factories return has to be bound to these names, so that nothing escapes. A name that
some release lacks stands in the module's GUARDED, with the reason, and is used only under
`hasattr` or `getattr` of that name.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import json
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.house import ROOT, STAGES

DATA = ROOT / "tests/data/tensorrt_api"
ALL = ("tensorrt", "tensorrt_lean", "tensorrt_rtx")
BUILDERS = ("tensorrt", "tensorrt_rtx")
# Names that the source gives to objects of TensorRT, and their classes.
OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "layer": "ILayer",
    "config": "IBuilderConfig",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "context": "IExecutionContext",
    "self._engine": "ICudaEngine",
    "self._context": "IExecutionContext",
}
# Methods that give an object whose attributes are used.
FACTORIES = {
    ("Runtime", "deserialize_cuda_engine"): "ICudaEngine",
    ("ICudaEngine", "create_execution_context"): "IExecutionContext",
    ("ICudaEngine", "create_engine_inspector"): "EngineInspector",
}


@dataclass(frozen=True)
class Use:
    """One name of TensorRT in the source."""

    name: str
    line: int
    guarded: bool


@functools.cache
def surfaces() -> dict[str, dict[str, frozenset[str]]]:
    """Members by class, and under `` the module's own names, by library and version."""
    found = {}
    for path in sorted(DATA.glob("*.json")):
        told = json.loads(path.read_text(encoding="utf-8"))
        classes = {name: frozenset(text.split()) for name, text in told["classes"].items()}
        found[path.stem] = {"": frozenset(told["names"].split()), **classes}
    return found


@functools.cache
def sources() -> dict[Path, ast.Module]:
    """Shipped files that name TensorRT's objects: those that import it or are handed it as trt."""
    found = {}
    for folder in STAGES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if "trt" not in text and "tensorrt" not in text:
                continue
            tree = ast.parse(text)
            if any(_is_library(node) for node in ast.walk(tree)):
                found[path] = tree
    return found


def _is_library(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(item.name.split(".")[0] in ALL for item in node.names)
    return isinstance(node, ast.arg) and node.arg == "trt"


def uses(tree: ast.Module) -> list[Use]:
    """Names of TensorRT in a module, as in `ICudaEngine.get_tensor_name` or `DataType`."""
    found = []
    under: dict[ast.AST, frozenset[str]] = {}

    def visit(node: ast.AST, guards: frozenset[str]) -> None:
        under[node] = guards
        if isinstance(node, ast.If):
            visit(node.test, guards | _guards(node.test))
            for child in node.body:
                visit(child, guards | _guards(node.test))
            for child in node.orelse:
                visit(child, guards)
            return
        if isinstance(node, ast.Attribute) and (name := _name(node)):
            member = name.rpartition(".")[2]
            found.append(Use(name, node.lineno, member in guards))
        for child in ast.iter_child_nodes(node):
            visit(child, guards)

    visit(tree, frozenset())
    return found


def _guards(test: ast.AST) -> frozenset[str]:
    """Names that a condition asks for with hasattr or getattr."""
    return frozenset(
        node.args[1].value
        for node in ast.walk(test)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("hasattr", "getattr")
        and isinstance(node.args[1], ast.Constant)
    )


def _name(node: ast.Attribute) -> str | None:
    """What an attribute names in TensorRT: `Class`, `Class.member`; None for anything else."""
    owner = _dotted(node.value)
    if owner is None:
        return None
    if owner in ("trt", "self._trt") or owner in ALL:
        return node.attr
    if owner in OBJECTS:
        return f"{OBJECTS[owner]}.{node.attr}"
    first, _, rest = owner.partition(".")
    if first in ("trt", *ALL) and rest:
        return f"{rest}.{node.attr}"
    return None


def _dotted(node: ast.expr) -> str | None:
    """`a.b.c`, or None for anything that is not names and dots."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value)):
        return f"{owner}.{node.attr}"
    return None


def guarded_names(tree: ast.Module) -> dict[str, str]:
    """The module's GUARDED: names that not every release has, and why they are used."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "GUARDED":
            return ast.literal_eval(node.value)
    return {}


def problems(tree: ast.Module, libraries: tuple[str, ...]) -> list[str]:
    """What is wrong with a module's use of TensorRT."""
    allowed = guarded_names(tree)
    told = []
    for use in uses(tree):
        lacking = [
            release
            for release, classes in surfaces().items()
            if release.rpartition("-")[0] in libraries and not _has(classes, use.name)
        ]
        if lacking and use.name not in allowed:
            told.append(f"line {use.line}: {use.name} is not in {', '.join(lacking)}")
        elif lacking and not use.guarded:
            told.append(f"line {use.line}: {use.name} is used without hasattr")
    return told + _unbound(tree)


def _has(classes: dict[str, frozenset[str]], name: str) -> bool:
    owner, _, member = name.rpartition(".")
    if not owner:
        return member in classes[""] or member in ("__name__", "__version__")
    return member in classes.get(owner, ()) or member == "__init__"


def _unbound(tree: ast.Module) -> list[str]:
    """Objects of TensorRT that are bound to names which the reading above does not know."""
    told = []
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or not isinstance(
            node.value, ast.Call
        ):
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        called = node.value.func
        name = _name(called) if isinstance(called, ast.Attribute) else None
        owner, _, member = (name or "").rpartition(".")
        made = FACTORIES.get((owner, member)) if owner else (member if name else None)
        if made and OBJECTS.get(ast.unparse(target)) != made and made in _classes():
            told.append(f"line {node.lineno}: {ast.unparse(target)} holds a {made}")
    return told


@functools.cache
def _classes() -> frozenset[str]:
    return frozenset(name for classes in surfaces().values() for name in classes if name)


def libraries_of(path: Path) -> tuple[str, ...]:
    return ALL if path.is_relative_to(ROOT / "runtime") else BUILDERS


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_name_exists_in_every_release(path: Path) -> None:
    assert problems(sources()[path], libraries_of(path)) == []


def test_the_session_and_the_builder_are_among_what_is_read() -> None:
    read = {str(path.relative_to(ROOT)) for path in sources()}
    assert {
        "runtime/session/trt_library.py",
        "runtime/session/trt_runner.py",
        "runtime/session/tensorrt.py",
        "engines/trt/child.py",
    } <= read
    names = {use.name for tree in sources().values() for use in uses(tree)}
    assert {
        "ICudaEngine.get_tensor_profile_shape",
        "IExecutionContext.execute_async_v3",
        "ICudaEngine.create_execution_context",
        "DataType.INT64",
        "TensorLocation.HOST",
        "ILogger.INTERNAL_ERROR",
        "Runtime.engine_host_code_allowed",
    } <= names


def test_no_guard_is_left_behind() -> None:
    for path, tree in sources().items():
        used = {use.name for use in uses(tree)}
        assert set(guarded_names(tree)) <= used, path


CAPTURABLE = "GUARDED = {'IExecutionContext.is_stream_capturable': 'RTX alone'}\n"
USED = "def f(trt, context):\n    context.is_stream_capturable(0)\n"
ASKED = (
    "def f(trt, context):\n"
    "    if hasattr(context, 'is_stream_capturable') and not context.is_stream_capturable(0):\n"
    "        raise RuntimeError\n"
)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def f(trt, builder):\n    builder.platform_has_fast_int8", "tensorrt-11.4.0.106"),
        ("def f(trt):\n    trt.BuilderFlag.INT8", "line 2: BuilderFlag.INT8 is not in"),
        ("def f(trt, engine):\n    engine.get_binding_shape(0)", "tensorrt-10.3.0"),
        ("import tensorrt\ntensorrt.IInt8Calibrator", "tensorrt-11.4.0.106"),
        ("def f(trt):\n    thing = trt.Runtime(None)\n", "thing holds a Runtime"),
        (
            "def f(trt, engine):\n    other = engine.create_execution_context()\n",
            "other holds a IExecutionContext",
        ),
        (
            CAPTURABLE + USED,
            "line 3: IExecutionContext.is_stream_capturable is used without hasattr",
        ),
        (ASKED, "IExecutionContext.is_stream_capturable is not in tensorrt-10.13.3.9"),
    ],
)
def test_a_name_that_a_release_lacks_is_found(source: str, told: str) -> None:
    found = problems(ast.parse(source), ALL)
    assert len(found) == 1
    assert told in found[0]


def test_a_guarded_name_is_left_alone() -> None:
    assert problems(ast.parse(CAPTURABLE + ASKED), ALL) == []


def test_the_fake_has_no_name_that_tensorrt_lacks() -> None:
    from jetlift.runtime.session import fake_tensorrt as fake

    kinds = [fake.Runtime, fake.ICudaEngine, fake.IExecutionContext]
    enums = [fake.DataType, fake.TensorLocation, fake.TensorIOMode]
    for release, classes in surfaces().items():
        for kind in kinds:
            own = {name for name in vars(kind) if not name.startswith("_")}
            assert own <= classes[kind.__name__], (release, kind)
        for kind in enums:
            assert set(kind.__members__) <= classes[kind.__name__], (release, kind)


def test_the_surfaces_are_those_that_are_spoken_of() -> None:
    assert set(surfaces()) == {
        "tensorrt-10.3.0", "tensorrt-10.7.0", "tensorrt-10.13.3.9", "tensorrt-10.16.1.11",
        "tensorrt-11.4.0.106", "tensorrt_lean-10.3.0", "tensorrt_lean-11.4.0.106",
        "tensorrt_rtx-1.7.1.116",
    }  # fmt: skip
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    assert all(name.rpartition("-")[2] in readme for name in surfaces())


def test_what_is_stored_of_tensorrt_rtx_is_what_is_installed() -> None:
    stored = DATA / "tensorrt_rtx-1.7.1.116.json"
    try:
        installed = importlib.metadata.version("tensorrt_rtx")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("tensorrt_rtx is not installed")
    if installed != "1.7.1.116":
        pytest.skip(f"tensorrt_rtx {installed} is installed, and 1.7.1.116 is stored")
    make = runpy.run_path(str(DATA / "make.py"))
    try:
        found = make["surface"]("tensorrt_rtx", {})
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{sys.platform} cannot import tensorrt_rtx: {error.stderr[-200:]}")
    assert found == json.loads(stored.read_text(encoding="utf-8"))
