"""Which packages are installed, and which jetlift asks for, without importing any of them."""

from __future__ import annotations

import operator
import re
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import Distribution
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Several distributions that bring one import package. Two of them at once overwrite each other.
FLAVOURS = {
    "opencv-python": (
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
}
_IMPORT_NAMES = {
    "opencv-python": "cv2",
    "scikit-image": "skimage",
    "mlcommons-loadgen": "mlperf_loadgen",
}
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*)(?:;(.*))?")
_COMPARE = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Requirement:
    """One line of jetlift's own metadata.

    Attributes:
        distribution: Name on the package index.
        specifier: Versions that will do, as in `>=1.24,<3`; empty where any will.
        extra: The extra that asks for it, or None for the core.
    """

    distribution: str
    specifier: str
    extra: str | None

    @property
    def import_name(self) -> str:
        """The name under which Python finds it."""
        fallback = self.distribution.lower().replace("-", "_")
        return _IMPORT_NAMES.get(self.distribution, fallback)

    def accepts(self, version: str) -> bool:
        """Whether a version will do. Only the release numbers count, as in 2.13.0 of 2.13.0+cpu."""
        for clause in filter(None, self.specifier.replace(" ", "").split(",")):
            match = re.fullmatch(r"(>=|<=|==|!=|<|>)([\d.]+)", clause)
            if match and not _COMPARE[match[1]](_release(version), _release(match[2])):
                return False
        return True


@dataclass(frozen=True)
class Installed:
    """The packages on a search path, which is this interpreter's own by default."""

    path: Sequence[str]

    @classmethod
    def here(cls) -> Installed:
        """The packages that this interpreter sees."""
        return cls(tuple(sys.path))

    def distribution(self, name: str) -> Distribution | None:
        """The distribution of that name; the first on the path wins, as it does on import."""
        return next(iter(Distribution.discover(name=name, path=list(self.path))), None)

    def version(self, name: str) -> str | None:
        """The version of a distribution, or None where it is not installed."""
        distribution = self.distribution(name)
        return None if distribution is None else distribution.version

    def flavours(self, name: str) -> dict[str, str]:
        """Versions of a distribution and of those that stand in for it, as far as installed."""
        found = {flavour: self.version(flavour) for flavour in FLAVOURS.get(name, (name,))}
        return {flavour: version for flavour, version in found.items() if version is not None}

    def can_find(self, import_name: str) -> bool:
        """Whether an import would find something, be it installed by pip or not."""
        return PathFinder.find_spec(import_name, list(self.path)) is not None

    def requirements(self, of: str = "jetlift") -> list[Requirement]:
        """What a distribution's metadata asks for; empty where it is not installed."""
        distribution = self.distribution(of)
        lines = distribution.requires if distribution else None
        return [
            requirement for line in lines or () if (requirement := parse(line)).distribution != of
        ]


def parse(line: str) -> Requirement:
    """Read one `Requires-Dist` line, as far as jetlift writes them: name, versions, extra.

    https://packaging.python.org/en/latest/specifications/dependency-specifiers/
    """
    match = _REQUIREMENT.fullmatch(line.strip())
    if match is None:
        raise ValueError(f"not a requirement: {line!r}")
    extra = re.search(r"extra\s*==\s*[\"']([^\"']+)[\"']", match[3] or "")
    return Requirement(match[1], match[2].strip(" ()"), extra[1] if extra else None)


def _release(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(number) for number in match[0].split(".")] if match else [0]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
