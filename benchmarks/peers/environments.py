"""Makes the Pythons of the peers whose packages collide with jetlift's, and lists them.

    python -m jetlift.benchmarks.peers.environments FOLDER [PYTHON]

FOLDER/pythons.txt is for the --pythons of jetlift.benchmarks.peers_bench. Versions are those that
docs/peers.md was measured with. An environment that does not install is left out of the list, and
its rows say so. torch from PyTorch's CPU index saves gigabytes.

Exit code 1 where an environment could not be made.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.runtime import atomic

if TYPE_CHECKING:
    from collections.abc import Sequence

_TORCH, _ORT = "torch==2.13.0", "onnxruntime==1.32.0"


@dataclass(frozen=True)
class Environment:
    """One Python.

    Attributes:
        contenders: Names that cases know it by.
        packages: What is installed in it.
        unwanted: What they bring along that breaks them.
    """

    contenders: tuple[str, ...]
    packages: tuple[str, ...]
    unwanted: tuple[str, ...] = ()


# A torchvision that was built for another torch takes transformers' import down with it.
_NO_VISION = ("torchvision",)
ENVIRONMENTS = {
    "torch": Environment(
        ("torch",),
        (_TORCH, "transformers==5.23.0", "sentence-transformers==6.2.0",
         "openai-whisper==20250625"),
        _NO_VISION,
    ),
    "ct2": Environment(("faster-whisper",), ("faster-whisper==1.2.1", "ctranslate2==4.8.5")),
    "optimum": Environment(
        ("optimum",),
        (_TORCH, "optimum-onnx[onnxruntime]==0.1.0", _ORT, "sentence-transformers==5.7.0"),
        _NO_VISION,
    ),
    "intel": Environment(
        ("optimum-intel",),
        (_TORCH, "optimum-intel[openvino]==2.2.0", "sentence-transformers==6.2.0"),
        _NO_VISION,
    ),
    "nncf": Environment(("nncf",), ("nncf==3.4.0", "openvino==2026.4.1", "onnx==1.23.2")),
    "ailia": Environment(("ailia",), ("ailia==1.6.1.0", "numpy")),
    "vision": Environment(
        ("ultralytics", "open-clip", "anomalib"),
        ("torch==2.14.1", "torchvision==0.29.1", "ultralytics==8.4.190", _ORT,
         "open_clip_torch==3.3.0", "anomalib==2.7.0"),
    ),
}  # fmt: skip


def make(folder: Path, python: str, environments: dict[str, Environment]) -> list[str]:
    """Make environments and list those that were made.

    Args:
        folder: Where they go; it may exist.
        python: The interpreter to make them with.
        environments: What to make, by name.

    Returns:
        Names of those that could not be made.

    Raises:
        StorageError: The folder cannot be written.
    """
    atomic.make_folder(folder)
    lines, failed = [], []
    for name, environment in environments.items():
        own = folder / name / "bin" / "python"
        pip = [str(own), "-m", "pip"]
        commands = [[python, "-m", "venv", str(folder / name)]]
        commands += [[*pip, "install", "-q", *environment.packages]]
        commands += [[*pip, "uninstall", "-q", "-y", item] for item in environment.unwanted]
        if all(_done(command) for command in commands):
            lines += [f"{contender}={own}" for contender in environment.contenders]
        else:
            failed.append(name)
    atomic.write_bytes(folder / "pythons.txt", "".join(f"{line}\n" for line in lines).encode())
    return failed


def _done(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(list(command), check=False).returncode == 0
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return False


def main(arguments: Sequence[str]) -> int:
    """Do what the command line asks for."""
    if not arguments:
        sys.stderr.write("Name a folder for the environments\n")
        return 2
    python = arguments[1] if len(arguments) > 1 else sys.executable
    failed = make(Path(arguments[0]).resolve(), python, ENVIRONMENTS)
    for name in failed:
        sys.stderr.write(f"{name}: not made; its rows will say so\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
