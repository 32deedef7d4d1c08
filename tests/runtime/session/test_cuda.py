"""pycuda beneath the session: absent, without a driver, and with a driver that is a stub.

The stub (tests/data/stub_libcuda.c) is compiled here and stands on the loader's path as
libcuda.so.1, so that the real pycuda runs without a GPU. Where pycuda is not installed these tests
skip; `pytest -m long` compiles it from its source where a CUDA toolkit is found.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers.house import ROOT

from jetlift.runtime.errors import EngineLibraryError, MissingPackageError
from jetlift.runtime.session import cuda, cuda_graph

if TYPE_CHECKING:
    from collections.abc import Callable

    Child = Callable[..., dict[str, Any]]

PROGRAM = ROOT / "tests/helpers/real_pycuda.py"
STUB = ROOT / "tests/data/stub_libcuda.c"
NOT_SUPPORTED = 801  # CUDA_ERROR_NOT_SUPPORTED


def test_without_pycuda_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(MissingPackageError, match=r"jetlift\[cuda\]"):
        cuda.cuda_device()


def test_a_pycuda_that_cannot_load_the_driver_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pycuda 2026.1 raises where libcuda is missing, for machines that lack pycuda too."""
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda/__init__.py").touch()
    (tmp_path / "pycuda/driver.py").write_text(
        "raise ImportError('libcuda.so.1: cannot open shared object file: "
        "No such file or directory')"
    )
    for name in [name for name in sys.modules if name.partition(".")[0] == "pycuda"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineLibraryError, match=r"libcuda\.so\.1: cannot open.*docker run"):
        cuda.pycuda_driver()
    for name in ("pycuda", "pycuda.driver"):
        sys.modules.pop(name, None)


def test_graphs_without_a_driver_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "LIBRARY", "libcuda-that-is-nowhere.so.1")
    cuda_graph.driver.cache_clear()
    with pytest.raises(EngineLibraryError, match="jetlift doctor"):
        cuda_graph.driver()
    cuda_graph.driver.cache_clear()


@pytest.fixture(scope="session")
def installed() -> Path:
    """Where the real pycuda lies."""
    spec = importlib.util.find_spec("pycuda")
    if spec is None or spec.origin is None:
        pytest.skip("pycuda is not installed; pytest -m long compiles it")
    return Path(spec.origin).parents[1]


