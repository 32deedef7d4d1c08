"""The door: what each command does with good input and with bad, and its exit code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnx_ir as ir
import pytest
from helpers import graphs, tiny_bundle

from jetlift.__main__ import run
from jetlift.runtime.bundle import Bundle


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(6):
        picture = cv2.GaussianBlur(random.integers(0, 256, (90, 120, 3), np.uint8), (0, 0), 3)
        cv2.imwrite(str(folder / f"{index}.jpg"), picture)
    return folder


@pytest.fixture
def own_graph(tmp_path) -> Path:
    path = tmp_path / "My Net.onnx"
    ir.save(graphs.mlp(), path)
    return path


@pytest.fixture
def own_samples(tmp_path) -> Path:
    folder = tmp_path / "samples"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(64):
        np.savez(folder / f"{index:02d}.npz", x=random.standard_normal((1, 16)).astype(np.float32))
    return folder


def tiny(folder: Path, **options: object) -> Path:
    """A bundle of small graphs with seeded weights, which stand for trained ones."""
    return tiny_bundle.tiny_bundle(folder, **{"random": False, **options}).folder


def refused(capsys, code: int, *arguments: object) -> str:
    """Run a command that must fail; its one paragraph."""
    assert run([str(argument) for argument in arguments]) == code
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("jetlift: "), told
    assert "Unforeseen" not in told
    return told


def shown(capsys, *arguments: object) -> str:
    """Run a command that must succeed; what it printed on stdout."""
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def nothing_of(path: Path) -> bool:
    return not path.exists() and not list(path.parent.glob(f".{path.name}.partial-*"))


def test_own_graph_goes_all_the_way(capsys, tmp_path, own_graph, own_samples):
    out = tmp_path / "bundle"
    told = shown(
        capsys, "export", "--onnx", own_graph, "--samples", own_samples, "-o", out, "--json"
    )
    manifest = json.loads(told)
    assert manifest["model"] == "my-net"
    variants = manifest["parts"]["main"]["variants"]
    assert variants.keys() == {"fp32", "fp16", "int8"}
    assert variants["int8"]["fidelity"]["samples"]["count"] == 32
    assert manifest["calibration"]["main"]["count"] == 16
    built = json.loads(shown(capsys, "build", out, "--json"))
    assert [passport["variant"] for passport in built] == ["fp32", "fp16", "int8"]
    checked = json.loads(shown(capsys, "check", out, "--json"))
    assert {row["verdict"] for row in checked["engines"]} == {"load"}
    report = tmp_path / "report"
    shown(capsys, "bench", out, "-o", report, "--time-limit-s", "0.3", "--precision", "fp32,int8")
    assert {p.name for p in report.iterdir()} == {
        "record.json",
        "report.html",
        "report.md",
        "results.csv",
    }
    assert "no tasks" in refused(capsys, 2, "run", out, own_samples)


def test_embed_search_and_anomaly_on_a_tiny_bundle(capsys, tmp_path, pictures):
    bundle = tiny(tmp_path / "bundle")
    lines = shown(capsys, "run", bundle, pictures, "--task", "embed").splitlines()
    assert [Path(json.loads(line)["source"]).name for line in lines] == [
        f"{index}.jpg" for index in range(6)
    ]
    out = tmp_path / "results"
    shown(capsys, "run", bundle, pictures / "0.jpg", pictures / "1.jpg", "-o", out)
    assert len((out / "results.jsonl").read_text().splitlines()) == 2
    assert "not empty" in refused(capsys, 2, "run", bundle, pictures, "-o", out)
    shown(capsys, "index", bundle, pictures, "-o", tmp_path / "i.index")
    found = shown(capsys, "search", tmp_path / "i.index", pictures / "3.jpg")
    best = json.loads(found)["hits"][0]
    assert Path(best["source"]).name == "3.jpg"
    assert best["score"] == pytest.approx(1, abs=1e-4)
    shown(capsys, "fit", bundle, pictures, "-o", tmp_path / "good.fit")
    scores = tmp_path / "scores"
    shown(
        capsys, "run", bundle, pictures, "--task", "anomaly", "--fit", tmp_path / "good.fit",
        "-o", scores,
    )  # fmt: skip
    assert len(list((scores / "pictures").iterdir())) == 6


def test_artefacts_of_another_bundle_are_refused(capsys, tmp_path, pictures):
    first = tiny(tmp_path / "first")
    second = tiny(tmp_path / "second", precisions=("fp32",))
    shown(capsys, "index", first, pictures, "-o", tmp_path / "i.index")
    refused(
        capsys, 3, "search", tmp_path / "i.index", pictures / "0.jpg", "--bundle", second,
    )  # fmt: skip
    (first / "bundle.json").unlink()
    refused(capsys, 2, "search", tmp_path / "i.index", pictures / "0.jpg")


def test_truncated_picture_among_good_ones_is_named_and_the_rest_goes_on(
    capsys, tmp_path, pictures
):
    bundle = tiny(tmp_path / "bundle")
    whole = (pictures / "2.jpg").read_bytes()
    (pictures / "2.jpg").write_bytes(whole[: len(whole) // 2])
    assert run(["run", str(bundle), str(pictures), "-o", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err
    assert "2.jpg" in told
    assert "5 done, 1 skipped" in told


def test_bad_input_is_one_paragraph_with_code_2(capsys, tmp_path, pictures):
    bundle = tiny(tmp_path / "bundle")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no film")
    for bad in ("missing.jpg", "empty", "text.mp4"):
        assert bad in refused(capsys, 2, "run", bundle, tmp_path / bad)
    refused(capsys, 2, "run", bundle, "rtsp://127.0.0.1:1/x")
    assert "not a bundle" in refused(capsys, 2, "run", pictures, pictures)
    assert "One of" in refused(capsys, 2, "run", bundle, pictures, "--task", "sing")
    assert "fp32" in refused(capsys, 2, "run", bundle, pictures, "--precision", "int3")
    refused(capsys, 2, "build", bundle, "--target", "toaster")


def test_bad_export_arguments_are_code_2_and_leave_nothing(
    capsys, tmp_path, own_graph, own_samples
):
    out = tmp_path / "bundle"
    assert "Did you mean dinov2-small" in refused(capsys, 2, "export", "dinov2-smal", "-o", out,
                                                  "--precision", "fp32")  # fmt: skip
    refused(capsys, 2, "export", "-o", out)
    refused(capsys, 2, "export", "minilm", "--onnx", own_graph, "-o", out)
    assert "without samples" in refused(capsys, 2, "export", "--onnx", own_graph, "-o", out)
    refused(capsys, 2, "export", "--onnx", own_graph, "-o", out, "--precision", "fp8,fp32")
    (tmp_path / "fake.onnx").write_text("this is no graph")
    fake = refused(capsys, 2, "export", "--onnx", tmp_path / "fake.onnx", "-o", out,
                   "--precision", "fp32")  # fmt: skip
    assert "is not an ONNX model" in fake
    (tmp_path / "none").mkdir()
    refused(capsys, 2, "export", "--onnx", own_graph, "--samples", tmp_path / "none", "-o", out)
    (own_samples / "00.npz").write_bytes(b"not a zip")
    refused(capsys, 2, "export", "--onnx", own_graph, "--samples", own_samples, "-o", out)
    assert nothing_of(out)


def test_missed_fidelity_is_code_1_unless_kept(capsys, tmp_path, own_graph, own_samples):
    out = tmp_path / "bundle"
    arguments = ("export", "--onnx", own_graph, "--samples", own_samples, "-o", out,
                 "--fidelity", "y.cosine_min>=0.99999999")  # fmt: skip
    told = refused(capsys, 1, *arguments)
    assert "y.cosine_min is" in told
    assert "--keep" in told
    assert nothing_of(out)
    shown(capsys, *arguments, "--keep")
    assert Bundle.open(out).variant("main", "int8").fidelity.met is False


def test_altered_bundle_is_code_3(capsys, tmp_path, pictures):
    bundle = tiny(tmp_path / "bundle")
    file = Bundle.open(bundle).variant("image", "int8").file
    content = bytearray((bundle / file).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / file).write_bytes(content)
    assert f"altered {file}" in refused(capsys, 3, "run", bundle, pictures)
    assert "altered" in refused(capsys, 3, "check", bundle)


def test_manifest_path_that_leaves_the_bundle_is_code_3(capsys, tmp_path, pictures):
    bundle = tiny(tmp_path / "bundle")
    path = bundle / "bundle.json"
    manifest = json.loads(path.read_text())
    manifest["files"][0]["path"] = "../../x"
    path.write_text(json.dumps(manifest))
    assert "../../x" in refused(capsys, 3, "run", bundle, pictures)


def test_altered_engine_is_code_3(capsys, tmp_path, pictures):
    bundle = tiny(tmp_path / "bundle")
    shown(capsys, "build", bundle, "--precision", "fp32")
    engine = Bundle.open(bundle).engine_path("cpu", "image", "fp32")
    engine.write_bytes(engine.read_bytes()[:-1])
    refused(capsys, 3, "run", bundle, pictures)
    refused(capsys, 3, "check", bundle)


def test_models_and_doctor_speak_json(capsys):
    models = json.loads(shown(capsys, "models", "--json"))
    assert [row["model"] for row in models][:2] == ["dinov2-small", "minilm"]
    assert {"whisper-tiny-en", "clip-vit-b32", "vit-b16"} <= {row["model"] for row in models}
    assert all(row.keys() >= {"licence", "source", "parameters"} for row in models)
    assert "dinov2-small" in shown(capsys, "models")
    assert json.loads(shown(capsys, "doctor", "--json"))


def test_wrong_option_is_code_2():
    assert run(["run", "--nonsense"]) == 2
    assert run(["nonsense"]) == 2


def test_every_command_has_help_with_an_example():
    from jetlift.cli import app

    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert command.epilog.startswith(f"Example: jetlift {name}"), name


def export_in_child(out: Path, own_graph: Path, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jetlift", "export", "--onnx", str(own_graph), "-o", str(out),
               "--precision", "fp32,fp16"]  # fmt: skip
    return subprocess.Popen(
        command, cwd=out.parent, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        **options,
    )  # fmt: skip


def test_interrupted_export_leaves_nothing(tmp_path, own_graph):
    out = tmp_path / "bundle"
    child = export_in_child(out, own_graph)
    # The aside folder appears when the work begins; from then on an interrupt must clean up.
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".bundle.partial-*")) and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=60)
    assert child.returncode == 130, told
    assert "Interrupted" in told
    assert nothing_of(out)


def test_full_disk_during_export_is_code_4_and_leaves_nothing(tmp_path, own_graph):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(disk)], check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        child = export_in_child(disk / "bundle", own_graph)
        _, told = child.communicate(timeout=120)
        assert child.returncode == 4, told
        assert "No space left on device" in told
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
