"""jetlift beside others: real processes on a tiny graph, and contenders that fail in every way."""

from __future__ import annotations

import importlib.util
import os
import signal
import stat
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_bundle
from hypothesis import given
from hypothesis import strategies as st

from jetlift.benchmarks import peers_bench
from jetlift.benchmarks.peers import chart, environments, form, goals, run, table
from jetlift.benchmarks.peers.agreement import agreement, edits, words_of
from jetlift.benchmarks.peers.cases import CASES, FP32, INT8, Case, Contender, Place
from jetlift.benchmarks.peers.contender import INSTALL, ContenderProcess, Way
from jetlift.benchmarks.peers.rounds import Rules, figures, interleave, ratio
from jetlift.runtime import jsonform
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import MachineError
from jetlift.runtime.figure import Figure

QUICK = Rules(rounds=6, time_limit_s=600.0, turn_s=0.001)
LOADED = 'print(json.dumps({"loaded_s": 0.1, "versions": {}}), flush=True)'


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle.tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("inputs") / "inputs.npz"
    np.savez(path, **{f"{i}/x": random.standard_normal((1, 16), np.float32) for i in range(3)})
    return path


def way(name: str, bundle: Bundle, precision: str = "fp32") -> Way:
    graph = str(bundle.path(bundle.variant("mlp", precision).file))
    arguments = {"bundle": str(bundle.folder), "part": "mlp", "precision": precision}
    return Way("tensors", name, "jetlift", ("numpy",), {"graph": graph, **arguments})


def stand_in(folder: Path, *does: str) -> str:
    """What looks like a Python that has a contender; it answers what the lines say."""
    path = folder / "python"
    lines = [f"#!{sys.executable}", "import json, os, signal, sys, time", *does]
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o755)
    return str(path)


def state_of(process: ContenderProcess) -> str:
    text = Path(f"/proc/{process._process.pid}/stat").read_text(encoding="utf-8")
    return text.rpartition(")")[2].split()[0]


def wait_for_state(process: ContenderProcess, wanted: str) -> None:
    until_s = time.monotonic() + 30
    while state_of(process) != wanted and time.monotonic() < until_s:
        time.sleep(0.005)
    assert state_of(process) == wanted


@pytest.mark.parametrize("name", ["jetlift", "onnxruntime", "openvino"])
def test_a_real_contender_computes_only_when_asked(bundle, inputs, tmp_path, name):
    pytest.importorskip("onnxruntime" if name == "onnxruntime" else "openvino")
    with ContenderProcess(way(name, bundle), sys.executable, inputs, 1) as process:
        wait_for_state(process, "T")
        assert process.loaded["versions"]["numpy"] == np.__version__
        assert all(value > 0 for value in process.time(1, 0.001))
        wait_for_state(process, "T")
        assert process.output(tmp_path / "out.npz")["inputs"] == 3
        pid = process._process.pid
    assert not Path(f"/proc/{pid}").exists()
    process.close()
    with np.load(tmp_path / "out.npz") as found:
        assert sorted(found.files) == ["0/y", "1/y", "2/y"]
        assert not np.array_equal(found["0/y"], found["1/y"])