def toolkit_root() -> Path | None:
    """Where CUDA's headers lie."""
    nvcc = shutil.which("nvcc")
    places = [os.environ.get("CUDA_HOME"), nvcc and Path(nvcc).resolve().parents[1]]
    for place in [*places, "/usr/local/cuda"]:
        if place and (Path(place) / "include/cuda.h").is_file():
            return Path(place)
    return None


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pycuda compiled from its source, against the toolkit here and a stub to link with."""
    toolkit, gcc = toolkit_root(), shutil.which("gcc")
    if toolkit is None or gcc is None:
        pytest.skip("there is no CUDA toolkit and gcc to compile pycuda with")
    folder = tmp_path_factory.mktemp("pycuda")
    soname = "-Wl,-soname,libcuda.so.1"  # what the extension then asks the loader for
    subprocess.run([gcc, "-shared", "-fPIC", soname, "-o", folder / "libcuda.so", STUB], check=True)
    environment = {**os.environ, "LIBRARY_PATH": str(folder), "LDFLAGS": f"-L{folder}"}
    download = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "pycuda"]
    fetched = subprocess.run(
        [*download, "pycuda", "-d", folder], capture_output=True, text=True, check=False
    )
    if fetched.returncode != 0:
        pytest.skip(f"pycuda's source is not to be had: {fetched.stderr[-300:]}")
    (archive,) = folder.glob("pycuda-*.tar.gz")
    shutil.unpack_archive(archive, folder, filter="data")
    (source,) = (path for path in folder.glob("pycuda-*") if path.is_dir())
    (source / "siteconf.py").write_text(
        f"CUDA_ROOT = {str(toolkit)!r}\nCUDA_INC_DIR = [{str(toolkit / 'include')!r}]\n"
        f"CUDADRV_LIB_DIR = [{str(folder)!r}]\nCUDADRV_LIBNAME = ['cuda']\n"
        "CUDA_ENABLE_CURAND = False\nUSE_SHIPPED_BOOST = True\n"
    )
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", folder / "site"]
    done = subprocess.run(
        [*command, source], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "site"


@pytest.fixture(params=["installed", pytest.param("compiled", marks=pytest.mark.long)])
def child(request: pytest.FixtureRequest, tmp_path: Path) -> Child:
    """Runs a function of real_pycuda.py with the real pycuda, and with the stub driver if asked."""
    site: Path = request.getfixturevalue(request.param)
    folders = [str(ROOT / "src"), str(site)]

    def run(function: str, *, driver: bool = True, fails: str = "") -> dict[str, Any]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
        if driver:
            build_stub(site, tmp_path)
            environment |= {"LD_LIBRARY_PATH": str(tmp_path), "STUB_CUDA_FAILS": fails}
        done = subprocess.run(
            [sys.executable, "-W", "error::UserWarning", PROGRAM, function],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert fails or done.stderr == ""  # pycuda tells there what it cannot clean up
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    return run


def build_stub(site: Path, folder: Path) -> None:
    """Compile the stub driver, with every other function that pycuda links."""
    if (folder / "libcuda.so.1").exists():
        return
    gcc, nm = shutil.which("gcc"), shutil.which("nm")
    if gcc is None or nm is None:
        pytest.skip("there is no gcc and nm to make a stub driver with")
    (extension,) = (site / "pycuda").glob("_driver*.so")
    listed = subprocess.run([nm, "-D", extension], capture_output=True, text=True, check=True)
    wanted = {line.split()[-1] for line in listed.stdout.splitlines() if " U cu" in line}
    source = STUB.read_text()
    rest = [name for name in sorted(wanted) if f"{name}(" not in source]
    source += "".join(f"int {name}(void) {{ return {NOT_SUPPORTED}; }}\n" for name in rest)
    (folder / "stub.c").write_text(source)
    subprocess.run(
        [gcc, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1",
         "-o", folder / "libcuda.so.1", folder / "stub.c"],
        check=True,
    )  # fmt: skip


def test_without_a_driver_the_fix_is_told(child: Child) -> None:
    if shutil.which("nvidia-smi") is not None:
        pytest.skip("this machine has a driver")
    told = child("opens", driver=False)
    assert told["kind"] == "EngineLibraryError"
    assert "libcuda.so.1: cannot open shared object file" in told["text"]
    assert "Install the driver" in told["text"]


@pytest.mark.parametrize(
    ("fails", "told"),
    [
        ("cuInit=100", "could not start CUDA: cuInit failed: no CUDA-capable device is detected"),
        ("cuDeviceGet=101", "could not start CUDA: cuDeviceGet failed"),
        ("cuDevicePrimaryCtxRetain=2", "GPU's memory is full"),
    ],
)
def test_a_driver_that_fails_to_start_is_told(child: Child, fails: str, told: str) -> None:
    found = child("opens", fails=fails)
    assert found["kind"] == "EngineLibraryError"
    assert told in found["text"]


@pytest.mark.parametrize(
    ("fails", "told"),
    [
        ("cuMemAlloc_v2=2", "memory is full: could not take"),
        ("cuMemHostAlloc=2", "memory is full: could not pin"),
        ("cuStreamCreate=999", "could not make a stream"),
        ("cuEventCreate=999", "could not make an event"),
        ("cuMemcpyHtoDAsync_v2=700", "could not copy to the GPU"),
        ("cuMemcpyDtoHAsync_v2=700", "could not copy from the GPU"),
        ("cuEventRecord=700", "could not record an event"),
        ("cuEventSynchronize=700", "could not finish a run"),
        ("cuCtxPushCurrent_v2=201", "could not make the GPU's context current"),
    ],
)
def test_what_the_driver_refuses_is_told(child: Child, fails: str, told: str) -> None:
    found = child("computes", fails=fails)
    assert found["kind"] in ("EngineLibraryError", "PassportError")
    assert told in found["text"] or "out of memory" in found["text"]


def test_the_session_computes_with_the_real_pycuda_and_gives_everything_back(child: Child) -> None:
    assert child("computes") == {"live": 0, "depth": 0, "retained": 1, "launches": 0}


def test_the_gpu_s_clock_is_read_with_the_real_pycuda(child: Child) -> None:
    assert child("times") == {
        "live": 0, "depth": 0, "retained": 1, "launches": 0, "ms": 0.25, "gpu_bytes": 0
    }  # fmt: skip


def test_sessions_in_threads_share_one_context_and_leave_nothing(child: Child) -> None:
    assert child("threads") == {"live": 0, "depth": 0, "retained": 1, "launches": 0}


def test_a_graph_is_captured_launched_and_given_back(child: Child) -> None:
    assert child("captures") == {"live": 0, "depth": 0, "retained": 1, "launches": 2}
