"""Other quantisers beside jetlift, with ONNX Runtime's for real and a stand-in that fails."""

from __future__ import annotations

import importlib.util
import json
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import graphs, tiny_bundle
from hypothesis import given
from hypothesis import strategies as st

from jetlift.benchmarks import (
    compare_chart,
    compare_table,
    precision_compare,
    quantiser_child,
    quantisers,
)
from jetlift.benchmarks.compare_form import Table, read_table, write_table
from jetlift.benchmarks.compare_judge import Judge
from jetlift.engines.ops import count
from jetlift.runtime.bundle import Bundle

STAND_IN = """#!{python}
import json, os, shutil, sys
request = sys.argv[2]
with open({log!r}, "a") as log:
    log.write(request + chr(10))
if request == "probe":
    if {missing!r}:
        sys.stderr.write("onnx_graphsurgeon" + chr(10))
        sys.exit(66)
    print(json.dumps({{"nvidia-modelopt": {version!r}}}))
    sys.exit(0)
with open(sys.argv[3]) as file:
    told = json.load(file)
{does}
"""


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    random = np.random.default_rng(0)
    for number in range(16):
        x = random.standard_normal((1, 3, 16, 16)).astype(np.float32)
        np.savez(folder / f"{number:02}.npz", x=x)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Bundle:
    """A small convolutional net at fp32 and int8, judged on eight samples."""
    from jetlift.export.make import Request, export_onnx

    folder = tmp_path_factory.mktemp("bundle")
    onnx.save(onnx_of(graphs.conv_net()), folder / "net.onnx")
    request = Request(folder / "out", ("fp32", "int8"), samples, "cosine_mean>=0.9")
    return export_onnx(folder / "net.onnx", request, shapes={"x": (1, 3, 16, 16)})


def onnx_of(model) -> onnx.ModelProto:
    import onnx_ir as ir

    return ir.to_proto(model)


def stand_in(
    folder: Path, does: str = "sys.exit(3)", *, version: str = "0.0", missing: bool = False
) -> Path:
    """What looks like a Python with Model Optimizer; it logs what it is asked."""
    path = folder / "python"
    log = str(folder / "asked")
    text = STAND_IN.format(
        python=sys.executable, log=log, missing=missing, version=version, does=does
    )
    path.write_text(text)
    path.chmod(0o755)
    return path


def compare(bundle: Bundle, samples: Path, out: Path, *more: str | Path) -> int:
    given = [str(bundle.folder), "--samples", str(samples), "-o", str(out), *map(str, more)]
    return precision_compare.main(given)


@pytest.fixture(scope="module")
def compared(
    bundle: Bundle, samples: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Table]:
    """Everything that is installed where the tests run, without Model Optimizer."""
    out = tmp_path_factory.mktemp("compared")
    methods = "jetlift,ort-s8s8,ort-s8s8-weighted,ort-u8s8,ort-dynamic"
    assert compare(bundle, samples, out, "--methods", methods) == 0
    return out, read_table(out)


def test_all_are_judged_by_one_rule(compared: tuple[Path, Table], bundle: Bundle) -> None:
    (comparison,) = compared[1].comparisons
    assert [r.method for r in comparison.results] == [
        "jetlift", "ort-s8s8", "ort-s8s8-weighted", "ort-u8s8", "ort-dynamic"
    ]  # fmt: skip
    for result in comparison.results:
        assert result.figures is not None
        assert 0.9 < result.figures["y.cosine_mean"] < 1
        assert result.remarks == ()
        assert result.attention_int8_share is None
    # every form of INT8 counts: signed, unsigned, ConvInteger; jetlift keeps the first layer wide
    ours, *others = comparison.results
    assert [result.int8_share for result in others] == [1.0] * 4
    fidelity = bundle.variant("main", "int8").fidelity
    assert fidelity is not None
    assert ours.figures == pytest.approx(fidelity.figures)
    assert comparison.judged == fidelity.samples
    assert comparison.calibration == bundle.manifest.calibration["main"]


