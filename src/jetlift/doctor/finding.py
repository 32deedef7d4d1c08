"""One thing the doctor looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Status = Literal["ok", "missing", "problem"]
Group = Literal["core", "extras", "weights", "machine", "selftest"]


@dataclass(frozen=True)
class Finding:
    """One thing the doctor looked at.

    Attributes:
        group: `core` is what every command needs; `extras` are jetlift's optional dependencies;
            `weights` are packages that ship weights; `machine` is everything below Python;
            `selftest` is what came of building and running a graph.
        name: What was looked at.
        status: `missing` is a choice that was not made; `problem` is something that is wrong.
        what: What was found, for people.
        mend: The line to type, or empty where nothing is to be mended or no line can do it.
        versions: Version per package, for programs.
    """

    group: Group
    name: str
    status: Status
    what: str
    mend: str = ""
    versions: dict[str, str] = field(default_factory=dict)