def test_threads_are_fixed_in_every_way(bundle, inputs, tmp_path):
    python = stand_in(
        tmp_path,
        'told = {k: v for k, v in os.environ.items() if k.endswith("_NUM_THREADS")}',
        'print(json.dumps({"loaded_s": 0.1, "versions": told}), flush=True)',
        "sys.stdin.read()",
    )
    with ContenderProcess(way("openvino", bundle), python, inputs, 3) as process:
        told = process.loaded["versions"]
    assert {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"} <= set(told)
    assert set(told.values()) == {"3"}


@pytest.mark.parametrize(
    ("does", "told"),
    [
        (['print("hello", flush=True)', "sys.stdin.read()"], "unreadable"),
        (['print("[1]", flush=True)', "sys.stdin.read()"], "no loaded_s"),
        (['sys.exit("out of luck")'], "ended with code 1: out of luck"),
        (["os.kill(os.getpid(), signal.SIGKILL)"], "stopped by signal 9"),
        (["time.sleep(3600)"], "no answer within"),
    ],
)
def test_one_that_does_not_load_is_told_and_gone(bundle, inputs, tmp_path, does, told):
    python = stand_in(tmp_path, *does)
    with pytest.raises(MachineError, match=told) as caught:
        ContenderProcess(way("openvino", bundle), python, inputs, 1, load_limit_s=2.0)
    assert caught.value.do != INSTALL


def test_one_that_is_not_installed_is_told_apart(bundle, inputs, tmp_path):
    with pytest.raises(MachineError, match="No such file") as caught:
        ContenderProcess(way("openvino", bundle), str(tmp_path / "nothing"), inputs, 1)
    assert caught.value.do == INSTALL
    missing = Way("tensors", "ailia", "ailia", (), {"graph": "net.onnx"})
    assert importlib.util.find_spec("ailia") is None
    with pytest.raises(MachineError, match="ailia is not in its Python") as caught:
        ContenderProcess(missing, sys.executable, inputs, 1)
    assert caught.value.do == INSTALL


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("print('no', flush=True)", "unreadable"),
        ("print('{\"ms\": []}', flush=True)", "in place of times"),
        ("sys.exit('tired')", "tired"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
    ],
)
def test_one_that_fails_in_its_turn_leaves_and_the_others_go_on(
    bundle, inputs, tmp_path, answer, told
):
    pytest.importorskip("openvino")
    python = stand_in(
        tmp_path, LOADED, "for number, line in enumerate(sys.stdin):",
        '    if number < 3: print(json.dumps({"ms": [1.5, 2.5, 2.5]}), flush=True)',
        f"    else: {answer}",
    )  # fmt: skip
    with (
        ContenderProcess(way("openvino", bundle), sys.executable, inputs, 1) as good,
        ContenderProcess(way("openvino", bundle), python, inputs, 1) as bad,
    ):
        timed = interleave({"bad": bad, "good": good}, 3, QUICK)
    assert list(timed.turns_ms) == ["good"]
    assert len(timed.turns_ms["good"]) == QUICK.rounds
    assert told in timed.gone["bad"]


def test_one_that_hangs_in_its_turn_is_ended(bundle, inputs, tmp_path):
    python = stand_in(tmp_path, LOADED, "time.sleep(3600)")
    with ContenderProcess(way("openvino", bundle), python, inputs, 1) as process:
        with pytest.raises(MachineError, match="no answer within 1 s"):
            process.time(0, 0.1, limit_s=1.0)
        assert not Path(f"/proc/{process._process.pid}").exists()


def test_one_that_was_killed_between_its_turns_is_told(bundle, inputs, tmp_path):
    python = stand_in(tmp_path, LOADED, "sys.stdin.read()")
    with ContenderProcess(way("openvino", bundle), python, inputs, 1) as process:
        os.kill(process._process.pid, signal.SIGKILL)
        process._process.wait()
        with pytest.raises(MachineError, match="signal 9"):
            process.time(0, 0.1)


class Recorded:
    """Keeps the order of turns; what it answers is what a process would."""

    def __init__(self, name: str, log: list[tuple[str, int]]) -> None:
        self._name, self._log = name, log

    def time(self, index: int, least_s: float) -> list[float]:
        self._log.append((self._name, index))
        return [least_s, 2.0, 9.0]


def test_rounds_go_in_order_over_the_inputs_and_the_first_does_not_count():
    log: list[tuple[str, int]] = []
    timed = interleave({name: Recorded(name, log) for name in "ABC"}, 2, QUICK)
    assert log[:9] == [(name, index) for index in (0, 0, 1) for name in "ABC"]
    assert timed.turns_ms["A"] == [2.0] * QUICK.rounds