@pytest.mark.usefixtures("compared")
def test_the_bundle_is_left_as_it_was(bundle: Bundle) -> None:
    assert Bundle.open(bundle.folder).sha256 == bundle.sha256


def test_nothing_written_names_a_path(compared: tuple[Path, Table], bundle: Bundle) -> None:
    out, _ = compared
    for path in (*out.glob("compare.*"), *out.glob("methods/*")):
        text = path.read_text(encoding="utf-8")
        assert str(bundle.folder.parent) not in text
        assert str(out.parent) not in text


def test_the_document_tells_all(compared: tuple[Path, Table]) -> None:
    out, table = compared
    text = (out / "compare.md").read_text(encoding="utf-8")
    for result in table.comparisons[0].results:
        assert f"| {result.title} |" in text
        assert f"**{result.title}**" in text
    assert "100.0%" in text
    assert "8 samples" in text


def test_the_chart_is_a_file_of_its_own(compared: tuple[Path, Table]) -> None:
    pytest.importorskip("matplotlib")
    svg = (compared[0] / "compare.svg").read_text(encoding="utf-8")
    root = ET.fromstring(svg)  # noqa: S314 - made here
    said = root.attrib["aria-label"]
    assert "ONNX Runtime dynamic: y.cosine_mean 0.9" in said
    # no variable without a colour
    for name in ("--ink", "--muted", "--line", "--card", "--int8", "--sans"):
        assert svg.count(f"{name}:") == (1 if name == "--sans" else 2)


