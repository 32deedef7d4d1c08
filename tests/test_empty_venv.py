"""The core install alone, in an environment of its own: what works, and what says what it lacks."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from helpers.house import ROOT, Environment, build, copy_sources

if TYPE_CHECKING:
    from pathlib import Path

CONSTRAINTS = ("-c", ROOT / "constraints.txt")
NEVER_ON_A_DEVICE = {
    "torch",
    "transformers",
    "onnx",
    "onnxsim",
    "polygraphy",
    "matplotlib",
    "jinja2",
}
ONLY_FOR_THE_COMMAND_LINE = {"typer", "click", "rich"}
ENGINE_LIBRARIES = {"openvino", "onnxruntime", "tensorrt", "tensorrt_rtx", "pycuda"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(copy_sources(tmp_path_factory.mktemp("empty") / "sources"), "wheel")


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("core") / "venv")
    environment.pip("install", *CONSTRAINTS, wheel)
    return environment


def _python(environment: Environment, code: str) -> Any:
    """Run code that prints JSON."""
    done = environment.run("python", "-W", "error", "-c", textwrap.dedent(code))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_core_is_small(core: Environment) -> None:
    listed = core.run("python", "-m", "pip", "list", "--format", "json")
    names = {item["name"].lower() for item in json.loads(listed.stdout)}
    assert {"jetlift", "numpy", "opencv-python", "typer", "rich"} <= names
    assert not names & (NEVER_ON_A_DEVICE | ENGINE_LIBRARIES)


def test_importing_the_runtime_loads_nothing_else(core: Environment) -> None:
    loaded = _python(
        core,
        """
        import json, sys
        import jetlift.runtime
        print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
        """,
    )
    heavy = NEVER_ON_A_DEVICE | ENGINE_LIBRARIES | ONLY_FOR_THE_COMMAND_LINE
    assert not set(loaded) & heavy


@pytest.mark.parametrize("stage", ["runtime", "jetson"])
def test_every_module_of_a_device_imports_with_the_core_only(core: Environment, stage: str) -> None:
    told = _python(
        core,
        f"""
        import importlib, json, pkgutil, sys
        import jetlift.{stage} as stage
        names = [item.name for item in pkgutil.walk_packages(stage.__path__, stage.__name__ + ".")]
        for name in names:
            importlib.import_module(name)
        loaded = sorted({{name.split(".")[0] for name in sys.modules}})
        ours = [name for name in sys.modules if name.startswith("jetlift.")]
        stages = sorted({{name.split(".")[1] for name in ours}})
        print(json.dumps({{"names": names, "loaded": loaded, "stages": stages}}))
        """,
    )
    files = {
        ".".join(("jetlift", *path.relative_to(ROOT).with_suffix("").parts))
        for path in (ROOT / stage).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert files <= set(told["names"])
    heavy = NEVER_ON_A_DEVICE | ENGINE_LIBRARIES | ONLY_FOR_THE_COMMAND_LINE
    assert not set(told["loaded"]) & heavy
    assert set(told["stages"]) <= {"runtime", stage}


@pytest.mark.parametrize("name", ["open_session", "Bundle", "open_task", "open_source"])
def test_the_api_s_names_are_there(core: Environment, name: str) -> None:
    assert _python(
        core, f"import jetlift.runtime as r, json; print(json.dumps(callable(r.{name})))"
    )


def test_an_engine_library_that_is_missing_is_named_with_its_extra(
    core: Environment, tmp_path: Path
) -> None:
    (tmp_path / "x.onnx").write_bytes(b"whatever it holds, no library is there to read it")
    told = _python(
        core,
        f"""
        import json
        from jetlift.runtime import open_onnx
        from jetlift.runtime.errors import MissingPackageError
        try:
            open_onnx({str(tmp_path / "x.onnx")!r})
        except MissingPackageError as error:
            print(json.dumps([error.package, error.extra, error.exit_code]))
        """,
    )
    assert told == ["openvino", "cpu", 4]


def test_pictures_are_labelled_in_any_words_with_tokenizers_alone(
    wheel: Path, tmp_path: Path
) -> None:
    from helpers.words_bundle import words_bundle

    environment = Environment(tmp_path / "venv")
    environment.pip("install", *CONSTRAINTS, wheel, "tokenizers")
    bundle = words_bundle(tmp_path / "words")
    told = _python(
        environment,
        f"""
        import json, sys
        import numpy as np
        from jetlift.runtime import Bundle, open_task
        from jetlift.runtime.prompts import build_prompts
        from jetlift.runtime.session.fake import FakeSession
        from jetlift.runtime.sources import Frame

        bundle = Bundle.open({str(bundle.folder)!r})
        table = np.random.default_rng(0).standard_normal((514, 8)).astype(np.float32)

        def encode(feeds):  # stands for an engine, which a device has and this environment lacks
            if "input_ids" in feeds:
                return {{"embedding": table[feeds["input_ids"]].sum(axis=1)}}
            return {{"embedding": table[:1], "patch_tokens": np.zeros((1, 16, 8), np.float32)}}

        def session(name):
            part = bundle.part(name)[1]
            return FakeSession(part.inputs, part.outputs, encode)

        made_by = {{"precision": "fp32", "target": "cpu"}}
        prompts = build_prompts(bundle, session("text"), ["dog", "cat"], **made_by)
        task = open_task("classify", bundle, session("image"), precision="fp32", prompts=prompts)
        fields = task.run(Frame("p", 0, None, np.zeros((9, 9, 3), np.uint8)))
        loaded = sorted({{name.split(".")[0] for name in sys.modules}})
        print(json.dumps({{"labels": fields["labels"], "loaded": loaded}}))
        """,
    )
    assert set(told["labels"]) == {"dog", "cat"}
    heavy = NEVER_ON_A_DEVICE | ENGINE_LIBRARIES | ONLY_FOR_THE_COMMAND_LINE
    assert not set(told["loaded"]) & heavy


# The command line.


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("models",), ("export", "--help")]
)
def test_commands_that_need_the_core_only(core: Environment, arguments: tuple[str, ...]) -> None:
    done = core.run("jetlift", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_the_doctor_finds_the_core_whole(core: Environment) -> None:
    done = core.run("jetlift", "doctor", "--json")
    assert done.returncode == 0, done.stderr
    findings = {item["name"]: item for item in json.loads(done.stdout)}
    assert {item["status"] for item in findings.values() if item["group"] == "core"} == {"ok"}
    assert findings["cpu"]["status"] == "missing"
    assert findings["cpu"]["mend"].endswith("-m pip install 'jetlift[cpu]'")


def test_the_doctor_speaks_to_people_too(core: Environment) -> None:
    done = core.run("jetlift", "doctor")
    assert done.returncode == 0, done.stderr
    assert "pip install 'jetlift[export]'" in done.stdout


def test_exporting_says_in_one_paragraph_what_is_missing(core: Environment, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    done = core.run("jetlift", "export", "dinov2-small", "--precision", "fp32", "-o", out)
    assert done.returncode == 4
    assert "is not installed" in done.stderr
    assert "pip install 'jetlift[export]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


# Two distributions of cv2, for real.


def test_the_doctor_finds_two_distributions_of_cv2_and_mends_them(
    wheel: Path, tmp_path: Path
) -> None:
    environment = Environment(tmp_path / "venv")
    environment.pip("install", *CONSTRAINTS, wheel)
    environment.pip("install", *CONSTRAINTS, "--no-deps", "opencv-python-headless")

    finding = _cv2(environment)
    assert finding["status"] == "problem"
    assert set(finding["versions"]) == {"opencv-python", "opencv-python-headless"}
    assert "the library on disk is opencv-python-headless's" in finding["what"]

    # Its own line, typed in as it stands, but for the index's name, which pip knows itself.
    for step in finding["mend"].split(" && "):
        _, _, arguments = step.partition(" -m pip ")
        environment.pip(*arguments.split())
    finding = _cv2(environment)
    assert finding["status"] == "ok"
    assert "opencv-python-headless" in finding["what"]


def _cv2(environment: Environment) -> Any:
    code = """
        import dataclasses, json
        from jetlift import doctor
        findings = doctor.examine()
        print(json.dumps(next(dataclasses.asdict(f) for f in findings if f.name == "cv2")))
        """
    return _python(environment, code)