def test_the_time_limit_leaves_enough_rounds_for_an_interval():
    seconds = iter(range(0, 10_000, 100))
    timed = interleave(
        {"A": Recorded("A", [])}, 1, Rules(rounds=50, time_limit_s=1.0), clock=lambda: next(seconds)
    )
    assert len(timed.turns_ms["A"]) == 6


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=40), st.floats(0.1, 10))
def test_a_ratio_is_of_pairs(times_ms, factor):
    middle, interval = ratio([value * factor for value in times_ms], times_ms)
    assert middle == pytest.approx(factor)
    assert (interval is None) == (len(times_ms) < 6)
    found = figures(times_ms, times_ms)
    assert found[0].value == 1
    assert all((item.value is None) == (len(times_ms) < 6) for item in found[1:])


def test_outputs_are_compared_row_by_row():
    ours = {"0/y": np.eye(4, dtype=np.float32)}
    assert agreement("cosine", ours, {"0/output": np.eye(4)}) == (
        {"cosine_mean": 1.0, "cosine_min": 1.0}, True,
    )  # fmt: skip
    assert agreement("cosine", ours, {"0/y": np.eye(4)[::-1]})[1] is False
    assert agreement("cosine", ours, {"0/y": np.full((4, 4), np.nan)}) == ({}, False)
    assert agreement("cosine", ours, {"0/y": np.ones(3)}) == ({}, False)
    assert agreement("none", ours, {}) == ({}, None)


def test_words_are_compared_without_case_and_signs():
    said = {"0/texts": np.array(["And so, my fellow Americans."])}
    known = ["and so my yellow Americans"]
    assert agreement("words", said, {"0/texts": np.array([known[0]])}, said=known) == (
        {"words_wrong": 0.0, "of_words": 5.0, "reference_wrong": 1.0}, True,
    )  # fmt: skip
    assert agreement("words", said, {"0/texts": np.array(["and so my"])}, said=known)[1] is False
    assert agreement("words", said, {"0/texts": np.array(["and", "so"])}) == ({}, False)
    assert agreement("words", said, {"0/texts": np.array([" and so my fellow americans"])}) == (
        {"words_wrong": 0.0, "of_words": 5.0}, True,
    )  # fmt: skip
    assert agreement("words", said, {"0/texts": np.array(["nothing"])})[1] is False
    assert words_of("Don't, stop!") == ["don't", "stop"]


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_edits_are_a_distance(first, second):
    assert edits(first, second) == edits(second, first)
    assert (edits(first, second) == 0) == (first == second)
    assert abs(len(first) - len(second)) <= edits(first, second) <= max(len(first), len(second))


def test_maps_are_compared_by_rank():
    ours = {"0/distances": np.arange(10.0), "0/map": np.zeros(1)}
    assert agreement("distances", ours, {"0/distances": np.arange(10.0) ** 2})[1] is True
    assert agreement("distances", ours, {"0/distances": -np.arange(10.0)})[1] is False


