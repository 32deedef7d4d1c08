"""The machine as its driver, its packages and its system tell it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jetlift.runtime import host, jsonform
from jetlift.runtime.host import GpuState, Host, cuda_devices, here

BOARDS = Path(__file__).parent / "boards"
# A driver as the one of an AGX Orin would answer, and whatever goes wrong with it.
STUB = r"""
#include <string.h>
static int capability[][3] = {{8, 7, 16}, {7, 5, 40}};
int cuInit(unsigned int flags) { return INIT; }
int cuDeviceGetCount(int *count) { *count = 2; return COUNT; }
int cuDriverGetVersion(int *version) { *version = 12060; return VERSION; }
int cuDeviceGet(int *device, int index) { *device = 10 + index; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, device == 10 ? "Orin" : "Tesla T4", length);
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int *told = capability[device - 10];
    if (attribute == 75) *value = told[0];
    else if (attribute == 76) *value = told[1];
    else if (attribute == 16) *value = told[2];
    else return 1;
    return device == 10 ? 0 : SECOND;
}
"""


def stub(folder: Path, **answers: int) -> str:
    """Compile a driver that gives these answers; 0 is success."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc to compile a stand-in for the driver with")
    (folder / "stub.c").write_text(STUB)
    library = folder / "libcuda.so.1"
    asked = {"INIT": 0, "COUNT": 0, "VERSION": 0, "SECOND": 0, **answers}
    defines = [f"-D{name}={value}" for name, value in asked.items()]
    source = str(folder / "stub.c")
    subprocess.run([compiler, "-shared", "-fPIC", *defines, "-o", str(library), source], check=True)
    return str(library)


def test_every_device_of_the_driver_is_told(tmp_path: Path) -> None:
    assert cuda_devices(stub(tmp_path)) == (
        GpuState("Orin", "8.7", 16, "12.6"),
        GpuState("Tesla T4", "7.5", 40, "12.6"),
    )


@pytest.mark.parametrize("fault", ["INIT", "COUNT", "VERSION"])
def test_a_driver_that_fails_tells_of_no_device(tmp_path: Path, fault: str) -> None:
    assert cuda_devices(stub(tmp_path, **{fault: 100})) == ()


def test_a_device_that_does_not_answer_is_left_out(tmp_path: Path) -> None:
    assert [item.name for item in cuda_devices(stub(tmp_path, SECOND=999))] == ["Orin"]


def test_without_a_driver_there_is_no_device(tmp_path: Path) -> None:
    assert cuda_devices(str(tmp_path / "libcuda.so.1")) == ()
    (tmp_path / "libcuda.so.1").write_bytes(b"no library")
    assert cuda_devices(str(tmp_path / "libcuda.so.1")) == ()


def test_the_first_device_is_the_one_that_counts(tmp_path: Path) -> None:
    stub(tmp_path)
    code = (
        "from jetlift.runtime.host import here; found = here();"
        "print(found.gpu.name, found.compute_capabilities)"
    )
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout == "Orin ('8.7', '7.5')\n"


def test_nobody_looks_for_a_gpu_where_none_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "cuda_devices", lambda: pytest.fail("the driver was asked"))
    found = here(gpu=False)
    assert (found.compute_capabilities, found.gpu) == (None, None)


def test_a_board_is_part_of_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = {"tensorrt": "10.13.3.9", "tensorrt_lean": "10.13.3.9"}
    monkeypatch.setattr(host, "_version", packages.get)
    found = here(gpu=False, root=BOARDS / "thor")
    assert found.board is not None
    assert found.board.l4t == "38.4.0"
    assert found.cpu_name == "unknown"
    assert found.libraries == packages
    assert found.cuda_of("tensorrt") == "13.0"  # the system's toolkit


@pytest.mark.parametrize(
    ("packages", "libraries", "cuda"),
    [
        ({"tensorrt_rtx": "1.7.1.116", "tensorrt_rtx_cu13_libs": "1.7.1.116"},
         {"tensorrt_rtx": "1.7.1.116"}, {"tensorrt_rtx": "13"}),
        ({"tensorrt_cu12": "10.16.1.11", "tensorrt_cu12_libs": "10.16.1.11"},
         {"tensorrt": "10.16.1.11"}, {"tensorrt": "12"}),
        ({"tensorrt": "10.16.1.11", "tensorrt_cu12_libs": "1", "tensorrt_cu13_libs": "1"},
         {"tensorrt": "10.16.1.11"}, {}),
        ({"openvino": "2026.4.1"}, {"openvino": "2026.4.1"}, {}),
        ({}, {}, {}),
    ],
)  # fmt: skip
def test_packages_tell_the_libraries_and_their_cuda(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    packages: dict[str, str],
    libraries: dict[str, str],
    cuda: dict[str, str],
) -> None:
    monkeypatch.setattr(host, "_version", packages.get)
    found = here(gpu=False, root=tmp_path)
    assert (found.libraries, found.cuda_versions) == (libraries, cuda)


def test_versions_are_those_of_the_installed_packages() -> None:
    assert host._version("numpy") == importlib.metadata.version("numpy")
    assert host._version("a-package-that-is-nowhere") is None


@pytest.mark.parametrize("content", ["{", '{"cuda": {}}', '{"nvcc": {"version": "12.6"}}', ""])
def test_a_toolkit_that_does_not_tell_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "version.json").write_text(content)
    assert host._toolkit(tmp_path / "version.json") is None


def test_a_host_goes_through_json_and_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host, "cuda_devices", lambda: (GpuState("Orin", "8.7", 16, "12.6"),))
    found = here(root=BOARDS / "agx-orin")
    assert found.board is not None
    assert found.gpu is not None
    assert jsonform.loads(Host, jsonform.dumps(found)) == found
    plain = here(gpu=False, root=tmp_path)
    assert jsonform.loads(Host, jsonform.dumps(plain)) == plain