def test_results_are_used_again(
    compared: tuple[Path, Table], bundle: Bundle, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, table = compared
    before = {path: path.stat().st_mtime_ns for path in out.glob("methods/*")}
    methods = ",".join(result.method for result in table.comparisons[0].results)
    assert compare(bundle, samples, out, "--methods", methods) == 0
    assert capsys.readouterr().err.count("as before") == 5
    assert {path: path.stat().st_mtime_ns for path in out.glob("methods/*")} == before
    assert read_table(out) == table


def test_what_differs_is_made_again(bundle: Bundle, samples: Path, tmp_path: Path) -> None:
    does = "shutil.copyfile(told['graph'], told['destination'])"
    given = ("--methods", "modelopt-max", "--modelopt-python")
    out = tmp_path / "out"

    def asked_after(*more: str, version: str) -> int:
        python = stand_in(tmp_path, does, version=version)
        assert compare(bundle, samples, out, *given, python, *more) == 0
        return (tmp_path / "asked").read_text().split().count("quantise")

    assert asked_after(version="1.0") == 1
    assert asked_after(version="1.0") == 1
    assert asked_after(version="1.1") == 2
    assert asked_after("--calibrate-on", "both", version="1.1") == 3
    assert asked_after("--judge-on", "search", "--calibrate-on", "both", version="1.1") == 4
    (out / "methods" / "modelopt-max.json").write_text("{", encoding="utf-8")
    assert asked_after("--judge-on", "search", "--calibrate-on", "both", version="1.1") == 5


def test_peers_see_the_calibration_set_alone(bundle: Bundle, samples: Path, tmp_path: Path) -> None:
    kept = tmp_path / "feeds.npz"
    does = f"shutil.copyfile(told['feeds'], {str(kept)!r}); sys.exit(1)"
    python = stand_in(tmp_path, does)
    given = ("--methods", "modelopt-max", "--modelopt-python", python)
    assert compare(bundle, samples, tmp_path / "out", *given) == 0
    assert "compare.svg" not in {path.name for path in (tmp_path / "out").iterdir()}
    reader = quantiser_child.Reader(str(kept))
    first = reader.get_first()["x"]
    seen = []
    while (feeds := reader.get_next()) is not None:
        seen.append(feeds["x"])
    assert len(seen) == bundle.manifest.calibration["main"].count == 4
    for number, array in enumerate(seen):
        with np.load(samples / f"{number:02}.npz") as arrays:
            assert np.array_equal(array, arrays["x"])
    reader.rewind()
    assert np.array_equal(reader.get_next()["x"], first)  # type: ignore[index]


@pytest.mark.parametrize(
    ("does", "remark"),
    [
        (
            "sys.stderr.write('Traceback' + chr(10) + 'RuntimeError: no scales'); sys.exit(3)",
            "NVIDIA Model Optimizer, max failed with exit status 3: RuntimeError: no scales",
        ),
        ("os.kill(os.getpid(), 9)", "was stopped by signal 9"),
        ("pass", "said that it was done and wrote no graph"),
        ("open(told['destination'], 'wb').write(b'no graph')", "ONNX Runtime could not load"),
    ],
)
def test_a_peer_that_fails_is_a_row(
    bundle: Bundle, samples: Path, tmp_path: Path, does: str, remark: str
) -> None:
    python = stand_in(tmp_path, does)
    methods = ("--methods", "jetlift,modelopt-max", "--modelopt-python", python)
    assert compare(bundle, samples, tmp_path / "out", *methods) == 0
    ours, theirs = read_table(tmp_path / "out").comparisons[0].results
    assert ours.figures is not None
    assert (theirs.figures, theirs.int8_share) == (None, None)
    assert remark in theirs.remarks[0]
    text = (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")
    assert remark in text
    assert str(tmp_path) not in text


def test_a_peer_asked_for_by_name_must_be_there(
    bundle: Bundle, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = stand_in(tmp_path, missing=True)
    given = ("--methods", "jetlift,modelopt-max", "--modelopt-python", python)
    assert compare(bundle, samples, tmp_path / "out", *given) == 4
    assert "'onnx_graphsurgeon' is not installed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    # named by its Python, it was asked for as well
    assert compare(bundle, samples, tmp_path / "out", "--modelopt-python", python) == 4
    none = ("--methods", "modelopt-max", "--modelopt-python", tmp_path / "nowhere")
    assert compare(bundle, samples, tmp_path / "out", *none) == 4


def test_a_peer_that_is_not_there_is_named(
    bundle: Bundle, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("modelopt") is not None:
        pytest.skip("Model Optimizer is installed beside jetlift here")
    kept = {name: quantisers.METHODS[name] for name in ("jetlift", "modelopt-max", "ort-dynamic")}
    monkeypatch.setattr(quantisers, "METHODS", kept)
    monkeypatch.setattr("jetlift.benchmarks.compare_request.METHODS", kept)
    assert compare(bundle, samples, tmp_path / "out") == 0
    (comparison,) = read_table(tmp_path / "out").comparisons
    assert [result.method for result in comparison.results] == ["jetlift", "ort-dynamic"]
    (reason,) = comparison.not_installed
    assert "'modelopt' is not installed" in reason
    assert reason in (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")


def test_other_samples_are_refused(
    bundle: Bundle, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in sorted(samples.iterdir())[1:]:
        (other / path.name).write_bytes(path.read_bytes())
    assert compare(bundle, other, tmp_path / "out", "--methods", "jetlift") == 2
    assert "not the samples that the bundle was exported with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--methods", "magic"], "Method 'magic' is unknown"),
        (["--methods", "jetlift-fp16"], "no int8-fp16 variant"),
        (["--part", "other"], "'other' is not in bundle"),
        (["--join", "x"], "--join takes folders"),
    ],
)
def test_what_cannot_be_asked(
    bundle: Bundle,
    samples: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    told: str,
) -> None:
    assert compare(bundle, samples, tmp_path / "out", *given) == 2
    assert told in capsys.readouterr().err


def test_a_bundle_without_samples_is_not_enough(capsys: pytest.CaptureFixture[str]) -> None:
    assert precision_compare.main(["-o", "out"]) == 2
    assert "needs a bundle and its samples" in capsys.readouterr().err


def test_random_weights_are_refused(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = tiny_bundle.tiny_bundle(tmp_path / "tiny")
    assert compare(random, samples, tmp_path / "out", "--part", "image") == 2
    assert "random weights have no fidelity" in capsys.readouterr().err


def test_comparisons_are_joined(compared: tuple[Path, Table], tmp_path: Path) -> None:
    out, table = compared
    (comparison,) = table.comparisons
    rates = tuple(
        replace(result, figures={"wer": 20.0 + i, "wer_fp32": 20.0, "wer_change_low": i - 1.0,
                                 "wer_change_high": i + 1.0})
        for i, result in enumerate(comparison.results)
    )  # fmt: skip
    failed = replace(rates[1], figures=None, int8_share=None, remarks=("It died",))
    other = replace(
        comparison, model="other", budget="wer<=+1", results=(rates[0], failed, *rates[2:])
    )
    write_table(tmp_path / "other", replace(table, comparisons=(other,)))
    folders = [str(out), str(tmp_path / "other")]
    joined = tmp_path / "joined"
    assert precision_compare.main(["--join", *folders, "-o", str(joined)]) == 0
    assert read_table(joined).comparisons == (comparison, other)
    text = (joined / "compare.md").read_text(encoding="utf-8")
    assert (
        f"| {rates[2].title} | 100.0% | \u2013 | 22.00 (fp32 20.00; +1.00 to +3.00) | missed |"
        in text
    )
    assert f"- {failed.title}: It died." in text
    again = tmp_path / "again"
    assert precision_compare.main(["--join", str(joined), "-o", str(again)]) == 0
    assert (again / "compare.md").read_bytes() == (joined / "compare.md").read_bytes()
    svg = compare_chart.to_svg(read_table(joined))
    assert svg is not None
    assert "no figure" in svg
    assert "fp32 20" in svg


@pytest.mark.parametrize(("content", "code"), [(None, 2), ("{}", 3), ("no JSON", 3)])
def test_what_cannot_be_joined(tmp_path: Path, content: str | None, code: int) -> None:
    if content is not None:
        (tmp_path / "compare.json").write_text(content, encoding="utf-8")
    given = ["--join", str(tmp_path), "-o", str(tmp_path / "out")]
    assert precision_compare.main(given) == code
    assert not (tmp_path / "out").exists()


def test_products_of_activations_count_apart(tmp_path: Path) -> None:
    weights = {"w": np.random.default_rng(0).standard_normal((16, 16))}
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["h"], name="weighted"),
        onnx.helper.make_node("Transpose", ["h"], ["t"], name="turn", perm=[0, 2, 1]),
        onnx.helper.make_node("MatMul", ["h", "t"], ["y"], name="product"),
    ]
    shapes = {"inputs": {"x": [1, 4, 16]}, "outputs": {"y": [1, 4, 4]}}
    path = tmp_path / "net.onnx"
    onnx.save(onnx_of(graphs.model(nodes, weights, **shapes)), path)
    assert quantiser_child.weighted_nodes(str(path)) == ["weighted"]
    quantisers.save_feeds(tmp_path / "x.npz", [{"x": np.ones((1, 4, 16), np.float32)}])
    for name, int8 in (("ort-s8s8", 1.0), ("ort-s8s8-weighted", 0.0), ("ort-dynamic", 0.0)):
        peer = quantisers.Peer(sys.executable, {})
        folder = tmp_path / name
        folder.mkdir()
        made = quantisers.quantise(quantisers.METHODS[name], peer, path, tmp_path / "x.npz", folder)
        counted = count(onnx.load(made), {})
        assert _int8_share(counted.nodes, weighted=True) == 1.0
        assert _int8_share(counted.nodes, weighted=False) == int8


def _int8_share(rows, *, weighted: bool) -> float:
    heavy = [row for row in rows if row.precision is not None and row.weighted is weighted]
    narrow = sum(row.operations for row in heavy if row.precision == "int8")
    return narrow / sum(row.operations for row in heavy)


def test_a_graph_of_quantised_operators_counts(bundle: Bundle, tmp_path: Path) -> None:
    # The older form of ONNX Runtime: QLinearConv in place of Q, DQ and Conv.
    from onnxruntime import quantization

    feeds = tmp_path / "feeds.npz"
    x = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
    quantisers.save_feeds(feeds, [{"x": x}])
    fp32 = bundle.path(bundle.variant("main", "fp32").file)
    for kind in quantization.QuantType.QInt8, quantization.QuantType.QUInt8:
        made = tmp_path / "int8.onnx"
        quantization.quantize_static(
            str(fp32),
            str(made),
            quantiser_child.Reader(str(feeds)),
            quant_format=quantization.QuantFormat.QOperator,
            activation_type=kind,
        )
        assert "QLinearConv" in {node.op_type for node in onnx.load(made).graph.node}
        judge = Judge(bundle, "main", None, lambda _: None)  # type: ignore[arg-type]
        assert judge.shares(made) == (1.0, None)


def test_a_graph_that_cannot_be_counted_whole_has_no_share(
    bundle: Bundle, samples: Path, tmp_path: Path
) -> None:
    does = """
import onnx
model = onnx.load(told["graph"])
for node in model.graph.node:
    if node.op_type == "Relu":
        model.graph.node.remove(node)
        model.graph.node.insert(1, onnx.helper.make_node(
            "Gelu", list(node.input), list(node.output), domain="com.microsoft"))
        break
del model.graph.value_info[:]
model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
onnx.save(model, told["destination"])
"""
    python = stand_in(tmp_path, does)
    methods = ("--methods", "modelopt-max", "--modelopt-python", python)
    assert compare(bundle, samples, tmp_path / "out", *methods) == 0
    (result,) = read_table(tmp_path / "out").comparisons[0].results
    assert result.figures is not None
    assert result.int8_share is None
    assert "of fp32's weighted operations are counted" in result.remarks[0]


def test_tensorrt_rtx_says_what_it_takes(bundle: Bundle, samples: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    pytest.importorskip("polygraphy")
    methods = ("--methods", "jetlift,ort-dynamic", "--rtx")
    assert compare(bundle, samples, tmp_path / "out", *methods) == 0
    ours, dynamic = read_table(tmp_path / "out").comparisons[0].results
    assert ours.rtx is not None
    assert ours.rtx.built
    assert ours.rtx.int8_share == pytest.approx(ours.int8_share, abs=0.01)
    assert dynamic.rtx is not None
    assert not dynamic.rtx.built
    assert "TensorRT-RTX does not take" in dynamic.rtx.told
    assert "| refused |" in (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_nines_keep_the_order(a: float, b: float) -> None:
    first, second = compare_chart._nines(a), compare_chart._nines(b)
    assert 0 <= first <= 4
    if a <= b:
        assert first <= second


def test_nines_are_counted() -> None:
    assert [compare_chart._nines(value) for value in (0, 0.9, 0.99, 1, -1)] == pytest.approx(
        [0, 1, 2, 4, 0]
    )


def test_last_words_are_what_was_said() -> None:
    assert quantisers.last_words("first\nsecond\r 50%|##| \r\x1b[31mred\x1b[0m\n\n") == "red"
    assert quantisers.last_words("\n \n") == ""


def test_figures_of_the_budget_come_first(compared: tuple[Path, Table]) -> None:
    (comparison,) = compared[1].comparisons
    other = replace(comparison, budget="y.cosine_min>=0.5, cosine_mean>=0.5")
    assert compare_table.figure_names(other)[:2] == ["y.cosine_min", "y.cosine_mean"]
    assert json.loads((compared[0] / "compare.json").read_text())["comparisons"]
