"""The core: Python, jetlift itself, numpy, cv2, and what the command line needs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.doctor.finding import Finding, Status
from jetlift.doctor.installed import FLAVOURS, Installed, Requirement
from jetlift.runtime.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT_S = 120  # a first import on a slow card reads some hundred megabytes
_OLDEST_PYTHON = (3, 10)
# What opencv-python's wheels expect of the system, tried in Debian 12 and 13 (docs/install.md).
_OPENCV_LIBRARIES = re.compile(r"lib(GL|xcb|glib-2\.0|gthread-2\.0)\.so\.\d+")
_OPENCV_APT = "apt-get install -y libgl1 libglib2.0-0"
_CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
import {module} as module
told = {{"version": module.__version__, "file": module.__file__}}
if hasattr(module, "getBuildInformation"):
    told["build"] = module.getBuildInformation()
print(json.dumps(told))
"""


@dataclass(frozen=True)
class Tried:
    """What came of importing a module in a child process.

    Attributes:
        told: `version`, `file` and, of cv2, `build`; empty where the import failed.
        error: The last line of the failure, or empty.
    """

    told: Mapping[str, str]
    error: str


def examine_core(installed: Installed) -> list[Finding]:
    """Look at everything without which no command works."""
    needs = {item.distribution: item for item in installed.requirements() if item.extra is None}
    return [
        _python(),
        _jetlift(installed),
        _numpy(installed, needs.get("numpy")),
        _cv2(installed, needs.get("opencv-python")),
        _command_line(installed, [needs[name] for name in ("typer", "rich") if name in needs]),
    ]


def try_import(module: str, installed: Installed) -> Tried:
    """Import a module in a child process, where it may crash (rule D1)."""
    command = [sys.executable, "-c", _CHILD.format(module=module), json.dumps(list(installed.path))]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Tried({}, f"importing it took more than {_TIMEOUT_S} s")
    if done.returncode == 0:
        return Tried(json.loads(done.stdout.splitlines()[-1]), "")
    if done.returncode < 0:
        return Tried({}, f"importing it ended the process with signal {-done.returncode}")
    return Tried({}, next(reversed(done.stderr.strip().splitlines()), "it failed without a word"))


def cv2_error(error: ImportError) -> MachineError | None:
    """What to say where cv2 did not import; None where the error is not about cv2."""
    built_for_another_numpy = "numpy.core.multiarray failed to import" in str(error)
    if error.name != "cv2" and not built_for_another_numpy:
        return None
    if isinstance(error, ModuleNotFoundError):
        line = pip("install opencv-python")
        return MachineError("OpenCV (cv2) is not installed", do=f"Install it with: {line}")
    mend, _ = _mend_cv2(str(error), Installed.here().flavours("opencv-python"))
    return MachineError(f"OpenCV (cv2) does not import: {error}", do=f"Mend it with: {mend}")


def pip(arguments: str) -> str:
    """The line that runs pip for this very interpreter."""
    return f"{shlex.quote(sys.executable)} -m pip {arguments}"


def as_root(command: str) -> str:
    """The line that runs a command as root, for this user."""
    return command if os.geteuid() == 0 else f"sudo {command}"


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    status: Status = "ok" if sys.version_info >= _OLDEST_PYTHON else "problem"
    return Finding("core", "python", status, f"Python {version}", versions={"python": version})


def _jetlift(installed: Installed) -> Finding:
    version = installed.version("jetlift")
    if version is None:
        return Finding(
            "core",
            "jetlift",
            "problem",
            "runs from a folder where it is not installed, so what it needs is not known",
            pip("install ."),
        )
    return Finding("core", "jetlift", "ok", f"jetlift {version}", versions={"jetlift": version})


def _numpy(installed: Installed, need: Requirement | None) -> Finding:
    if not installed.can_find("numpy"):
        return Finding("core", "numpy", "missing", "not installed", pip("install numpy"))
    tried = try_import("numpy", installed)
    if tried.error:
        again = pip("install --force-reinstall numpy")
        return Finding("core", "numpy", "problem", f"does not import: {tried.error}", again)
    return _judged("numpy", "numpy", tried.told["version"], need, tried.told["file"])