@pytest.fixture(scope="module")
def measured(
    bundle: Bundle, inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> form.CaseResult:
    """jetlift, two engines by hand and one that is not there, on the tiny graph."""
    pytest.importorskip("openvino")
    ours = [
        Contender(f"jetlift-{name}", f"jetlift {name.upper()}", name, way("jetlift", bundle, name))
        for name in ("int8", "fp32")
    ]
    others = [
        Contender("onnxruntime", "ONNX Runtime", "fp32", way("onnxruntime", bundle)),
        Contender("openvino", "OpenVINO by hand", "fp32", way("openvino", bundle), "by hand"),
        Contender(
            "torch", "PyTorch eager", "fp32", replace(way("openvino", bundle), python="nowhere")
        ),
    ]
    case = Case(
        "dinov2", "Tiny", "one row", inputs.name, (*ours, *others), "onnxruntime", "cosine", ""
    )
    out = tmp_path_factory.mktemp("out")
    request = run.Request(
        out, {}, {}, pythons={"nowhere": str(out / "none")}, threads=1, rules=QUICK
    )
    place = Place(None, inputs.parent)
    told: list[str] = []
    result = run._Measuring(request, case, place, {}, told.append).result()
    assert "dinov2: round 6 of 6" in told
    return result


def test_a_case_is_measured_whole(measured):
    rows = {row.name: row for row in measured.contenders}
    assert measured.ours == (INT8, FP32)
    assert measured.rounds == QUICK.rounds
    assert rows["torch"].state == "not installed"
    assert rows["torch"].median_ms.reason
    assert [item.to for item in rows["onnxruntime"].ratios] == [INT8, FP32]
    assert [item.to for item in rows[FP32].ratios] == [INT8]
    assert rows["openvino"].right
    assert rows[FP32].agreement["cosine_min"] > 0.9999
    assert rows["onnxruntime"].peak_bytes.value > 1e6
    assert jsonform.loads(form.CaseResult, jsonform.dumps(measured)) == measured


def test_a_case_is_kept_for_what_it_is(measured, tmp_path):
    kept = replace(measured, key="abc")
    form.keep_case(tmp_path, kept)
    assert form.kept_case(tmp_path, "dinov2", "abc") == kept
    assert form.kept_case(tmp_path, "dinov2", "other") is None
    assert form.kept_case(tmp_path, "nobody", "abc") is None
    (tmp_path / "cases" / "dinov2.json").write_text("{}")
    assert form.kept_case(tmp_path, "dinov2", "abc") is None


def as_measured(case: form.CaseResult, peer: str, value: float, **ours) -> form.CaseResult:
    """The case with another ratio of a peer, and with other fields of jetlift's row."""
    rows = []
    for row in case.contenders:
        if row.name == peer:
            to = tuple(replace(item, ratio=Figure(value)) for item in row.ratios)
            rows.append(replace(row, ratios=to))
        else:
            rows.append(replace(row, **ours) if row.name == INT8 else row)
    return replace(case, contenders=tuple(rows))


def test_goals_are_met_missed_and_not_measured(measured, monkeypatch):
    goal = goals.Goal("dinov2", "onnxruntime", 2.0, "twice as fast")
    absent = goals.Goal("dinov2", "torch", 3.0, "three times as fast")
    elsewhere = goals.Goal("minilm", "torch", 3.0, "not measured here")
    monkeypatch.setattr(goals, "GOALS", (goal, absent, elsewhere))

    def verdict(case):
        return goals.judge([case])[0]

    assert verdict(as_measured(measured, "onnxruntime", 2.5, right=True)).verdict == "met"
    slow = verdict(as_measured(measured, "onnxruntime", 1.5, right=True))
    assert (slow.verdict, slow.told) == ("missed", "1.50 x where 2 x was wanted")
    wrong = verdict(as_measured(measured, "onnxruntime", 9.0, right=False))
    assert wrong.verdict == "missed"
    assert "too far" in wrong.told
    coarse = replace(as_measured(measured, "onnxruntime", 9.0), fidelity=goals.MISSES)
    assert "misses its budget" in verdict(coarse).told
    _, missing = goals.judge([measured])
    assert missing.verdict == "not measured"
    assert "PyTorch eager" in missing.told


def shown(measured: form.CaseResult) -> form.PeersTable:
    from jetlift.jetson import board

    return form.PeersTable(
        "0", "2026-01-01T00:00:00Z", board.describe_machine(watch_s=0.01), (measured,),
        (), ("clip: no bundle",),
    )  # fmt: skip


def test_table_and_chart_tell_all(measured):
    whole = shown(measured)
    text = table.to_markdown(whole, chart=True)
    assert "| **jetlift INT8** | int8 |" in text
    assert "PyTorch eager (fp32): not installed" in text
    assert "OpenVINO by hand (fp32): by hand." in text
    assert "clip: no bundle" in text
    assert "the reference" in text
    assert "No GPU and no Jetson took part" in text
    drawn = chart.to_svg(whole)
    assert drawn is not None
    assert ET.fromstring(drawn).tag.endswith("svg")  # noqa: S314 - our own
    assert "PyTorch eager" in drawn
    nothing = replace(measured, contenders=measured.contenders[-1:])
    assert chart.to_svg(shown(nothing)) is None


def test_every_case_names_its_rows(tmp_path):
    cases = {
        case.name: case
        for build in CASES.values()
        for gpu in (False, True)
        for case in build(Place(None, tmp_path, gpu))
    }
    for case in cases.values():
        names = [item.name for item in case.contenders]
        assert len(set(names)) == len(names)
        assert case.reference in names
        assert {"jetlift-fp32"} <= set(names)
    for goal in goals.GOALS:
        assert {goal.peer, INT8} <= {item.name for item in cases[goal.case].contenders}


def test_trtexec_times_itself(bundle, inputs, tmp_path, monkeypatch):
    tool = tmp_path / "trtexec"
    tool.write_text(
        "#!/bin/sh\necho '[I] Latency: min = 1.2 ms, max = 3 ms, mean = 2 ms, median = 1.5 ms'\n"
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with ContenderProcess(way("trtexec", bundle), sys.executable, inputs, 1) as process:
        assert set(process.time(0, 0.004)) == {1.5}


def test_the_command_measures_keeps_and_goes_on(tmp_path, capsys):
    asked = ["--only", "padim", "--rounds", "6", "--python", f"anomalib={tmp_path / 'no'}"]
    asked += ["--threads", "1", "-o", str(tmp_path / "out")]
    assert peers_bench.main(asked) == 0
    told = capsys.readouterr()
    assert "anomalib (fp32): not installed" in told.out
    assert (tmp_path / "out" / "peers.md").read_text(encoding="utf-8") == told.out
    assert (tmp_path / "out" / "peers.svg").is_file()
    assert peers_bench.main(asked) == 0
    assert "padim: as before" in capsys.readouterr().err


def test_the_command_says_what_it_lacks(tmp_path, capsys):
    out = ["-o", str(tmp_path / "out")]
    assert peers_bench.main(["--only", "nobody", *out]) == 2
    assert "'nobody' is unknown" in capsys.readouterr().err
    assert peers_bench.main(["--rounds", "2", *out]) == 2
    assert "At least 6 rounds" in capsys.readouterr().err
    assert peers_bench.main(["--bundle", "dinov2", *out]) == 2
    assert "NAME=PATH" in capsys.readouterr().err
    assert peers_bench.main(["--only", "dinov2", *out]) == 0
    assert "No bundle of dinov2 was named" in capsys.readouterr().out


def test_a_missed_goal_is_named_and_ends_with_1(measured, tmp_path, capsys, monkeypatch):
    goal = goals.Goal("dinov2", "onnxruntime", 1e9, "a billion times as fast")
    monkeypatch.setattr(goals, "GOALS", (goal,))
    monkeypatch.setattr(peers_bench, "run_model", lambda *_: [measured])
    assert peers_bench.main(["--only", "padim", "-o", str(tmp_path)]) == 1
    assert "Missed: a billion times as fast" in capsys.readouterr().err


def test_environments_are_listed_where_they_could_be_made(tmp_path):
    made = {
        "empty": environments.Environment(("here",), ("pip",)),
        "broken": environments.Environment(("gone",), ("./no-such-folder",)),
    }
    assert environments.make(tmp_path / "all", sys.executable, made) == ["broken"]
    listed = (tmp_path / "all" / "pythons.txt").read_text(encoding="utf-8")
    assert listed == f"here={tmp_path / 'all' / 'empty' / 'bin' / 'python'}\n"
    assert environments.make(tmp_path / "none", str(tmp_path / "no"), made) == ["empty", "broken"]
    assert environments.main([]) == 2
