"""`jetlift doctor --selftest`: a tiny graph built and run with every library that is here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from jetlift import doctor
from jetlift.doctor import selftest
from jetlift.doctor.finding import Finding


def made_anew() -> onnx.ModelProto:
    weight, bias = selftest.weights()
    nodes = [
        helper.make_node("Gemm", ["x", "weight", "bias"], ["sum"], name="gemm"),
        helper.make_node("Relu", ["sum"], ["y"], name="relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "selftest",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, producer_name="jetlift"
    )


def test_the_graph_is_what_its_weights_say() -> None:
    assert onnx.load(selftest.GRAPH) == made_anew()


@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_a_library_for_the_cpu_builds_and_runs(library: str) -> None:
    pytest.importorskip(library)
    (finding,) = selftest.selftest([library])
    assert finding.status == "ok", finding.what
    assert f"by {library}" in finding.what


def test_tensorrt_rtx_builds_and_says_that_nothing_ran() -> None:
    if selftest.importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed")
    (finding,) = selftest.selftest(["tensorrt_rtx"])
    assert finding.status == "ok", finding.what
    assert "built for" in finding.what
    assert ("no GPU is here" in finding.what) or ("run plainly" in finding.what)


def test_a_library_that_is_not_installed_is_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest.importlib.util, "find_spec", lambda _: None)
    findings = selftest.selftest()
    assert {item.status for item in findings} == {"missing"}
    assert doctor.exit_code(findings) == 0


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Put a package called openvino before the real one."""
    (folder / "openvino.py").write_text(code)
    monkeypatch.syspath_prepend(folder)


def test_a_library_that_crashes_takes_nobody_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, "import os\nos.kill(os.getpid(), 11)")
    findings = selftest.selftest(["openvino", "onnxruntime"])
    assert "signal 11" in findings[0].what
    assert findings[1].status != "problem"
    assert doctor.exit_code(findings) == 4


def test_a_library_that_hangs_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "import time\ntime.sleep(600)")
    (finding,) = selftest.selftest(["openvino"], timeout_s=1)
    assert (finding.status, finding.what) == ("problem", "it was not done after 1 s")


def test_a_library_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "raise ImportError('libtbb.so.12: cannot open')")
    (finding,) = selftest.selftest(["openvino"])
    assert finding.status == "problem"
    assert "libtbb.so.12" in finding.what


class Wrong:
    """A session that computes something else."""

    info = None

    def __init__(self, answer: float) -> None:
        self._answer = answer

    def run(self, feeds: Any) -> Any:
        return {"y": selftest.expected(feeds["x"]) + self._answer}


@pytest.mark.parametrize("answer", [0.5, np.nan, np.inf])
def test_wrong_results_are_a_problem(answer: float) -> None:
    status, what = selftest._compared(Wrong(answer), "run")  # type: ignore[arg-type]
    assert status == "problem"
    assert "off by" in what


def test_the_command_prints_what_came_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from jetlift.cli import app

    findings = [Finding("selftest", "openvino", "ok", "built, loaded and run")]
    monkeypatch.setattr(selftest, "selftest", lambda: findings)
    shown = CliRunner().invoke(app, ["doctor", "--selftest"])
    assert "built, loaded and run" in shown.stdout
    as_json = CliRunner().invoke(app, ["doctor", "--selftest", "--json"])
    assert json.loads(as_json.stdout)[-1]["name"] == "openvino"