def _cv2(installed: Installed, need: Requirement | None) -> Finding:
    flavours = installed.flavours("opencv-python")
    if len(flavours) > 1:
        return _several_cv2(installed, flavours)
    if not installed.can_find("cv2"):
        return Finding("core", "cv2", "missing", "not installed", pip("install opencv-python"))
    tried = try_import("cv2", installed)
    if tried.error:
        mend, remark = _mend_cv2(tried.error, flavours)
        what = f"does not import: {tried.error}{remark}"
        return Finding("core", "cv2", "problem", what, mend, flavours)
    name = next(iter(flavours), "the system's own")
    streams = re.search(r"GStreamer:\s+YES", tried.told.get("build", ""))
    where = f"{name}, with{'' if streams else 'out'} GStreamer, {tried.told['file']}"
    return _judged("cv2", name, tried.told["version"], need, where)


def _several_cv2(installed: Installed, flavours: dict[str, str]) -> Finding:
    names = " ".join(flavours)
    keep = "opencv-python-headless" if "opencv-python-headless" in flavours else "opencv-python"
    winner = _owner_of_cv2(installed, flavours)
    listed = ", ".join(f"{name} {version}" for name, version in flavours.items())
    return Finding(
        "core",
        "cv2",
        "problem",
        f"{len(flavours)} distributions bring it ({listed}) and overwrite each other's files; "
        + (
            f"the library on disk is {winner}'s" if winner else "whose library it is cannot be told"
        ),
        f"{pip(f'uninstall -y {names}')} && {pip(f'install {keep}=={flavours[keep]}')}",
        flavours,
    )


def _owner_of_cv2(installed: Installed, flavours: dict[str, str]) -> str | None:
    """The distribution whose list of files has the library's size, where just one has."""
    owners = []
    for name in flavours:
        distribution = installed.distribution(name)
        for file in (distribution.files if distribution else None) or ():
            if file.parent.name == "cv2" and re.fullmatch(r"cv2.*\.so", file.name):
                path = file.locate()
                if os.path.exists(path) and os.stat(path).st_size == file.size:  # noqa: PTH110, PTH116 - a SimplePath has neither
                    owners.append(name)
    return owners[0] if len(owners) == 1 else None


def _mend_cv2(error: str, flavours: Mapping[str, str]) -> tuple[str, str]:
    """The line that mends an import of cv2, and what else there is to say of it."""
    headless = pip("install opencv-python-headless")
    if names := " ".join(flavours):
        headless = f"{pip(f'uninstall -y {names}')} && {headless}"
    if _OPENCV_LIBRARIES.search(error):
        remark = f". Where the system may not be changed, do without its windows: {headless}"
        return as_root(_OPENCV_APT), remark
    if "numpy" in error or "_ARRAY_API" in error:
        return pip("install 'numpy<2'"), ". It was built for numpy 1"
    return headless, ""


def _command_line(installed: Installed, needs: list[Requirement]) -> Finding:
    versions = {need.distribution: installed.version(need.distribution) for need in needs}
    absent = [name for name, version in versions.items() if version is None]
    if absent:
        line = pip(f"install {' '.join(absent)}")
        return Finding(
            "core", "command line", "missing", f"not installed: {' '.join(absent)}", line
        )
    found = {name: version for name, version in versions.items() if version is not None}
    what = ", ".join(f"{name} {version}" for name, version in found.items())
    return Finding("core", "command line", "ok", what, versions=found)


def _judged(
    name: str, distribution: str, version: str, need: Requirement | None, where: str
) -> Finding:
    if need is None or need.accepts(version):
        return Finding("core", name, "ok", f"{version} ({where})", versions={distribution: version})
    target = distribution if distribution in FLAVOURS["opencv-python"] else need.distribution
    return Finding(
        "core",
        name,
        "problem",
        f"{version} ({where}) where jetlift needs {need.specifier}",
        pip(f"install '{target}{need.specifier}'"),
        {distribution: version},
    )
