"""From a bundle to a TensorRT session: passport, library, options. GPU and library are fakes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.tiny_bundle import tiny_bundle
from helpers.verdict_cases import COMPATIBLE, SETTINGS

from jetlift.runtime import passport as passports
from jetlift.runtime import verdict_gpu
from jetlift.runtime.bundle import sha256_of
from jetlift.runtime.errors import PassportError, UnknownNameError
from jetlift.runtime.host import GpuState, here
from jetlift.runtime.passport import SCHEMA_VERSION, Passport, onnx_sha256, write_passport
from jetlift.runtime.receipt import UNOBSERVED, Receipt, Speed
from jetlift.runtime.session import GpuOptions, cuda, open_session, tensorrt
from jetlift.runtime.session.fake_cuda import FakeDevice
from jetlift.runtime.session.fake_model import FakeModel, FakeTensor
from jetlift.runtime.session.fake_tensorrt import FakeLibrary
from jetlift.runtime.session.trt_layers import LayerSession

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.host import Host

MODEL = FakeModel(
    (FakeTensor("x", "FLOAT", (-1, 16), (((1, 16), (8, 16)),)),),
    (FakeTensor("y", "FLOAT", (-1, 4)),),
    lambda given: {"y": given["x"][:, :4]},
    lambda shapes, _: {"y": (shapes["x"][0], 4)},
    plan=b"the engine",
)
FEEDS = {"x": np.linspace(-2, 2, 32, dtype=np.float32).reshape(2, 16)}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """This machine, as if it had a GPU and TensorRT."""
    host = replace(
        here(gpu=False),
        libraries={"tensorrt": "10.13.3.9", "tensorrt_rtx": "1.7.1.116"},
        compute_capabilities=("8.6",),
        gpu=GpuState("Some GPU", "8.6", 82, "13.0"),
        board=None,
    )
    monkeypatch.setattr(passports, "here", lambda **_: host)
    return host


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    """The fake library on the fake device, in the places of the real ones."""
    device = FakeDevice()
    library = FakeLibrary(device, MODEL)
    asked: list[str] = []

    def import_library(name: str) -> Any:
        asked.append(name)
        return library

    monkeypatch.setattr(tensorrt, "import_library", import_library)
    monkeypatch.setattr(cuda, "cuda_device", lambda: device)
    library.asked = asked  # type: ignore[attr-defined]
    return library


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "tiny", precisions=("fp32",))


def built(bundle: Bundle, host: Host, target: str, library: str, **other: Any) -> None:
    """An engine with a passport, where a build would have put it."""
    path = bundle.engine_path(target, "mlp", "fp32")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(MODEL.plan)
    versions = {"tensorrt": "10.13.3.9", "tensorrt_rtx": "1.7.1.116", "openvino": "2026.4.1"}
    made: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "bundle_sha256": bundle.sha256,
        "model": "tiny",
        "engine_sha256": sha256_of(path),
        "engine_size_bytes": path.stat().st_size,
        "onnx_sha256": onnx_sha256(bundle, "mlp", "fp32"),
        "part": "mlp",
        "variant": "fp32",
        "target": target,
        "library": library,
        "library_version": versions[library],
        "arithmetic": "as typed",
        "machine": host.machine,
        "cpu_name": None,
        "isa": (),
        "compute_capability": "8.6",
        "cuda_version": "13.0",
        "built_on": passports.built_on(host),
        "settings": SETTINGS,
        "receipt": Receipt(UNOBSERVED, "nothing", "not observed", {}, 1.0, None, None, 0, (), {}),
        "speed": Speed("not measured", note="no GPU"),
        "jetlift": "0.1.0",
        "built_at": "2026-01-01T00:00:00Z",
    }
    write_passport(Passport(**(made | other)), path)


@pytest.mark.parametrize(
    ("target", "library"),
    [
        ("gpu", "tensorrt"),
        ("gpu-sm86", "tensorrt"),
        ("rtx-sm86", "tensorrt_rtx"),
        ("agx-orin-64gb", "tensorrt"),
        ("orin-nano-8gb-super", "tensorrt"),
        ("thor-t5000", "tensorrt"),
    ],
)
def test_a_target_of_tensorrts_opens_its_engine(
    bundle: Bundle, host: Host, machine: Any, target: str, library: str
) -> None:
    built(bundle, host, target, library)
    with open_session(bundle, "mlp", "fp32", target=target) as session:
        assert session.info.library == library
        assert session.inputs == bundle.manifest.parts["mlp"].inputs
        np.testing.assert_array_equal(session.run(FEEDS)["y"], FEEDS["x"][:, :4])
    assert machine.asked == [library]
    assert machine.device.live == []


def test_the_lean_runtime_loads_a_version_compatible_engine(
    bundle: Bundle, host: Host, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lean = replace(host, libraries={"tensorrt_lean": "10.13.3.9"})
    monkeypatch.setattr(passports, "here", lambda **_: lean)
    built(bundle, host, "gpu", "tensorrt", settings=COMPATIBLE)
    with open_session(bundle, "mlp", "fp32", target="gpu") as session:
        assert session.info.library == "tensorrt_lean"
        assert session._runtime.engine_host_code_allowed  # type: ignore[attr-defined]
    assert machine.asked == ["tensorrt_lean"]


@pytest.mark.usefixtures("machine")
def test_no_other_engine_may_bring_code_for_the_host(bundle: Bundle, host: Host) -> None:
    built(bundle, host, "gpu", "tensorrt")
    with open_session(bundle, "mlp", "fp32", target="gpu") as session:
        assert not session._runtime.engine_host_code_allowed  # type: ignore[attr-defined]


def test_options_reach_the_session(bundle: Bundle, host: Host, machine: Any) -> None:
    built(bundle, host, "gpu", "tensorrt")
    options = GpuOptions(cuda_graph=True, mapped=True, overlap=True)
    with open_session(bundle, "mlp", "fp32", target="gpu", gpu=options) as session:
        for _ in range(6):
            session.run(FEEDS)
        session.submit(FEEDS)  # type: ignore[attr-defined]
        session.submit(FEEDS)  # type: ignore[attr-defined]
    calls = set(machine.device.log)
    assert {"launch", "wait"} <= calls
    assert not {"copy_in", "copy_out"} & calls


@pytest.mark.usefixtures("machine")
def test_a_session_that_counts_layers(bundle: Bundle, host: Host) -> None:
    built(bundle, host, "gpu", "tensorrt")
    options = GpuOptions(layers=True)
    with open_session(bundle, "mlp", "fp32", target="gpu", gpu=options) as session:
        assert isinstance(session, LayerSession)
        session.run(FEEDS)
        assert list(session.take_layers()) == [name for name, _ in MODEL.layers]


def test_an_engine_of_another_graph_is_refused_by_its_tensors(
    bundle: Bundle, host: Host, machine: Any
) -> None:
    built(bundle, host, "gpu", "tensorrt")
    machine.model = replace(MODEL, inputs=(FakeTensor("z", "FLOAT", (1, 16)),))
    with pytest.raises(PassportError, match="belongs to another graph"):
        open_session(bundle, "mlp", "fp32", target="gpu")
    assert machine.device.live == []


@pytest.mark.usefixtures("machine")
def test_what_the_judgement_notices_is_told(
    bundle: Bundle, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(bundle, host, "gpu", "tensorrt")
    monkeypatch.setattr(verdict_gpu, "notices", lambda *_: ("The clocks differ.",))
    notices: list[str] = []
    with open_session(bundle, "mlp", "fp32", target="gpu", notices=notices):
        assert notices == ["The clocks differ."]


def test_an_engine_is_judged_before_anything_is_imported(
    bundle: Bundle, host: Host, machine: Any
) -> None:
    built(bundle, host, "gpu", "tensorrt")
    bundle.engine_path("gpu", "mlp", "fp32").write_bytes(b"the engime")
    with pytest.raises(PassportError, match="altered"):
        open_session(bundle, "mlp", "fp32", target="gpu")
    built(bundle, host, "rtx-sm86", "openvino")
    with pytest.raises(PassportError):
        open_session(bundle, "mlp", "fp32", target="rtx-sm86")
    assert machine.asked == []


@pytest.mark.parametrize("target", ["abacus", "gpu-smx", "../orin", "orin/nano", "GPU", ""])
def test_names_that_are_no_targets_are_refused(bundle: Bundle, target: str) -> None:
    with pytest.raises(UnknownNameError):
        open_session(bundle, "mlp", "fp32", target=target)


def test_a_board_without_an_engine_says_how_to_build_one(bundle: Bundle) -> None:
    with pytest.raises(PassportError, match=r"jetlift build .* --target orin-nano-8gb"):
        open_session(bundle, "mlp", "fp32", target="orin-nano-8gb")


def test_every_target_of_the_project_is_known_here() -> None:
    from jetlift.engines.targets import TARGETS
    from jetlift.runtime.session import _GPU

    ours = {name for name, item in TARGETS.items() if item.library.startswith("tensorrt")}
    assert {name for name in ours if not _GPU.fullmatch(name)} == set()
